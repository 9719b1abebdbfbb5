"""Metrics of the FETA tasks, in points (0 to 100).

The default is the correct definition; `compatibility="tlidb"` reproduces the original's value
where that one is defective, so that published scores can be compared.
"""

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfwe.errors import UserError, reason
from dfwe.settings import Compatibility, settings
from dfwe.tasks.answers import INVALID, Value

ROUNDING = 1e-6  # points
Counts = NDArray[np.float64]
ONE = (int, float, str)  # types of a single label
Overlap = tuple[int, int, int]  # words in common, words of the answer, words of the gold text


@runtime_checkable
class Metric(Protocol):
    """A score computed from counts that add up over instances.

    The counts of a split, or of dialogues drawn with replacement (`bootstrap.py`), are sums of
    the instances'; the points follow from them. Higher is better.
    """

    @property
    def name(self) -> str: ...

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        """What each instance adds, (m, k); k and its order are up to the metric.

        Args:
            answers: (m,), a model's.
            golds: (m,), in the same order.
        """
        ...

    def points(self, totals: Counts) -> Counts:
        """Sums of counts (..., k) -> points (...)."""
        ...

    def __call__(self, answers: Sequence[Value], golds: Sequence[Value]) -> float:
        """The points of these answers."""
        ...


class Summed:
    """Points of a split: those of its counts' sum."""

    @property
    def is_accuracy(self) -> bool:
        """Whether the points are the share of right answers: a mean of 0 and 1 over instances."""
        return False

    def __call__(self: Metric, answers: Sequence[Value], golds: Sequence[Value]) -> float:
        return float(self.points(self.counts(answers, golds).sum(axis=0)))


class Share(Summed):
    """A mean over instances: counts (value, 1)."""

    def points(self, totals: Counts) -> Counts:
        return 100.0 * totals[..., 0] / totals[..., 1]


@settings("task.metrics")
class F1(Summed):
    """F1 over single labels (scikit-learn's `f1_score`).

    An answer that is no label is wrong for every average. TLiDB lets macro F1 count it as one
    more class, which lowers the average.

    Args:
        average: over labels: `micro`, `macro` or `weighted` by the labels' frequencies.
        compatibility: `tlidb` computes what TLiDB does.

    Raises:
        UserError: the average or the compatibility is unknown.
    """

    average: Literal["micro", "macro", "weighted"]
    compatibility: Compatibility = None

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    @property
    def is_accuracy(self) -> bool:
        return self.average == "micro"  # of one label per instance

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        """Right answers, answers and golds of each label, (m, 3 labels)."""
        for answer, gold in zip(answers, golds, strict=True):
            if not (isinstance(answer, ONE) and isinstance(gold, ONE)):
                raise _refused("single labels", answer, gold, "Label")
        answered, wanted = np.asarray(answers), np.asarray(golds)  # (m,) each
        labels = np.unique(np.concatenate([wanted, answered]))
        if self.compatibility is None:
            labels = labels[labels != INVALID]
        answer = answered[:, None] == labels  # (m, labels)
        gold = wanted[:, None] == labels
        return np.concatenate([answer & gold, answer, gold], axis=1).astype(np.float64)

    def points(self, totals: Counts) -> Counts:
        right, answered, gold = np.split(totals, 3, axis=-1)  # (..., labels) each
        if self.is_accuracy:
            return 100.0 * right.sum(axis=-1) / gold.sum(axis=-1)
        f1 = _ratio(2 * right, answered + gold)
        present = (answered + gold > 0).astype(np.float64)
        weights = gold if self.average == "weighted" else present
        return 100.0 * (f1 * weights).sum(axis=-1) / weights.sum(axis=-1)


@settings("task.metrics")
class Accuracy(Share):
    """The share of answers equal to the gold one; of several labels all have to be."""

    name: str = "accuracy"

    @property
    def is_accuracy(self) -> bool:
        return True

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        right: list[bool] = []
        for answer, gold in zip(answers, golds, strict=True):
            if isinstance(gold, tuple) or isinstance(answer, list) != isinstance(gold, list):
                raise _refused("labels", answer, gold, "Label or dfwe.tasks.answers.Labels")
            right.append(answer == gold)
        return _valued(right)


@settings("task.metrics")
class MultilabelF1(Summed):
    """Micro F1 over 0/1 rows.

    Args:
        labels: the columns that count, by number; None counts all.
        name: the metric's name in tables of results.
    """

    labels: Sequence[int] | None = None
    name: str = "f1_micro"

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        """Right and wrong cells, (m, 2)."""
        for given, wanted in zip(answers, golds, strict=True):
            if not (isinstance(given, list) and isinstance(wanted, list)):
                raise _refused("several labels", given, wanted, "Labels")
        answer = np.asarray(answers, dtype=np.bool_)  # (m, columns)
        gold = np.asarray(golds, dtype=np.bool_)
        if self.labels is not None:
            answer, gold = answer[:, list(self.labels)], gold[:, list(self.labels)]
        cells = [(answer & gold).sum(axis=1), (answer ^ gold).sum(axis=1)]
        return np.stack(cells, axis=1).astype(np.float64)

    def points(self, totals: Counts) -> Counts:
        right, wrong = totals[..., 0], totals[..., 1]
        return 100.0 * _ratio(2 * right, 2 * right + wrong)


