"""P_B(A, B): how often a random model of group A is better than one of group B (sec. 4)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfwe.pipeline.record import Record
from dfwe.statistics.bootstrap import LEVEL, interval, student_quantile
from dfwe.studies.region.config import Settings
from dfwe.studies.region.points import (
    EXTRAPOLATION,
    IN,
    INTERIOR,
    NOISE,
    PRETRAINED,
    Point,
    breaks,
    groups,
)

DRAWS = 2000


def better(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """P_B(A, B): the share of pairs in which A's loss is the lower one; a tie counts half.

    It is the Mann-Whitney U of B over A, divided by the number of pairs.

    Args:
        a: (..., n), losses of group A.
        b: (..., m), losses of group B.

    Returns:
        (...), between 0 and 1.
    """
    from scipy.stats import mannwhitneyu

    first, second = np.asarray(a), np.asarray(b)
    test = mannwhitneyu(second, first, axis=-1, method="asymptotic")
    return np.asarray(test, dtype=np.float64)[0] / (first.shape[-1] * second.shape[-1])


Interval = tuple[float, float] | tuple[None, None]  # none of a single value


def better_interval(a: ArrayLike, b: ArrayLike, seed: int = 0, draws: int = DRAWS) -> Interval:
    """A 95 % interval of P_B by drawing the models of both groups anew (bootstrap).

    A group of one model is taken as it is: every draw of it is that model.
    """
    rng = np.random.default_rng(seed)
    first, second = np.asarray(a), np.asarray(b)
    if len(first) == len(second) == 1:
        return None, None
    drawn = [
        (rng.choice(first, len(first)), rng.choice(second, len(second))) for _ in range(draws)
    ]
    return interval(better([one for one, _ in drawn], [other for _, other in drawn]))


def mean_interval(values: ArrayLike, seed: int = 0, draws: int = DRAWS) -> tuple[float, Interval]:
    """The mean and its 95 % bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    if len(array) == 1:
        return float(array[0]), (None, None)
    rng = np.random.default_rng(seed)
    means = rng.choice(array, (draws, len(array))).mean(1)
    return float(array.mean()), interval(means)


def t_interval(values: ArrayLike) -> tuple[float, Interval]:
    """The mean and its 95 % interval by Student's t."""
    sample = np.asarray(values, dtype=np.float64)
    mean, n = float(sample.mean()), len(sample)
    if n < 2:
        return mean, (None, None)
    width = student_quantile((1 + LEVEL) / 2, n) * float(sample.std(ddof=1) / np.sqrt(n))
    return mean, (mean - width, mean + width)


Losses = dict[tuple[str, str], float]  # (point, dataset) -> generalised loss


class OddsRow(Record):
    """P_B(a, b) of a group: how often a model of a has the lower loss, with its interval; one
    model each has none."""

    level: str
    group: str
    a: str
    b: str
    p: float
    low: float | None
    high: float | None
    loss_a: float
    loss_b: float


class CurvePoint(Record):
    """Mean loss (nats) over pairs at a place t of a line, with its interval; one pair has none."""

    t: float
    mean: float
    low: float | None
    high: float | None


class Curve(Record):
    """Loss along lines of one kind.

    Args:
        points: by t.
        breaks: of each line the first t beyond its end at which it is worse than the pretrained
            model; None for one that never is. None for lines that end at their models.
    """

    points: tuple[CurvePoint, ...]
    breaks: tuple[float | None, ...] | None = None


def odds(
    points: Sequence[Point], losses: Losses, owners: Sequence[str], settings: Settings
) -> list[OddsRow]:
    """P_B(A, B) of every group: In' against In, both against Ex, In against the pretrained body.

    A model's loss is the mean over the group's datasets. Ex are the models of other datasets; for
    all datasets together, bases perturbed by as much as fine-tuning moved them.
    """
    probed = {dataset for _, dataset in losses}
    rows: list[OddsRow] = []
    for level, members in groups(list(dict.fromkeys(owners)), settings).items():
        for group, datasets in members.items():
            on = [d for d in datasets if d in probed]
            if not on:
                continue
            took = {
                "In": [p for p in points if p.kind == IN and p.group in datasets],
                "In'": [p for p in points if p.kind == INTERIOR and p.group == f"{level}/{group}"],
                "Ex": [
                    p
                    for p in points
                    if p.kind == (NOISE if level == "general" else IN) and p.group not in datasets
                ],
                "pretrained": [p for p in points if p.kind == PRETRAINED],
            }
            values = {
                name: [float(np.mean([losses[p.name, d] for d in on])) for p in models]
                for name, models in took.items()
            }
            for a, b in (
                ("In'", "In"),
                ("In'", "Ex"),
                ("In", "Ex"),
                ("In", "pretrained"),
                ("In'", "pretrained"),
            ):
                if values[a] and values[b]:
                    low, high = better_interval(values[a], values[b])
                    rows.append(
                        OddsRow(
                            level=level,
                            group=group,
                            a=a,
                            b=b,
                            p=float(better(values[a], values[b])),
                            low=low,
                            high=high,
                            loss_a=float(np.mean(values[a])),
                            loss_b=float(np.mean(values[b])),
                        )
                    )
    return rows


def curves(way: str, points: Sequence[Point], losses: Losses) -> dict[str, Curve]:
    """Kind of line -> loss by t with intervals, and where it breaks.

    A line breaks where its loss exceeds the pretrained body's on the same datasets.

    Args:
        way: `LINE`, or `EXTRAPOLATION` for lines beyond their models.
    """
    lost: dict[str, Curve] = {}
    for kind in dict.fromkeys(p.group for p in points if p.kind == way):
        members = [p for p in points if p.kind == way and p.group == kind]
        rows: list[CurvePoint] = []
        for t in sorted({p.t for p in members if p.t is not None}):
            values = [_loss(p, losses) for p in members if p.t == t]
            if np.isfinite(values).all():  # far out, activations overflow
                mean, (low, high) = mean_interval(values)
                rows.append(CurvePoint(t=t, mean=mean, low=low, high=high))
        ends = tuple(_breaks(members, losses)) if way == EXTRAPOLATION else None
        lost[kind] = Curve(points=tuple(rows), breaks=ends)
    return lost


def _breaks(members: Sequence[Point], losses: Losses) -> list[float | None]:
    """For each line the first t beyond its end at which it is worse than the pretrained body."""
    ends: list[float | None] = []
    for pair in sorted({p.pair for p in members}):
        mine = [p for p in members if p.pair == pair]
        limit = float(np.mean([losses[PRETRAINED, d] for d in mine[0].probes]))
        ends.append(breaks([p.t or 0.0 for p in mine], [_loss(p, losses) for p in mine], limit))
    return ends


def _loss(point: Point, losses: Losses) -> float:
    return float(np.mean([losses[point.name, d] for d in point.probes]))
