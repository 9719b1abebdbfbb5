"""Stage `evaluate`: the test split, read here for the first time (Table 2)."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example, about_tokens
from dfwe.models.family import ModelFamily
from dfwe.pipeline.record import Record, SplitScores
from dfwe.pipeline.step import Run, Settings, Size, Step
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Decoding
from dfwe.scoring.own_score import OwnScore, OwnScorer, OwnScores
from dfwe.search.evaluation import Alpha, Answers
from dfwe.search.simplex import grouped
from dfwe.stages.interpolate import Choice, Interpolate, SearchRecord
from dfwe.tasks.task import Task
from dfwe.weights.loading import load
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.scoring.scorer import Scorer, Scores
    from dfwe.weights.space import WeightSpace

ANSWERS = "answers.jsonl"  # a line per model, in the order of `keys`

# What a tested model is: a role, or an expert by its place in the mixture.
Role = Literal["baseline", "mixture", "uniform", "one_standard_error", "likeliest", "model"]
Key = Role | int


class TestRecord(Record):
    """Test scores of one or several models.

    Args:
        roles: role -> scores.
        experts: of each member of the mixture, in its order.
    """

    __test__ = False  # no test class of pytest's

    roles: dict[Role, SplitScores]
    experts: tuple[SplitScores, ...] = ()

    @property
    def keys(self) -> tuple[Key, ...]:
        """The tested models, in the order of the answers file."""
        return (*self.roles, *range(len(self.experts)))

    def scores(self, key: Key) -> SplitScores | None:
        """A model's scores; None where it was not tested here."""
        if isinstance(key, int):
            return self.experts[key]
        return self.roles.get(key)


class Evaluation(Step):
    """What the steps of this stage share: they read the test split and keep every answer."""

    record: ClassVar[type[Record]] = TestRecord
    has_weights: ClassVar[bool] = False
    timed_as: ClassVar[str | None] = "interpolate"
    task: Task
    corpus: Corpus
    score: OwnScore | None = None

    @property
    def has_answers(self) -> bool:
        """Whether the models' answers are kept; a person's own score has none."""
        return self.score is None

    @property
    def counts_as_cost(self) -> bool:
        return False

    @property
    @abstractmethod
    def examples(self) -> tuple[Example, ...]:
        """The test split."""

    def answers(self, store: Store) -> dict[Key, Answers]:
        """Tested model -> its answers, in the order of the examples; none by a person's own score.

        Raises:
            UserError: the result is missing or damaged.
        """
        if not self.has_answers:
            return {}
        keys = store.record(self.recipe, TestRecord).keys
        lines = store.file(self.recipe, ANSWERS).read_bytes().splitlines(keepends=True)
        return dict(zip(keys, map(Answers.parse, lines), strict=True))


@dataclass(frozen=True, eq=False)
class Evaluate(Evaluation):
    """Test scores of the baseline, every fine-tuned expert, the uniform average, theta(alpha*)."""

    label: str
    group: str
    baseline: Step
    mixture: Interpolate
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding

    kind: ClassVar[str] = "evaluate"
    stage: str = field(default="evaluate", init=False)
    score: OwnScore | None = None

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.baseline, *self.mixture.experts, self.mixture)

    @property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @property
    def size(self) -> Size:
        """The experts, the baseline, the mixture, the average and two other choices, at most."""
        models = len(self.mixture.experts) + 5
        return _size(models, self, self.mixture)

    def settings(self) -> Settings:
        return _settings(self)

    def run(self, run: Run) -> TestRecord:
        """Scores each model once."""
        scores = self._test(run)
        record = test_record(scores)
        _write_answers(run.output / ANSWERS, [scores[key] for key in record.keys])
        _log(run, scores)
        delta = scores["mixture"].score - scores["baseline"].score
        run.log.summary({"test/delta": delta})
        return record

    def _test(self, run: Run) -> "dict[Key, Scores | OwnScores]":
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.weights.layout import flatten
        from dfwe.weights.space import WeightSpace

        # Each address is a row once: the first imported checkpoint is the baseline too.
        steps = {
            step.recipe.name: step for step in (self.baseline, *self.mixture.experts, self.mixture)
        }
        folders = {name: run.weights(step) for name, step in steps.items()}
        network, tokenizer = load(folders[self.mixture.recipe.name])
        place(network, run.context.device)
        flatten(network)
        cache = run.context.store.cache("flat")
        space = WeightSpace.from_results(list(folders.values()), list(folders), cache)
        if self.mixture.search.groups is not None:
            space = space.grouped(self.mixture.search.groups)
        alphas: dict[Key, Alpha] = self._alphas(run.read(self.mixture, SearchRecord), list(steps))
        if len(space.groups) > 1:
            alphas = {
                key: alpha if alpha.ndim > 1 else grouped(alpha[None], len(space.groups))[0]
                for key, alpha in alphas.items()
            }
        scorer = _scorer(self, run, network, tokenizer, space)
        distinct = {alpha.tobytes(): alpha for alpha in alphas.values()}
        with scorer, scoring_bar(f"test {self.label}", len(distinct)) as advance:
            for alpha in distinct.values():  # what stands here twice is scored once
                scorer(alpha)
                advance()
            return {key: scorer(alpha) for key, alpha in alphas.items()}

    def _alphas(self, search: SearchRecord, names: list[str]) -> dict[Key, Alpha]:
        """Tested model -> its alpha over the distinct steps of these names."""
        pure = dict(zip(names, np.eye(len(names)), strict=True))
        rows = np.stack([pure[step.recipe.name] for step in self.mixture.experts])
        alphas: dict[Key, Alpha] = {
            "baseline": pure[self.baseline.recipe.name],
            **dict(enumerate(rows)),
            "mixture": pure[self.mixture.recipe.name],
            "uniform": rows.mean(axis=0),
        }
        choices: dict[Role, Choice | None] = {
            "one_standard_error": search.one_standard_error,
            "likeliest": search.likeliest,
        }
        alphas.update(
            {role: choice.alpha @ rows for role, choice in choices.items() if choice is not None}
        )
        return alphas


