"""Cross-fitted dev: each dialogue scored by the alpha that was searched without it (Stone 1974).

Dev chooses alpha, so dev's score of that alpha is optimistic. Here the same search runs on all but
one fold of the dialogues, in turn; each alpha answers for the fold it was searched without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.search.evaluation import Alpha
from dfwe.search.loop import Result
from dfwe.search.simplex import toward_centroid
from dfwe.tasks.task import Task

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the average, for `shrinkage` to choose among


class Scores(Protocol):
    """A model's scores with its answers, as `dfwe.scoring.scorer.Scores`."""

    @property
    def texts(self) -> Sequence[str]: ...

    def subset(
        self, positions: Sequence[int], examples: Sequence[Example], task: Task
    ) -> Self: ...


AnyScores = TypeVar("AnyScores", bound=Scores)
Score = Callable[[Alpha, str], AnyScores]  # alpha, precision -> scores of theta(alpha)


@dataclass(frozen=True)
class CrossFitted:
    """What the search is worth on other dialogues.

    Args:
        score: in points, on all examples, each answered by an alpha searched without it.
        metrics: name -> points, likewise.
        searches: without each fold.
        texts: the answers so scored, in the order of the examples.
    """

    score: float
    metrics: dict[str, float]
    searches: tuple[Result, ...]
    texts: tuple[str, ...]


def fold_of(examples: Sequence[Example], k: int, seed: int = 0) -> NDArray[np.intp]:
    """The fold of each example, (m,) in 0..k-1: whole dialogues, the folds of about one size.

    The largest dialogue first, each into the fold with the fewest examples; equals in an order
    that `seed` draws.

    Raises:
        UserError: there are more folds than dialogues.
    """
    names, member, sizes = np.unique(
        [example.dialogue for example in examples], return_inverse=True, return_counts=True
    )
    if k > len(names):
        raise UserError(
            f"search.folds={k} is more than the {len(names)} dialogues of this dev "
            f"split; give fewer, or null."
        )
    drawn = np.random.default_rng(seed).permutation(len(names))
    filled, fold = np.zeros(k), np.empty(len(names), dtype=np.intp)
    for dialogue in drawn[np.argsort(-sizes[drawn], kind="stable")]:
        fold[dialogue] = np.argmin(filled)
        filled[fold[dialogue]] += sizes[dialogue]
    return fold[member]


def cross_fit(
    find: Callable[[Score[AnyScores], int], Result],
    score: Score[AnyScores],
    task: Task,
    examples: Sequence[Example],
    k: int,
) -> CrossFitted:
    """Search k times without a fold, and score on that fold what each search chose.

    Args:
        find: the search by such scores; it gets the fold's number too.
        score: alpha and precision -> scores on all examples.
        task: what measures the answers.
        examples: of the split.
        k: the number of folds.
    """
    member = fold_of(examples, k)
    texts, searches = [""] * len(examples), list[Result]()
    for fold in range(k):
        others = np.flatnonzero(member != fold).tolist()
        result = find(_restricted(score, others, examples, task), fold)
        searches.append(result)
        answered = score(result.alpha, "fp32").texts
        for position in np.flatnonzero(member == fold).tolist():
            texts[position] = answered[position]
    metrics = task.score(texts, examples)
    return CrossFitted(metrics.pop("score"), metrics, tuple(searches), tuple(texts))


def shrinkage(
    crossed: CrossFitted, score: Score[AnyScores], task: Task, examples: Sequence[Example]
) -> float:
    """How far to draw alpha toward the average: the share with the best cross-fitted score.

    Each fold's dialogues are answered by the alpha that was searched without it, drawn in by one
    of `SHARES`; of equal shares the largest, the plainest mixture, is taken.

    Args:
        crossed: the searches without each fold.
        score: alpha and precision -> scores on all examples.
        task: what measures the answers.
        examples: of the split.
    """
    member = fold_of(examples, len(crossed.searches))
    scores: list[float] = []
    for share in SHARES:
        alphas = [toward_centroid(result.alpha, share) for result in crossed.searches]
        answers: list[Sequence[str]] = [score(alpha, "fp32").texts for alpha in alphas]
        texts = [answers[fold][position] for position, fold in enumerate(map(int, member))]
        scores.append(task.score(texts, examples)["score"])
    return max(zip(scores, SHARES, strict=True))[1]


def _restricted(
    score: Score[AnyScores], positions: list[int], examples: Sequence[Example], task: Task
) -> Score[AnyScores]:
    """The scores on the examples at these positions alone."""

    def restricted(alpha: Alpha, precision: str) -> AnyScores:
        return score(alpha, precision).subset(positions, examples, task)

    return restricted
