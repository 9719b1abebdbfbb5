"""Stage `evaluate`: the test split, read here for the first time (Table 2)."""

import csv
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Decoding
from dfwe.search.simplex import grouped
from dfwe.stages.import_checkpoint import ROLES
from dfwe.stages.interpolate import Interpolate, weights
from dfwe.tasks.task import Task
from dfwe.weights.loading import load

if TYPE_CHECKING:
    from dfwe.data.batches import Batch
    from dfwe.data.tokenization import TokenizedSplit
    from dfwe.scoring.scorer import Scores


from collections import Counter

VERSION = 1
ANSWERS = "answers.csv"  # instance id, then each model's answer


@dataclass(frozen=True)
class Evaluate:
    """Test scores of the baseline, every fine-tuned expert, the uniform average, theta(alpha*)."""

    label: str
    group: str
    baseline: Step
    mixture: Interpolate
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding

    stage = "evaluate"

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.baseline, *self.mixture.experts, self.mixture)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @cached_property
    def recipe(self) -> Recipe:
        settings = self.model.scoring(self.task, self.corpus, "test", self.decoding)
        parents = tuple(step.recipe for step in self.parents)
        return Recipe(self.stage, VERSION, settings, parents)

    def run(self, context: Context) -> None:
        """Score each model once and commit scores and predictions."""
        began = time.monotonic()
        scores = self._test(context)
        delta = scores["dfwe"].score - scores["baseline"].score
        with context.log(self.recipe, self.label, self.group) as run_log:
            rows = [[name, value.score, *value.metrics.values()] for name, value in scores.items()]
            run_log.tables("test/scores", ["model", "score", *scores["dfwe"].metrics], rows)
            run_log.summary({f"test/{name}": value.score for name, value in scores.items()})
            run_log.summary({"test/delta": delta})

        def fill(folder: Path) -> None:
            texts = {name: value.texts for name, value in scores.items()}
            write_answers(folder / ANSWERS, self.examples, texts)
            for name, key in (("predictions", "dfwe"), ("baseline_predictions", "baseline")):
                self._write_predictions(folder / f"{name}.csv", scores[key])

        measured = {
            name: {
                "score": value.score,
                "metrics": value.metrics,
                "log_likelihood": value.log_likelihood,
            }
            for name, value in scores.items()
        }
        context.store.commit(
            self.recipe, fill, {"test": measured, "seconds": time.monotonic() - began}
        )

    def names(self, store: Store) -> dict[str, str]:
        """What each model was called when it was tested -> what it is called now.

        Raises:
            UserError: a checkpoint was tested under the name of another model.
        """
        noted = store.scores(self.recipe)["test"]
        then = [name for name in noted if name not in ROLES]
        if len(then) != len(self.mixture.experts):
            raise UserError(
                f"The test in {store.folder(self.recipe)} took a checkpoint's name for another "
                "model's; delete that folder and run stage=evaluate again."
            )
        now = [step.label for step in self.mixture.experts]
        return {role: role for role in ROLES} | dict(zip(then, now, strict=True))

    def _test(self, context: Context) -> dict[str, "Scores"]:
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.scoring.scorer import predictions, summarise
        from dfwe.scoring.workers import ParallelScorer
        from dfwe.weights.layout import flatten
        from dfwe.weights.space import WeightSpace

        experts = self.mixture.experts
        network, test, batches = _ready(self, context, context.store.folder(self.mixture.recipe))
        flatten(network)
        # Each address is a row once: the first checkpoint brought is the baseline too.
        steps = {step.recipe.address: step for step in (self.baseline, *experts, self.mixture)}
        folders = [context.store.weights(step.recipe) for step in steps.values()]
        space = WeightSpace.from_pretrained(folders, cache=context.store.cache("flat"))
        pure = dict(zip(steps, np.eye(space.n), strict=True))
        rows = np.stack([pure[step.recipe.address] for step in experts])  # (n, distinct steps)
        alphas = {
            "baseline": pure[self.baseline.recipe.address],
            **{step.label: row for step, row in zip(experts, rows, strict=True)},
            "dfwe": pure[self.mixture.recipe.address],
            "uniform": rows.mean(axis=0),
        }
        if self.mixture.search.groups is not None:
            space = space.grouped(self.mixture.search.groups)
            alphas = {
                name: grouped(row[None], len(space.groups))[0] for name, row in alphas.items()
            }
        noted = context.store.scores(self.mixture.recipe).get("one_standard_error")
        if noted is not None:
            alphas["one_standard_error"] = weights(noted["alpha"]) @ rows

        def predict(part: "Sequence[Batch]", alpha: NDArray[np.float64]) -> Any:
            space.write(alpha, network)
            return predictions(network, part, test, self.task, self.decoding)

        # What stands here twice is scored once.
        distinct = {alpha.tobytes(): alpha for alpha in alphas.values()}
        found: dict[bytes, Scores] = {}
        with (
            scoring_bar(f"test {self.label}", len(distinct)) as advance,
            ParallelScorer(predict, batches, context.workers) as parallel,
        ):
            for key, alpha in distinct.items():
                found[key] = summarise(parallel(alpha), test, self.task)
                advance()
        return {name: found[alpha.tobytes()] for name, alpha in alphas.items()}

    def _write_predictions(self, path: Path, scores: "Scores") -> None:
        """FETA's submission format: instance id and prediction, without a header."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            for example, text in zip(self.examples, scores.texts, strict=True):
                writer.writerow([example.id, text])


class Tested(Protocol):
    """What scores models on its task's test split."""

    @property
    def label(self) -> str: ...
    @property
    def task(self) -> Task: ...
    @property
    def corpus(self) -> Corpus: ...
    @property
    def model(self) -> ModelFamily: ...
    @property
    def decoding(self) -> Decoding: ...


