"""Noise of a score: the paired bootstrap over dialogues, and over seeds (Efron & Tibshirani 1993).

Instances from one dialogue are correlated, so dialogues are drawn, not instances. Models
scored on the same examples get the same draws: differences of their replicates are paired. Every
draw of a single dialogue is that dialogue: it says nothing of noise, and there is no interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.search.evaluation import Trial
from dfwe.statistics.counts import count, draw_dialogues, few_draws
from dfwe.tasks.task import Task

DRAWS = 1000
LEVEL = 0.95
ROUNDING = 1e-9  # points
ONE_DIALOGUE = (
    "no interval: the test split is one dialogue (of a table, one row), which does not show how "
    "far another one would differ"
)
NORMAL = 1.96  # standard errors on each side that contain LEVEL of a normal distribution
POWER = 0.8  # the chance to tell a difference from 0 that counts as visible
NORMAL_POWER = 0.84  # standard errors beyond NORMAL at which the chance is POWER
BLOCK = 500  # trials at a time: what counting their answers needs of memory
MANY_SEEDS = 10  # from here on seeds are drawn; fewer say too little of their spread
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
    return _replicates(task, [texts], examples, draws, seed)[0]


def _replicates(
    task: Task,
    models: Sequence[Sequence[str]],
    examples: Sequence[Example],
    draws: int = DRAWS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Each model's replicates, (models, draws)."""
    counts = count(task, models, examples)
    drawn = draw_dialogues(len(counts.sizes), draws, seed)
    return np.stack([counts.score(model, drawn) for model in range(len(models))])


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


@dataclass(frozen=True)
class Difference:
    """The difference of two methods' scores, in points, and what can be said of it.

    Args:
        mean: over tasks, each task's over its seeds.
        interval: with `LEVEL`; None, as p and `visible`, where a task's test has one dialogue.
        p: two-sided, of a true difference of 0.
        visible: the smallest true difference that is told from 0 with the chance `POWER`.
        given_models: whether interval, p and `visible` are about these trained models alone, all
            that one seed allows: another seed may differ by more.
    """

    mean: float
    interval: tuple[float, float] | None
    p: float | None
    visible: float | None
    given_models: bool


def difference(
    tasks: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], dialogues: int
) -> Difference:
    """The mean difference over tasks and seeds, with its interval.

    One seed: the bootstrap over dialogues. From `MANY_SEEDS`: over seeds and dialogues together.
    Between: mean +- t(S - 1) sqrt(s^2 / S + v), with s the standard deviation over the S seeds
    and v the bootstrap's variance of their mean over dialogues, each averaged over tasks.

    Args:
        tasks: of each task the difference of every seed, (S,), and their replicates, (S, draws),
            which share their draws of dialogues.
        dialogues: how many the replicates are drawn from, of the task that has the fewest.
    """
    mean = float(np.mean([values.mean() for values, _ in tasks]))
    seeds = min(len(values) for values, _ in tasks)
    if dialogues < 2:
        return Difference(mean, None, None, None, given_models=seeds == 1)
    if 1 < seeds < MANY_SEEDS:
        variances = [
            values.var(ddof=1) / len(values) + rows.mean(axis=0).var(ddof=1)
            for values, rows in tasks
        ]
        return _by_student(mean, float(np.sqrt(np.sum(variances))) / len(tasks), seeds)
    # Tasks are drawn by themselves, also those of equally many dialogues, whose draws are equal.
    draws = np.mean(
        [
            np.random.default_rng(number).permutation(over_seeds(rows, number))
            for number, (_, rows) in enumerate(tasks)
        ],
        axis=0,
    )
    beyond = min(int((draws <= ROUNDING).sum()), int((draws >= -ROUNDING).sum()))
    p = min(1.0, 2 * (1 + beyond) / (1 + len(draws)))
    visible = (NORMAL + NORMAL_POWER) * standard_error(draws)
    return Difference(mean, interval(draws), p, visible, given_models=seeds == 1)


def student_quantile(share: float, values: int) -> float:
    """The quantile of Student's t for the mean of so many values, in standard errors."""
    from scipy.special import stdtrit

    return float(stdtrit(values - 1, share))


def _by_student(mean: float, error: float, seeds: int) -> Difference:
    from scipy.special import stdtr

    half, power = student_quantile((1 + LEVEL) / 2, seeds) * error, student_quantile(POWER, seeds)
    p = 2 * float(stdtr(seeds - 1, -abs(mean) / error)) if error > 0 else float(mean == 0)
    return Difference(mean, (mean - half, mean + half), p, half + power * error, False)


def holm(values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, in their order (Holm 1979).

    An adjusted value of at most q: rejected where the chance of any wrong rejection is at most q.
    """
    adjusted, least = [1.0] * len(values), 0.0
    for rank, position in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        least = max(least, min(1.0, (len(values) - rank) * values[position]))
        adjusted[position] = least
    return adjusted


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


def trial_errors(
    task: Task, trials: Sequence[Trial], examples: Sequence[Example]
) -> NDArray[np.float64]:
    """`difference_errors` of trials by their answers; one without answers scores 0 in each draw.

    Args:
        task: how answers are read and measured.
        trials: of one search.
        examples: those that they answered.
    """
    return difference_errors(_trial_replicates(task, trials, examples))


def errors_from(
    task: Task, trials: Sequence[Trial], examples: Sequence[Example], position: int
) -> NDArray[np.float64]:
    """A row of `trial_errors`: of each trial's difference from one of them, (trials,)."""
    rows = _trial_replicates(task, trials, examples)
    return np.std(rows - rows[position], axis=1, ddof=1)


def _trial_replicates(
    task: Task, trials: Sequence[Trial], examples: Sequence[Example]
) -> NDArray[np.float64]:
    """(trials, draws)."""
    draws = few_draws(task, DRAWS)
    rows = np.zeros((len(trials), draws))
    answered = [(k, row.answers.texts) for k, row in enumerate(trials) if row.answers is not None]
    for start in range(0, len(answered), BLOCK):
        positions, texts = zip(*answered[start : start + BLOCK], strict=True)
        rows[list(positions)] = _replicates(task, texts, examples, draws)
    return rows


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
    dev = f"Dev has {len(examples)} instances"
    if dialogues < len(examples):  # else each stands alone, as the rows of a table do
        dev += f" in {dialogues} dialogues"
    rows = _replicates(task, models, examples, few_draws(task, DRAWS))
    gaps = [one - other for one, other in combinations(rows, 2)]
    errors = [error for gap in gaps if (error := standard_error(gap)) > ROUNDING]
    if errors:
        return (
            f"{dev}: one instance is worth {100 / len(examples):.2f} points, and between two of "
            f"these models a difference below about {NORMAL * float(np.median(errors)):.1f} "
            f"points is within noise ({LEVEL:.0%})."
        )
    if np.abs(gaps).max() < ROUNDING:
        return f"{dev} and cannot tell these models apart: they score alike in every draw of them."
    return (
        f"{dev}, from which the noise between these models cannot be estimated: they differ "
        "by the same in every draw of them."
    )
