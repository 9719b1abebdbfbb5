"""A person's own score of a model in place of a task's: a benchmark, a harness, a service.

    def score(model, tokenizer) -> float: ...    # or a dict with "score"; higher is better

No task and no corpus is read then, and there are no answers to keep.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal, Self, SupportsFloat

from dfwe.errors import ScoreError, UserError, reason
from dfwe.pipeline.deferred import check_part, describe, parts
from dfwe.plain import Plain, is_mapping
from dfwe.search.evaluation import Alpha, Evaluation

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.weights.space import WeightSpace

Split = Literal["dev", "test"]
FORM = 'f(model, tokenizer) -> a number, or a dict with "score"'


@dataclass(frozen=True)
class OwnScore:
    """A function of a model and its tokenizer.

    What it returns besides `score` in a dict are further metrics, and `log_likelihood` breaks ties
    as it does for a task. A function with a keyword `split` is told whether it is to score on
    `dev`, in a search, or on `test`.

    Args:
        function: model, tokenizer -> a number, or a dict with "score"; higher is better.

    Raises:
        UserError: it cannot be called so, or nothing says what decides its result.
    """

    function: Callable[..., object]

    def __post_init__(self) -> None:
        function, keywords = parts(self.function)
        check_part("score", self.function)
        try:
            inspect.signature(function).bind(None, None, **keywords, **self._told("dev"))
        except (TypeError, ValueError) as error:  # ... of a builtin, which has no signature
            raise UserError(
                f"score={self.name} cannot be called as {FORM} ({reason(error)})."
            ) from None
        describe(self.function)

    @property
    def name(self) -> str:
        """What tables call it."""
        function, _ = parts(self.function)
        return str(getattr(function, "__name__", type(function).__name__))

    @cached_property
    def path(self) -> str:
        """Its dotted path."""
        function, _ = parts(self.function)
        return f"{function.__module__}.{self.name}"

    @cached_property
    def takes_split(self) -> bool:
        """Whether it is told which split to score on."""
        function, keywords = parts(self.function)
        return "split" in inspect.signature(function).parameters and "split" not in keywords

    def settings(self, split: Split) -> dict[str, Plain]:
        """What decides a score besides the weights."""
        return {"score": describe(self.function), "split": split if self.takes_split else None}

    def __call__(
        self, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", split: Split
    ) -> Evaluation:
        """The score of a model, which is set to evaluation first.

        Raises:
            ScoreError: the function returns neither a number nor a dict with "score".
        """
        returned = self.function(model.eval(), tokenizer, **self._told(split))
        values = _numbers(returned if is_mapping(returned) else {"score": returned})
        if "score" not in values:
            raise ScoreError(
                f"score={self.path} returned {str(returned)[:80]!r}; a number, or a dict with "
                '"score", is needed.'
            )
        score, likelihood = values.pop("score"), values.pop("log_likelihood", None)
        return Evaluation(score, likelihood, values)

    def _told(self, split: Split) -> dict[str, Split]:
        """The keyword that says which split to score on, where the function takes it."""
        return {"split": split} if self.takes_split else {}


def _numbers(values: Mapping[object, object]) -> dict[str, float | None]:
    """The entries that are numbers."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, SupportsFloat) and not isinstance(value, bool)
    }


@dataclass(frozen=True)
class OwnScores:
    """A model's result by a person's own score, as `dfwe.scoring.scorer.Scores` without answers.

    Args:
        score: as the function gives it.
        metrics: name -> what else it gives.
        log_likelihood: if it gives one, in nats.
    """

    score: float
    metrics: Mapping[str, float | None]
    log_likelihood: float | None


class OwnScorer:
    """Scores a model, or theta(alpha) of a weight space, on test by a person's own score.

    Every alpha of the space is scored once.

    Args:
        score: the person's.
        model: a transformers model on its device, which theta(alpha) is written into.
        tokenizer: the model's.
        space: whose alphas are scored; None scores the model as it is.
    """

    def __init__(
        self,
        score: OwnScore,
        model: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
        space: "WeightSpace | None" = None,
    ) -> None:
        self._score = score
        self._model = model
        self._tokenizer = tokenizer
        self._space = space
        self._scores: dict[bytes, OwnScores] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *unused: object) -> None:
        """As a `Scorer`, which ends its workers."""

    def __call__(self, alpha: Alpha | None = None) -> OwnScores:
        """Scores of theta(alpha); of the model as it is where there is no space.

        Raises:
            ScoreError: the function fails, or gives no finite number.
        """
        key = b"" if alpha is None else alpha.tobytes()
        if key not in self._scores:
            self._scores[key] = self._measure(alpha)
        return self._scores[key]

    def _measure(self, alpha: Alpha | None) -> OwnScores:
        if alpha is not None:
            assert self._space is not None
            self._space.write(alpha, self._model)
        try:
            found = self._score(self._model, self._tokenizer, "test")
        except ScoreError:
            raise
        except Exception as error:
            raise ScoreError(
                f"score={self._score.path} fails on the test split ({type(error).__name__}: "
                f"{reason(error)}); correct it and run the same command again."
            ) from error
        if not math.isfinite(found.value):
            raise ScoreError(f"score={self._score.path} gives {found.score} on the test split.")
        return OwnScores(found.value, found.metrics, found.log_likelihood)