def test_model(step: Tested, context: Context, folder: Path) -> "Scores":
    """Scores of the model in `folder` on the step's test split."""
    from dfwe.callbacks.progress import scoring_bar
    from dfwe.scoring.scorer import predictions, summarise
    from dfwe.scoring.workers import ParallelScorer

    network, test, batches = _ready(step, context, folder)

    def predict(part: "Sequence[Batch]") -> Any:
        return predictions(network, part, test, step.task, step.decoding)

    with (
        scoring_bar(f"test {step.label}", 1) as advance,
        ParallelScorer(predict, batches, context.workers) as parallel,
    ):
        found = summarise(parallel(), test, step.task)
        advance()
    return found


def _ready(
    step: Tested, context: Context, folder: Path
) -> tuple[Any, "TokenizedSplit", "list[Batch]"]:
    """The network in `folder` and the test split, in batches, on the device."""
    from dfwe.data.batches import evaluation_batches, scoring_tokens

    network, tokenizer = load(folder)
    device = context.device
    test = step.model.tokenize(step.task, step.corpus, "test", tokenizer, context.tokens)
    batches = [batch.to(device) for batch in evaluation_batches(test, scoring_tokens(device))]
    return network.to(device), test, batches


def write_answers(
    path: Path, examples: Sequence[Example], answers: Mapping[str, Sequence[str]]
) -> None:
    """Each model's answers to the test split, one column a model."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", *answers])
        for example, texts in zip(examples, zip(*answers.values(), strict=True), strict=True):
            writer.writerow([example.id, *texts])


def read_answers(path: Path) -> dict[str, tuple[str, ...]]:
    """Model -> answers, in the order of the examples; empty for a result made without them."""
    if not path.is_file():
        return {}
    with path.open(newline="") as file:
        (_, *models), *rows = csv.reader(file)
    return {model: tuple(row[k] for row in rows) for k, model in enumerate(models, 1)}


VERSION = 1
ROLE = "model"  # the one model's name in scores and answers


@dataclass(frozen=True)
class Test:
    """One model's test score and answers."""

    label: str
    group: str
    made: Step
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding

    stage = "evaluate"
    __test__ = False  # no test class of pytest's

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.made,)

    @cached_property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @cached_property
    def recipe(self) -> Recipe:
        settings = self.model.scoring(self.task, self.corpus, "test", self.decoding)
        return Recipe("test", VERSION, settings, (self.made.recipe,))

    def run(self, context: Context) -> None:
        began = time.monotonic()
        with context.log(self.recipe, self.label, self.group) as run_log:
            scores = test_model(self, context, context.store.weights(self.made.recipe))
            run_log.summary({f"test/{ROLE}": scores.score})
        measured = {
            "score": scores.score,
            "metrics": scores.metrics,
            "log_likelihood": scores.log_likelihood,
        }
        context.store.commit(
            self.recipe,
            lambda folder: write_answers(folder / ANSWERS, self.examples, {ROLE: scores.texts}),
            {"test": {ROLE: measured}, "seconds": time.monotonic() - began},
        )


@dataclass(frozen=True)
class Vote:
    """The fine-tuned experts' most frequent answer; ties go to the better on dev.

    It runs n + 2 models where the others run one: a costly reference, not a contender.
    """

    evaluation: Evaluate

    stage = "evaluate"
    label = "vote"

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.evaluation,)

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe("vote", VERSION, {}, (self.evaluation.recipe,))

    def run(self, context: Context) -> None:
        step = self.evaluation
        folder = context.store.folder(step.recipe)
        answers = read_answers(folder / ANSWERS)
        if not answers:
            raise UserError(
                f"{folder} was made before answers were kept; delete it, and "
                "`stage=evaluate` makes it again."
            )
        dev = {
            e.label: context.store.scores(e.recipe)["dev"]["score"] for e in step.mixture.experts
        }
        ranked = sorted(dev, key=lambda label: -dev[label])
        rows = zip(*(answers[label] for label in ranked), strict=True)
        texts = tuple(Counter(row).most_common(1)[0][0] for row in rows)
        metrics = step.task.score(texts, step.examples)
        measured = {"score": metrics.pop("score"), "metrics": metrics}
        with context.log(self.recipe, self.label, step.group) as run_log:
            run_log.summary({f"test/{ROLE}": measured["score"]})
        context.store.commit(
            self.recipe,
            lambda path: write_answers(path / ANSWERS, step.examples, {ROLE: texts}),
            {"test": {ROLE: measured}},
        )
