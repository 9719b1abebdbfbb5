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

from dfwe.errors import UserError
from dfwe.tasks.decode import INVALID, Compatibility, check_compatibility


class Metric(Protocol):
    """Answers and gold answers of a split -> points."""

    @property
    def name(self) -> str: ...

    def __call__(self, answers: Sequence, golds: Sequence) -> float: ...


@dataclass(frozen=True)
class F1:
    """F1 over single labels (scikit-learn's `f1_score`).

    An answer that is no label is wrong for every average. TLiDB lets macro F1 count it as one
    more class, which lowers the average.
    """

    average: Literal["micro", "macro", "weighted"]
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        _known(self.average, ("micro", "macro", "weighted"))
        check_compatibility(self.compatibility)

    @property
    def name(self) -> str:
        return f"f1_{self.average}"

    def __call__(self, answers: Sequence, golds: Sequence) -> float:
        from sklearn.metrics import f1_score

        if self.average == "micro":  # with one label an instance, micro F1 is accuracy
            return 100.0 * float(np.mean(np.asarray(answers) == np.asarray(golds)))
        present = {*golds, *answers}
        if self.compatibility is None:
            present -= {INVALID}
        never: Any = 0.0  # a label that is never answered scores 0; the stubs know only "warn"
        score = f1_score(
            golds, answers, average=self.average, labels=sorted(present), zero_division=never
        )
        return 100.0 * float(score)


@dataclass(frozen=True)
class Accuracy:
    """The share of answers equal to the gold one."""

    name: str = "accuracy"

    def __call__(self, answers: Sequence, golds: Sequence) -> float:
        return 100.0 * float(np.mean(np.asarray(answers) == np.asarray(golds)))


@dataclass(frozen=True)
class MultilabelF1:
    """Micro F1 over 0/1 rows, restricted to `labels` (column numbers) where given."""

    labels: tuple[int, ...] | None = None
    name: str = "f1_micro"

    def __call__(self, answers: Sequence, golds: Sequence) -> float:
        said: NDArray = np.asarray(answers, dtype=bool)
        gold: NDArray = np.asarray(golds, dtype=bool)
        if self.labels is not None:
            said, gold = said[:, list(self.labels)], gold[:, list(self.labels)]
        wrong, right = int((said ^ gold).sum()), int((said & gold).sum())
        return 100.0 * 2 * right / (2 * right + wrong) if right else 0.0


@dataclass(frozen=True)
class ExactMatch:
    """The share of answers equal to any gold text, after SQuAD's normalisation."""

    name: str = "exact_match"

    def __call__(self, answers: Sequence, golds: Sequence) -> float:
        hits = [
            normalise(answer) in {normalise(gold) for gold in texts}
            for answer, texts in zip(answers, golds, strict=True)
        ]
        return 100.0 * float(np.mean(hits))


@dataclass(frozen=True)
class TokenF1:
    """Overlap of answer and gold words: the mean over instances (macro) or pooled (micro).

    Each answer is compared with the gold text that fits it best. TLiDB's micro value takes the
    last gold text with any overlap instead, and leaves an answer without overlap out of all
    counts.
    """

    average: Literal["macro", "micro"]
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        _known(self.average, ("macro", "micro"))
        check_compatibility(self.compatibility)

    @property
    def name(self) -> str:
        return f"token_f1_{self.average}"

    def __call__(self, answers: Sequence, golds: Sequence) -> float:
        counts = [
            [_overlap(answer, gold) for gold in texts]
            for answer, texts in zip(answers, golds, strict=True)
        ]
        if self.average == "macro":
            return 100.0 * float(np.mean([max(map(_f1, options)) for options in counts]))
        if self.compatibility == "tlidb":
            overlapping = [[c for c in options if c[0]] for options in counts]
            chosen = [options[-1] for options in overlapping if options]
        else:
            chosen = [max(options, key=_f1) for options in counts]
        if not chosen:
            return 0.0  # TLiDB divides by zero where no answer overlaps its gold text
        both, said, gold = (sum(column) for column in zip(*chosen, strict=True))
        return 100.0 * _f1((both, said, gold))


def _known(average: str, known: Sequence[str]) -> None:
    if average not in known:
        raise UserError(f"average={average} is unknown; choose one of {', '.join(known)}.")


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