@settings("task.metrics")
class ExactMatch(Share):
    """The share of answers equal to any gold text, after SQuAD's normalisation."""

    name: str = "exact_match"

    @property
    def is_accuracy(self) -> bool:
        return True

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        matches: list[bool] = []
        for answer, references in _texts(answers, golds):
            matches.append(normalise(answer) in set(map(normalise, references)))
        return _valued(matches)


@settings("task.metrics")
class TokenF1(Summed):
    """Overlap of answer and gold words: the mean over instances (macro) or pooled (micro).

    Each answer is compared with the gold text that fits it best. TLiDB's micro value takes the
    last gold text with any overlap instead, and leaves an answer without overlap out of all
    counts.

    Args:
        average: over instances (`macro`), or pooled (`micro`).
        compatibility: `tlidb` computes what TLiDB does.

    Raises:
        UserError: the average or the compatibility is unknown.
    """

    average: Literal["macro", "micro"]
    compatibility: Compatibility = None

    @property
    def name(self) -> str:
        return f"token_f1_{self.average}"

    def counts(self, answers: Sequence[Value], golds: Sequence[Value]) -> Counts:
        """(best F1, 1) for macro; (2 common words, words of answer and gold text) for micro."""
        overlaps: list[list[Overlap]] = []  # of each answer with each of its gold texts
        for answer, references in _texts(answers, golds):
            overlaps.append([_overlap(answer, gold) for gold in references])
        if self.average == "macro":
            return _valued([max(map(_f1, options)) for options in overlaps])
        chosen = [self._chosen(options) for options in overlaps]
        pooled = [(2.0 * both, answer + gold) for both, answer, gold in chosen]
        return np.array(pooled, dtype=np.float64)

    def points(self, totals: Counts) -> Counts:
        if self.average == "macro":
            return 100.0 * totals[..., 0] / totals[..., 1]
        # No words at all: every answer is rightly empty; TLiDB divides by zero instead.
        nothing = 0.0 if self.compatibility == "tlidb" else 100.0
        return np.where(totals[..., 1] > 0, 100.0 * _ratio(*np.moveaxis(totals, -1, 0)), nothing)

    def _chosen(self, options: Sequence[Overlap]) -> Overlap:
        """The overlap with the gold text that counts."""
        if self.compatibility == "tlidb":
            return ([(0, 0, 0)] + [option for option in options if option[0]])[-1]
        return max(options, key=_f1)


def is_accuracy(metric: Metric) -> bool:
    """Whether a metric says that its points are the share of right answers."""
    return isinstance(metric, Summed) and metric.is_accuracy


def check_counts(metric: Metric, answers: Sequence[Value], golds: Sequence[Value]) -> None:
    """Measure a few answers, as a split's and as those of resampled dialogues.

    Raises:
        UserError: the metric fails, or its counts and points are of other shapes, or the points
            are not finite, or not those of its call.
    """
    named = f"The metric {type(metric).__name__}"
    try:
        counts = np.asarray(metric.counts(answers, golds), dtype=np.float64)
        if counts.ndim != 2 or len(counts) != len(golds):
            raise UserError(
                f"{named} gives counts of the shape {counts.shape} for {len(golds)} answers; one "
                "row for each is needed, (m, k)."
            )
        total = counts.sum(axis=0)
        points = np.asarray(metric.points(np.stack([total, total])), dtype=np.float64)
        called = float(metric(answers, golds))
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{named} fails on {len(golds)} gold answers ({type(error).__name__}: "
            f"{reason(error)}); correct it."
        ) from error
    if points.shape != (2,):
        raise UserError(
            f"{named} gives points of the shape {points.shape} for two sums of counts, (2, k); "
            "one number for each is needed, (2,)."
        )
    if not np.isfinite(points).all() or abs(points[0] - called) > ROUNDING:
        raise UserError(
            f"{named} gives {called:g} for gold answers whose counts come to {points[0]:g}; "
            "the two have to be one finite number of points."
        )


def _texts(
    answers: Sequence[Value], golds: Sequence[Value]
) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each answer's text with the accepted ones.

    Raises:
        UserError: the task reads answers as something else.
    """
    for answer, references in zip(answers, golds, strict=True):
        if not isinstance(answer, str) or not isinstance(references, tuple):
            raise _refused("texts", answer, references, "FreeText")
        yield answer, references


def _refused(what: str, answer: Value, gold: Value, reader: str) -> UserError:
    """The error for answers that a metric does not compare."""
    return UserError(
        f"A metric of {what} got the answer {answer!r} and the gold answer {gold!r}; give the "
        f"task answer: {{_target_: dfwe.tasks.answers.{reader}}}, or other metrics."
    )


def _valued(values: ArrayLike) -> Counts:
    """(value, 1) for each instance, (m, 2)."""
    column = np.asarray(values, dtype=np.float64)
    return np.stack([column, np.ones_like(column)], axis=1)


def _ratio(above: Counts, below: Counts) -> Counts:
    """above / below; 0 where `below` is 0."""
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def normalise(text: str) -> str:
    """Lower case without punctuation, articles and extra blanks (SQuAD's evaluation script)."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def _overlap(answer: str, gold: str) -> Overlap:
    """How many words two texts share, and how many each has, after normalisation."""
    words, wanted = normalise(answer).split(), normalise(gold).split()
    return sum((Counter(words) & Counter(wanted)).values()), len(words), len(wanted)


def _f1(overlap: Overlap) -> float:
    both, words, wanted = overlap
    if not words and not wanted:
        return 1.0  # SQuAD 2: an empty answer to an unanswerable question is right
    return 2 * both / (words + wanted)
