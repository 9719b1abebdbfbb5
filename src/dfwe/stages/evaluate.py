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
from dfwe.execute import Step
from dfwe.lab import Lab
from dfwe.model.decoding import Decoding
from dfwe.model.networks import load
from dfwe.model.pretrained import Model
from dfwe.proposals.simplex import grouped
from dfwe.recipe import Recipe
from dfwe.stages.bring import ROLES
from dfwe.stages.interpolate import Interpolate, weights
from dfwe.store import Store
from dfwe.tasks.task import Task

if TYPE_CHECKING:
    from dfwe.model.batches import Batch
    from dfwe.model.encode import Encoded
    from dfwe.model.scoring import Scores

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
    model: Model
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

    def run(self, lab: Lab) -> None:
        """Score each model once and commit scores and predictions."""
        began = time.monotonic()
        scores = self._test(lab)
        delta = scores["dfwe"].score - scores["baseline"].score
        with lab.log(self.recipe, self.label, self.group) as run_log:
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
            name: {"score": value.score, "metrics": value.metrics, "loglik": value.loglik}
            for name, value in scores.items()
        }
        lab.store.commit(
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

    def _test(self, lab: Lab) -> dict[str, "Scores"]:
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.model.scoring import predictions, summarise
        from dfwe.model.shards import Shards
        from dfwe.weights.layout import flatten
        from dfwe.weights.space import WeightSpace

        experts = self.mixture.experts
        network, test, batches = _ready(self, lab, lab.store.folder(self.mixture.recipe))
        flatten(network)
        # Each address is a row once: the first checkpoint brought is the baseline too.
        steps = {step.recipe.address: step for step in (self.baseline, *experts, self.mixture)}
        folders = [lab.store.weights(step.recipe) for step in steps.values()]
        space = WeightSpace.from_pretrained(folders, cache=lab.store.cache("flat"))
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
        noted = lab.store.scores(self.mixture.recipe).get("one_standard_error")
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
            Shards(predict, batches, lab.workers) as shards,
        ):
            for key, alpha in distinct.items():
                found[key] = summarise(shards(alpha), test, self.task)
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
    def model(self) -> Model: ...
    @property
    def decoding(self) -> Decoding: ...


def test_model(step: Tested, lab: Lab, folder: Path) -> "Scores":
    """Scores of the model in `folder` on the step's test split."""
    from dfwe.callbacks.progress import scoring_bar
    from dfwe.model.scoring import predictions, summarise
    from dfwe.model.shards import Shards

    network, test, batches = _ready(step, lab, folder)

    def predict(part: "Sequence[Batch]") -> Any:
        return predictions(network, part, test, step.task, step.decoding)

    with (
        scoring_bar(f"test {step.label}", 1) as advance,
        Shards(predict, batches, lab.workers) as shards,
    ):
        found = summarise(shards(), test, step.task)
        advance()
    return found


def _ready(step: Tested, lab: Lab, folder: Path) -> tuple[Any, "Encoded", "list[Batch]"]:
    """The network in `folder` and the test split, in batches, on the device."""
    from dfwe.model.batches import evaluation_batches, scoring_tokens

    network, tokenizer = load(folder)
    device = lab.device
    test = step.model.encode(step.task, step.corpus, "test", tokenizer, lab.tokens)
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
