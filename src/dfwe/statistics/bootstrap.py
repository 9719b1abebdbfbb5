"""Noise of a score: the paired bootstrap over dialogues, and over seeds (Efron & Tibshirani 1993).

Instances of one dialogue stand or fall together, so dialogues are drawn, not instances. Models
scored on the same examples get the same draws: differences of their replicates are paired.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.statistics.counts import count, draw_dialogues
from dfwe.tasks.task import Task

DRAWS = 1000
LEVEL = 0.95
ROUNDING = 1e-9  # points
NORMAL = 1.96  # standard errors on each side that contain LEVEL of a normal distribution
Replicates = NDArray[np.float64]  # (draws,), in points


def replicates(
    task: Task,
    texts: Sequence[str],
    examples: Sequence[Example],
    draws: int = DRAWS,
    seed: int = 0,
) -> Replicates:
    """The task's score on dialogues drawn with replacement, (draws,).

    Args:
        task: how answers are read and measured.
        texts: (m,), a model's answers in the order of the examples.
        examples: those it answered.
        draws: how many replicates.
        seed: of the draws; one seed and one set of examples give every model the same ones.

    Returns:
        In points.
    """
    counts = count(task, [texts], examples)
    return counts.score(0, draw_dialogues(len(counts.sizes), draws, seed))


def over_seeds(rows: NDArray[np.float64], seed: int = 0) -> Replicates:
    """The mean over seeds, the seeds drawn with replacement as well, (draws,).

    Args:
        rows: (seeds, draws), replicates that share their draws of dialogues, as `replicates`
            gives them.
        seed: of the draws of seeds.

    Returns:
        In the unit of `rows`.
    """
    seeds, draws = rows.shape
    chosen = np.random.default_rng([seed, seeds]).integers(seeds, size=(seeds, draws))
    return np.take_along_axis(rows, chosen, axis=0).mean(axis=0)


def interval(values: Replicates, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval: its lower and upper end.

    Args:
        values: (draws,), replicates.
        level: the share of the replicates inside.
    """
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def standard_error(values: Replicates) -> float:
    """The replicates' standard deviation, in their unit."""
    return float(np.std(values, ddof=1))


def difference_errors(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """The standard error of each difference of two models' scores, (models, models), in points.

    Args:
        rows: (models, draws), replicates that share their draws.
    """
    covariance = np.atleast_2d(np.cov(rows))
    variance = np.diag(covariance)
    return np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0.0))


def resolution(
    task: Task, models: Sequence[Sequence[str]], examples: Sequence[Example]
) -> str | None:
    """One sentence: the difference between two of the models' scores that is more than noise.

    It is the median over the pairs whose difference varies with the draw, if any does: the others
    show no noise, which is not to have none.

    Args:
        task: how answers are read and measured.
        models: (models, m), the answers of each in the order of the examples.
        examples: those they answered.

    Returns:
        The sentence; None for a single model.
    """
    if len(models) < 2:
        return None
    dialogues = len({example.dialogue for example in examples})
    if dialogues == 1:
        return (
            f"Dev has {len(examples)} instances in one dialogue alone, from which the noise "
            "between two models cannot be estimated."
        )
    dev = f"Dev has {len(examples)} instances in {dialogues} dialogues"
    rows = [replicates(task, texts, examples) for texts in models]
    gaps = [one - other for one, other in combinations(rows, 2)]
    errors = [error for gap in gaps if (error := standard_error(gap)) > ROUNDING]
    if errors:
        return (
            f"{dev}: one instance weighs {100 / len(examples):.2f} points, and between two of "
            f"these models a difference below about {NORMAL * float(np.median(errors)):.1f} "
            f"points is within noise ({LEVEL:.0%})."
        )
    if np.abs(gaps).max() < ROUNDING:
        return f"{dev} and cannot tell these models apart: they score alike in every draw of them."
    return (
        f"{dev}, from which the noise between these models cannot be estimated: they differ "
        "by the same in every draw of them."
    )
