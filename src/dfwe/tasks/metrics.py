"""Metrics of the FETA tasks, in points (0 to 100).

The default is the correct definition; `compatibility="tlidb"` reproduces the original's value
where that one is defective, so that published scores can be compared.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import check_choice
from dfwe.tasks.answers import INVALID, Compatibility, check_compatibility

Counts = NDArray[np.float64]


class Metric(Protocol):
    """A score made from counts that add up over instances.

    The counts of a split, or of dialogues drawn again and again (`bootstrap.py`), are sums of the
    instances'; the points follow from them.
    """

    @property
    def name(self) -> str: ...

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        """What each instance adds, (m, k); k and its order are the metric's own."""
        ...

    def points(self, totals: Counts) -> Counts:
        """Sums of counts (..., k) -> points (...)."""
        ...

    def __call__(self, answers: Sequence, golds: Sequence) -> float: ...


class Summed:
    """Points of a split: those of its counts' sum."""

    def __call__(self: Metric, answers: Sequence, golds: Sequence) -> float:
        return float(self.points(self.counts(answers, golds).sum(axis=0)))


class Share(Summed):
    """A mean over instances: counts (value, 1)."""

    def points(self, totals: Counts) -> Counts:
        return 100.0 * totals[..., 0] / totals[..., 1]


@dataclass(frozen=True)
class F1(Summed):
    """F1 over single labels (scikit-learn's `f1_score`).

    An answer that is no label is wrong for every average. TLiDB lets macro F1 count it as one
    more class, which lowers the average.
    """

    average: Literal["micro", "macro", "weighted"]
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        check_choice("average", self.average, ("micro", "macro", "weighted"))
        check_compatibility(self.compatibility)

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        """Right answers, answers and golds of each label, (m, 3 labels)."""
        present = {*golds, *answers}
        if self.compatibility is None:
            present -= {INVALID}
        labels = np.array(sorted(present))
        said = np.asarray(answers)[:, None] == labels
        gold = np.asarray(golds)[:, None] == labels
        return np.concatenate([said & gold, said, gold], axis=1).astype(np.float64)

    def points(self, totals: Counts) -> Counts:
        right, said, gold = np.split(totals, 3, axis=-1)  # (..., labels) each
        if self.average == "micro":  # with one label an instance, micro F1 is accuracy
            return 100.0 * right.sum(axis=-1) / gold.sum(axis=-1)
        f1 = _ratio(2 * right, said + gold)
        weights = gold if self.average == "weighted" else (said + gold > 0).astype(np.float64)
        return 100.0 * (f1 * weights).sum(axis=-1) / weights.sum(axis=-1)


@dataclass(frozen=True)
class Accuracy(Share):
    """The share of answers equal to the gold one."""

    name: str = "accuracy"

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        return _valued(np.asarray(answers) == np.asarray(golds))


@dataclass(frozen=True)
class MultilabelF1(Summed):
    """Micro F1 over 0/1 rows, restricted to `labels` (column numbers) where given."""

    labels: tuple[int, ...] | None = None
    name: str = "f1_micro"

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        """Right and wrong cells, (m, 2)."""
        said: NDArray = np.asarray(answers, dtype=bool)
        gold: NDArray = np.asarray(golds, dtype=bool)
        if self.labels is not None:
            said, gold = said[:, list(self.labels)], gold[:, list(self.labels)]
        cells = [(said & gold).sum(axis=1), (said ^ gold).sum(axis=1)]
        return np.stack(cells, axis=1).astype(np.float64)

    def points(self, totals: Counts) -> Counts:
        right, wrong = totals[..., 0], totals[..., 1]
        return 100.0 * _ratio(2 * right, 2 * right + wrong)


@dataclass(frozen=True)
class ExactMatch(Share):
    """The share of answers equal to any gold text, after SQuAD's normalisation."""

    name: str = "exact_match"

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        return _valued(
            [
                normalise(answer) in {normalise(gold) for gold in texts}
                for answer, texts in zip(answers, golds, strict=True)
            ]
        )


@dataclass(frozen=True)
class TokenF1(Summed):
    """Overlap of answer and gold words: the mean over instances (macro) or pooled (micro).

    Each answer is compared with the gold text that fits it best. TLiDB's micro value takes the
    last gold text with any overlap instead, and leaves an answer without overlap out of all
    counts.
    """

    average: Literal["macro", "micro"]
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        check_choice("average", self.average, ("macro", "micro"))
        check_compatibility(self.compatibility)

    @property
    def name(self) -> str:
        return f"token_f1_{self.average}"

    def counts(self, answers: Sequence, golds: Sequence) -> Counts:
        """(best F1, 1) for macro; (2 common words, words said and in the gold text) for micro."""
        found = [
            [_overlap(answer, gold) for gold in texts]
            for answer, texts in zip(answers, golds, strict=True)
        ]
        if self.average == "macro":
            return _valued([max(map(_f1, options)) for options in found])
        chosen = [self._chosen(options) for options in found]
        return np.array([(2.0 * both, said + gold) for both, said, gold in chosen])

    def points(self, totals: Counts) -> Counts:
        if self.average == "macro":
            return 100.0 * totals[..., 0] / totals[..., 1]
        # No words at all: every answer is rightly empty; TLiDB divides by zero instead.
        nothing = 0.0 if self.compatibility == "tlidb" else 100.0
        return np.where(totals[..., 1] > 0, 100.0 * _ratio(*np.moveaxis(totals, -1, 0)), nothing)

    def _chosen(self, options: Sequence[tuple[int, int, int]]) -> tuple[int, int, int]:
        if self.compatibility == "tlidb":
            return ([(0, 0, 0)] + [option for option in options if option[0]])[-1]
        return max(options, key=_f1)


def _valued(values: Any) -> Counts:
    """(value, 1) for each instance, (m, 2)."""
    column = np.asarray(values, dtype=np.float64)
    return np.stack([column, np.ones_like(column)], axis=1)


def _ratio(above: Counts, below: Counts) -> Counts:
    """Nought where there is nothing below."""
    return np.divide(above, below, out=np.zeros_like(below), where=below > 0)


def normalise(text: str) -> str:
    """Lower case without punctuation, articles and extra blanks (SQuAD's evaluation script)."""
    kept = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def _overlap(answer: str, gold: str) -> tuple[int, int, int]:
    """(words in common, words said, words in the gold text)."""
    said, wanted = normalise(answer).split(), normalise(gold).split()
    return sum((Counter(said) & Counter(wanted)).values()), len(said), len(wanted)


def _f1(counts: tuple[int, int, int]) -> float:
    both, said, wanted = counts
    if not said and not wanted:
        return 1.0  # SQuAD 2: an empty answer to an unanswerable question is right
    return 2 * both / (said + wanted)
