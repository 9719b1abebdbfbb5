"""What a search's choice is worth on dialogues that it was not made on, from the kept answers.

Dev chooses alpha, so dev's gain of that alpha is too high. Two corrections, neither of which runs
a model: the choice repeated on resampled dialogues and scored on those left out, and an exact
test on half of the dialogues of the choice made on the other half.

Kept answers repeat the choice among the measured trials, not the proposals, which all of dev has
steered: docs/notes/selection.md measures what is left of the bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from dfwe.errors import UserError
from dfwe.search.loop import Objective
from dfwe.statistics.counts import (
    BLOCK,
    MODELS,
    DialogueCounts,
    Floats,
    Indices,
    draw_dialogues,
)
from dfwe.tasks.metrics import Metric, is_accuracy

DRAWS = 1000
LEVEL = 0.9  # of a lower bound, at least
QUANTILE = 0.05  # that bounds so: proposals that have read all of dev spoil the tenth
SIGNIFICANCE = 0.05  # of a certificate
DECIMALS = 9  # of points: what is nearer is a tie


@dataclass(frozen=True)
class Gain:
    """How far the choice is above a baseline, in points.

    Args:
        mean: over the resamples.
        at_least: the lower bound that holds with LEVEL.
    """

    mean: float
    at_least: float


@dataclass(frozen=True)
class Selection:
    """The choice, repeated.

    Args:
        chosen: (draws,), the position of the model that each resample chose.
        score: the mean of its points on the dialogues left out.
        gains: over each baseline.
    """

    chosen: Indices
    score: float
    gains: tuple[Gain, ...]


@dataclass(frozen=True)
class Certificate:
    """An exact one-sided sign test over dialogues: is the chosen model better than the baseline?

    Args:
        gain: of the chosen model on these dialogues, in points of the metric.
        wins: dialogues in which it is right more often than the baseline.
        losses: dialogues in which it is right less often.
        p: the chance of as many wins or more where either is as likely; the certificate holds
            where it is at most SIGNIFICANCE.
        smallest: the least gain in points that would hold with as many dialogues in which the two
            differ, one instance in each.
    """

    gain: float
    wins: int
    losses: int
    p: float
    smallest: float

    @property
    def holds(self) -> bool:
        return self.p <= SIGNIFICANCE


def choose(
    counts: DialogueCounts,
    log_likelihoods: Floats,
    weights: Floats,
    candidates: Sequence[int],
    objective: Objective = "score",
) -> Indices:
    """The search's choice by weighted dialogues: ties by the other objective, then the earlier.

    Args:
        counts: of the models.
        log_likelihoods: (models, dialogues), of the gold answers, sums over instances in nats.
        weights: (draws, dialogues), how often each dialogue counts.
        candidates: positions of the models that may be chosen, in the order of proposals.
        objective: what is chosen by first.

    Returns:
        (draws,), positions of models.
    """
    rows = np.array(candidates)
    summed = log_likelihoods[rows].T  # (dialogues, candidates)
    parts = [candidates[start : start + MODELS] for start in range(0, len(rows), MODELS)]
    chosen: list[Indices] = []
    for start in range(0, len(weights), BLOCK):
        drawn = weights[start : start + BLOCK]
        scores = np.concatenate([counts.scores(part, drawn) for part in parts], axis=1)
        first, second = scores.round(DECIMALS), drawn @ summed  # (block, candidates)
        if objective == "log_likelihood":
            first, second = second, first
        best = first == first.max(axis=1, keepdims=True)
        chosen.append(rows[np.where(best, second, -np.inf).argmax(axis=1)])
    return np.concatenate(chosen)


def select(
    counts: DialogueCounts,
    log_likelihoods: Floats,
    candidates: Sequence[int],
    baselines: Sequence[int],
    objective: Objective = "score",
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Selection:
    """Bootstrap bias-corrected selection (Tsamardinos et al. 2018, their BBC-CV).

    Dialogues are drawn with replacement, the choice is made on the sample and scored on the
    dialogues that are not in it; a sample that leaves none out is dropped. A bound is the lower
    end of the percentile interval of the gains with LEVEL inside.

    Args:
        counts: of the models, on two dialogues or more.
        log_likelihoods: (models, dialogues), of the gold answers, sums over instances in nats.
        candidates: positions of the models that may be chosen, in the order of proposals.
        baselines: positions of models that nothing chooses here.
        objective: what is chosen by first.
        draws: how many resamples.
        seed: of the resamples.
    """
    drawn = draw_dialogues(len(counts.sizes), draws, seed)
    drawn = drawn[(drawn == 0).any(axis=1)]
    left_out = (drawn == 0).astype(np.float64)
    chosen = choose(counts, log_likelihoods, drawn, candidates, objective)
    scores = np.empty(len(chosen))
    for model in np.unique(chosen).tolist():
        rows = chosen == model
        scores[rows] = counts.score(model, left_out[rows])
    gains: list[Gain] = []
    for baseline in baselines:
        gain = scores - counts.score(baseline, left_out)
        gains.append(Gain(float(gain.mean()), float(np.quantile(gain, QUANTILE))))
    return Selection(chosen, float(scores.mean()), tuple(gains))


def accuracy_among(metrics: Sequence[Metric]) -> int:
    """The position of the first metric that a certificate can be about.

    Raises:
        UserError: none is the share of right answers.
    """
    for position, metric in enumerate(metrics):
        if is_accuracy(metric):
            return position
    names = ", ".join(metric.name for metric in metrics) or "a function"
    raise UserError(
        f"A certificate needs a metric that is the share of right answers, which {names} is not."
    )


def certify(metric: Metric, chosen: Floats, baseline: Floats, sizes: Floats) -> Certificate:
    """The sign test on dialogues that neither model was chosen by; exact for any number of them.

    Args:
        metric: the share of right answers (`accuracy_among`).
        chosen: (dialogues, k), the counts of the chosen model.
        baseline: (dialogues, k), the counts of the baseline.
        sizes: (dialogues,), instances.
    """
    assert is_accuracy(metric)
    difference = metric.points(chosen) - metric.points(baseline)  # (dialogues,)
    wins, losses = int((difference > 0).sum()), int((difference < 0).sum())
    gain = metric.points(chosen.sum(axis=0)) - metric.points(baseline.sum(axis=0))
    return Certificate(
        gain=float(gain),
        wins=wins,
        losses=losses,
        p=_tail(wins, wins + losses),
        smallest=100.0 * _least_margin(wins + losses) / float(sizes.sum()),
    )


def _tail(wins: int, n: int) -> float:
    """The chance that n tosses of a fair coin give so many heads or more."""
    return sum(comb(n, heads) for heads in range(wins, n + 1)) / 2**n


def _least_margin(n: int) -> int:
    """The least wins minus losses that certifies, of n dialogues or the fewest that can."""
    while _tail(n, n) > SIGNIFICANCE:
        n += 1
    tail, wins = 1, n  # how many outcomes of 2**n have so many wins or more
    while (tail := tail + comb(n, wins - 1)) / 2**n <= SIGNIFICANCE:
        wins -= 1
    return 2 * wins - n
