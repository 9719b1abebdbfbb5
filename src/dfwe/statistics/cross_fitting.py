"""Cross-fitted dev: each dialogue scored by the alpha that was found without it (Stone 1974).

Dev chooses alpha, so dev's score of that alpha is hopeful. Here the same search runs on all but
one fold of the dialogues, in turn; what each finds answers for the fold that it has not seen.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.search.loop import Result
from dfwe.tasks.task import Task

# alpha, precision -> theta(alpha)'s `dfwe.scoring.scorer.Scores`
Answers = Callable[[NDArray[np.float64], str], Any]


@dataclass(frozen=True)
class CrossFitted:
    """What the search is worth on dialogues that it has not seen.

    Args:
        score: in points, on all examples, each answered by the alpha found without its dialogue.
        metrics: name -> points, likewise.
        searches: what was found without each fold.
    """

    score: float
    metrics: dict[str, float]
    searches: tuple[Result, ...]


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
    find: Callable[[Answers, int], Result],
    answers: Answers,
    task: Task,
    examples: Sequence[Example],
    k: int,
) -> CrossFitted:
    """Search k times without a fold, and score what is found on that fold.

    Args:
        find: the search by such answers' score; also told the fold's number.
        answers: those to all examples.
    """
    member = fold_of(examples, k)
    texts, searches = [""] * len(examples), []
    for fold in range(k):
        found = find(_among(answers, np.flatnonzero(member != fold), examples, task), fold)
        searches.append(found)
        answered = answers(found.alpha, "fp32").texts
        for held_out in np.flatnonzero(member == fold):
            texts[held_out] = answered[held_out]
    metrics = task.score(texts, examples)
    return CrossFitted(metrics.pop("score"), metrics, tuple(searches))


def _among(
    answers: Answers, seen: NDArray[np.intp], examples: Sequence[Example], task: Task
) -> Answers:
    """The answers to the examples at these positions alone."""
    chosen = seen.tolist()
    return lambda alpha, precision: answers(alpha, precision).among(chosen, examples, task)
