"""P_B(A, B): how often a random model of group A is better than one of group B (sec. 4)."""

import numpy as np
from numpy.typing import ArrayLike

from dfwe.tasks.bootstrap import interval

DRAWS = 2000


def better(a: ArrayLike, b: ArrayLike) -> float:
    """P_B(A, B): the share of pairs in which A's loss is the lower one; a tie counts half."""
    first, second = np.asarray(a)[:, None], np.asarray(b)[None]
    return float(np.mean(first < second) + 0.5 * np.mean(first == second))


def better_interval(
    a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float]:
    """A 95 % interval of P_B by drawing the models of both groups anew (bootstrap)."""
    rng = np.random.default_rng(seed)
    first, second = np.asarray(a), np.asarray(b)
    found = [
        better(rng.choice(first, len(first)), rng.choice(second, len(second)))
        for _ in range(draws)
    ]
    return interval(np.array(found))


def mean_interval(
    values: ArrayLike, seed: int = 0, draws: int = DRAWS
) -> tuple[float, float, float]:
    """The mean and its 95 % bootstrap interval."""
    held = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = rng.choice(held, (draws, len(held))).mean(1)
    return float(held.mean()), *interval(means)
