"""A metric of a person's own as a plain function of texts, and how one is told from what is none.

    def contains(predictions: list[str], references: list[list[str]]) -> float:
        '''Points, 0 to 100, higher is better.'''

It is a score of whole splits: nothing says what an instance adds, so resampled dialogues are
scored by calling it again, where a metric with counts (`dfwe.tasks.metrics.Metric`) adds them up.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import SupportsFloat, get_args, get_type_hints

from dfwe.data.dialogue import Example
from dfwe.errors import ScoreError, UserError, reason
from dfwe.pipeline.deferred import Deferred, check_part, parts
from dfwe.plain import is_list
from dfwe.tasks.metrics import Metric

FORM = "f(predictions: list[str], references: list[list[str]]) -> float"


@dataclass(frozen=True)
class FunctionMetric:
    """A function of a split's predictions and references as a metric.

    The references are the lists of all accepted answers; one text each where the second parameter
    is annotated as `list[str]` (or `Sequence[str]`).

    Args:
        function: predictions (m,), references (m,) -> points, higher is better.
    """

    function: Callable[..., object]

    @property
    def name(self) -> str:
        function, _ = parts(self.function)
        named = getattr(function, "name", None) or getattr(function, "__name__", None)
        return str(named or type(function).__name__)

    def __call__(self, predictions: Sequence[str], examples: Sequence[Example]) -> float:
        """The points of a model's texts.

        Raises:
            ScoreError: the function fails, or gives no finite number.
            UserError: it takes one reference each, and an example has several.
        """
        references = self._references(examples)
        try:
            value = self.function(list(predictions), references)
            if not isinstance(value, SupportsFloat):
                raise TypeError(f"it returned {value!r}")
            points = float(value)
        except Exception as error:
            raise ScoreError(
                f"The metric {self.name} fails ({type(error).__name__}: {reason(error)}); it is "
                f"called as {FORM}, and an annotation list[str] of the references asks for one "
                "text each."
            ) from error
        if not math.isfinite(points):
            raise ScoreError(f"The metric {self.name} gives {points} where a number is needed.")
        return points

    def check(self, examples: Sequence[Example]) -> None:
        """Call the function on a few examples: once on their gold answers, once on empty texts.

        Raises:
            UserError: it cannot be called so, or does not put the gold answers above none, or
                gives them a share of 1 where points are meant.
        """
        check_part(f"task.metrics.{self.name}", self.function)
        right = self([example.target for example in examples], examples)
        nothing = self([""] * len(examples), examples)
        called = f"On {len(examples)} examples the metric {self.name} gives"
        if right <= nothing:
            raise UserError(
                f"{called} the gold answers {right:g} and empty ones {nothing:g}; higher has to "
                "be better (references are lists of accepted answers, or one text each where they "
                "are annotated as list[str])."
            )
        if nothing < right <= 1:
            raise UserError(
                f"{called} the gold answers {right:g}; a metric is in points, 0 to 100: return "
                "100 times that."
            )

    def _references(self, examples: Sequence[Example]) -> list[str] | list[list[str]]:
        if not self._takes_one:
            return [list(example.references) for example in examples]
        for example in examples:
            if len(example.references) > 1:
                raise UserError(
                    f"{example.id} has several accepted answers, but the metric {self.name} takes "
                    "one text each (list[str]); annotate its references as list[list[str]]."
                )
        return [example.references[0] for example in examples]

    @property
    def _takes_one(self) -> bool:
        """Whether the second parameter is annotated as a list of texts alone."""
        function, keywords = parts(self.function)
        call = function if inspect.isroutine(function) else type(function).__call__
        try:
            hints = get_type_hints(call)
            names = [
                name for name in inspect.signature(function).parameters if name not in keywords
            ]
        except (NameError, TypeError, ValueError):  # it has none that can be read
            return False
        return len(names) > 1 and get_args(hints.get(names[1])) == (str,)


AnyMetric = Metric | FunctionMetric


def metrics_of(values: object) -> object:
    """What a task's `metrics` name, each as a metric; what is no list is left for its check.

    Raises:
        UserError: one of them is none, or two have one name.
    """
    if not is_list(values):
        return values
    metrics = [_metric(value) for value in values]
    names = [metric.name for metric in metrics]
    for name in names:
        if names.count(name) > 1 or name == "score":
            what = "is what their mean is called" if name == "score" else "is there twice"
            raise UserError(
                f"task.metrics={names}: '{name}' {what}; give one of them another name (the field "
                "`name` of a class, or that of a function)."
            )
    return metrics


def _metric(value: object) -> AnyMetric:
    if isinstance(value, Deferred) and isinstance(value.resolve(), type):
        value = _instance(value)
    if not isinstance(value, type):
        if isinstance(value, Metric | FunctionMetric):
            return value
        if callable(value):
            return FunctionMetric(value)
    lacks = [name for name in ("name", "counts", "points", "__call__") if not hasattr(value, name)]
    what = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
    raise UserError(
        f"task.metrics names {what}, which is no metric"
        + (f" (it lacks {', '.join(lacks)})" if lacks else "")
        + f"; give a function {FORM}, or an object like those of dfwe.tasks.metrics."
    )


def _instance(part: Deferred) -> object:
    """The object of a class that a configuration names."""
    try:
        return part()
    except TypeError as error:
        raise UserError(f"task.metrics: {part.target} says: {reason(error)}.") from None