@dataclass(frozen=True, eq=False)
class Test(Evaluation):
    """One model's test score and answers."""

    label: str
    group: str
    tested: Step
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding

    kind: ClassVar[str] = "test"
    stage: str = field(default="evaluate", init=False)
    score: OwnScore | None = None
    __test__ = False  # no test class of pytest's

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.tested,)

    @property
    def examples(self) -> tuple[Example, ...]:
        return self.task.examples(self.corpus, "test")

    @property
    def size(self) -> Size:
        return _size(1, self, self.tested)

    def settings(self) -> Settings:
        return _settings(self)

    def run(self, run: Run) -> TestRecord:
        from dfwe.callbacks.progress import scoring_bar

        network, tokenizer = load(run.weights(self.tested))
        place(network, run.context.device)
        scorer = _scorer(self, run, network, tokenizer)
        with scorer, scoring_bar(f"test {self.label}", 1) as advance:
            scores: dict[Key, Scores | OwnScores] = {"model": scorer()}
            advance()
        _write_answers(run.output / ANSWERS, list(scores.values()))
        _log(run, scores)
        return test_record(scores)


@dataclass(frozen=True, eq=False)
class Vote(Evaluation):
    """The fine-tuned experts' most frequent answer; ties go to the better on dev.

    It runs n + 2 models where the others run one: a costly reference, no method to deploy.
    """

    evaluation: Evaluate

    kind: ClassVar[str] = "vote"
    stage: str = field(default="evaluate", init=False)
    label: str = field(default="vote", init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", self.evaluation.group)

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.evaluation, self.evaluation.mixture)

    @property
    def reads_weights(self) -> bool:
        return False

    @property
    def examples(self) -> tuple[Example, ...]:
        return self.evaluation.examples

    def settings(self) -> Settings:
        return {}

    def run(self, run: Run) -> TestRecord:
        step = self.evaluation
        answers = step.answers(run.context.store)
        dev = [scores.score for scores in run.read(step.mixture, SearchRecord).experts]
        ranked = sorted(range(len(dev)), key=lambda expert: -dev[expert])
        rows = zip(*(answers[expert].texts for expert in ranked), strict=True)
        texts = tuple(Counter(row).most_common(1)[0][0] for row in rows)
        metrics = step.task.score(texts, step.examples)
        score = metrics.pop("score")
        voted = Answers(texts, ())
        (run.output / ANSWERS).write_bytes(voted.line())
        run.log.summary({"test/model": score})
        scores = SplitScores(score=score, metrics=dict(metrics), log_likelihood=None)
        return TestRecord(roles={"model": scores})


def _size(models: int, step: "Evaluate | Test", like: Step) -> Size:
    """Of so many passes over the test split, by models as large as those of a step.

    What a person's own score reads is not known.
    """
    parameters = like.size.parameters
    if step.score is not None:
        return Size(parameters=parameters)
    examples, limit = step.examples, step.model.input_limit
    return Size(
        examples=models * len(examples),
        tokens=models * about_tokens(examples, limit),
        parameters=parameters,
    )


def _settings(step: Evaluate | Test) -> Settings:
    """What decides test scores besides the weights."""
    if step.score is not None:
        return step.score.settings("test")
    return step.model.scoring(step.task, step.corpus, "test", step.decoding)


def _scorer(
    step: Evaluate | Test,
    run: Run,
    network: "PreTrainedModel",
    tokenizer: "PreTrainedTokenizerBase",
    space: "WeightSpace | None" = None,
) -> "Scorer | OwnScorer":
    """What scores the network, or the alphas of a space, on the test split."""
    from dfwe.scoring.scorer import Scorer

    if step.score is not None:
        return OwnScorer(step.score, network, tokenizer, space)
    split = step.model.tokenize(step.task, step.corpus, "test", tokenizer, run.context.tokens)
    workers = run.context.workers
    return Scorer(network, split, step.task, step.decoding, space=space, workers=workers)


def test_record(scores: "Mapping[Key, Scores | OwnScores]") -> TestRecord:
    """The record of models that were tested together."""
    stored: dict[Key, SplitScores] = {
        key: SplitScores(
            score=value.score,
            metrics=dict(value.metrics),
            log_likelihood=value.log_likelihood,
        )
        for key, value in scores.items()
    }
    experts = tuple(value for key, value in stored.items() if isinstance(key, int))
    roles: dict[Role, SplitScores] = {
        key: value for key, value in stored.items() if not isinstance(key, int)
    }
    return TestRecord(roles=roles, experts=experts)


def _write_answers(path: Path, scores: "Sequence[Scores | OwnScores]") -> None:
    """A line for each model; no file where there are no answers."""
    lines = [value.answers.line() for value in scores if not isinstance(value, OwnScores)]
    if lines:
        path.write_bytes(b"".join(lines))


def _log(run: Run, scores: "Mapping[Key, Scores | OwnScores]") -> None:
    metrics = list(next(iter(scores.values())).metrics)
    rows: list[list[object]] = [
        [str(key), value.score, *value.metrics.values()] for key, value in scores.items()
    ]
    run.log.table("test/scores", ["model", "score", *metrics], rows)
    run.log.summary({f"test/{key}": value.score for key, value in scores.items()})
