"""Pictures of a report: many runs at a time, as SVG for the page."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfwe.reporting.plots import (
    COLOURS,
    GREY,
    INK,
    best_so_far,
    caption,
    colours,
    figure_of,
    legend,
    save,
)
from dfwe.search.evaluation import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Trials = Sequence[Trial]


def trajectories(runs: Mapping[str, Sequence[Trials]], path: Path) -> Path:
    """The best dev score so far, above the first trial's; a panel per task, a line per seed."""
    figure, panels = _panels(len(runs))
    for axes, (task, searches) in zip(panels, runs.items(), strict=False):
        for number, trials in enumerate(searches):
            axes.step(
                range(len(trials)),
                best_so_far(trials),
                where="post",
                color=COLOURS[number % len(COLOURS)],
                lw=1.3,
            )
        axes.set_title(task, loc="left", fontsize=10)
        axes.set(xlabel="evaluation", ylabel="best dev score")
    return save(figure, path)


def dev_against_test(points: Mapping[str, Sequence[tuple[float, float]]], path: Path) -> Path:
    """Contender -> (dev, test) of its runs; under the diagonal dev was too optimistic."""
    figure, grid = figure_of(1, 1, (6.6, 5.0))
    axes = grid[0][0]
    colour, marker = colours(points), _markers(points)
    for name, pairs in points.items():
        axes.plot(
            *zip(*pairs, strict=True),
            marker[name],
            color=colour[name],
            ms=5,
            label=name,
            alpha=0.8,
            ls="",
        )
    ends = [value for pairs in points.values() for pair in pairs for value in pair]
    span = [min(ends), max(ends)]
    axes.plot(span, span, color=GREY, lw=1, ls=(0, (4, 3)), zorder=1)
    axes.set(xlabel="dev score (points)", ylabel="test score (points)")
    legend(axes)
    return save(figure, path)


def alphas(weights: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> Path:
    """Task -> each seed's alpha by expert: bars are means, dots are seeds."""
    figure, panels = _panels(len(weights))
    for axes, (task, rows) in zip(panels, weights.items(), strict=False):
        names = list(rows[0])
        values = np.array([[row[name] for name in names] for row in rows])  # (seeds, n)
        at = range(len(names))
        axes.barh(at, values.mean(axis=0), color=list(colours(names).values()), height=0.66)
        axes.set_yticks(at, [caption(name) for name in names])
        for row in values:
            axes.plot(row, at, "o", ms=3, color=INK, mew=0)
        axes.axvline(1 / len(names), color=INK, lw=1, ls=(0, (4, 3)), zorder=1.5)
        axes.invert_yaxis()
        axes.set_title(task, loc="left", fontsize=10)
        axes.set(xlabel="alpha")
        axes.tick_params(axis="y", labelsize=8)
        axes.grid(False, axis="y")
    return save(figure, path)


def landscape(trials: Trials, labels: Sequence[str], title: str, path: Path) -> Path:
    """Dev score over the triangle of three experts, and along its three edges.

    Args:
        trials: a lattice's, alpha (3,) each.
    """
    alpha = np.array([trial.alpha for trial in trials])  # (m, 3)
    score = np.array([np.nan if trial.score is None else trial.score for trial in trials])
    figure, grid = figure_of(1, 2, (10.6, 4.0))
    triangle, lines = grid[0]
    triangle.set_title(title, loc="left", fontsize=10, pad=18)  # above the corner's name
    _contours(figure, triangle, alpha, score, labels)
    for number, (start, end) in enumerate(((0, 1), (1, 2), (2, 0))):
        other = 3 - start - end
        on = np.flatnonzero(alpha[:, other] == 0)
        order = on[np.argsort(alpha[on, end])]
        lines.plot(
            alpha[order, end],
            score[order],
            ".-",
            color=COLOURS[number],
            label=f"{caption(labels[start])} to {caption(labels[end])}",
        )
    lines.set(xlabel="t, from the first expert to the second", ylabel="dev score (points)")
    legend(lines)
    return save(figure, path)


def cost_against_gain(points: Mapping[str, tuple[float, float]], unit: str, path: Path) -> Path:
    """Contender -> (cost, mean gain over fine-tuning alone); the legend from the best down."""
    from matplotlib.ticker import LogLocator, NullLocator

    figure, grid = figure_of(1, 1, (7.6, 4.4))
    axes = grid[0][0]
    colour = colours(points)
    axes.axhline(0, color=GREY, lw=1, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    marker = _markers(points)
    for name, (cost, gain) in sorted(points.items(), key=lambda item: -item[1][1]):
        axes.plot(
            cost,
            gain,
            marker[name],
            color=colour[name],
            ms=6,
            ls="",
            alpha=0.9,
            label=f"{name}, {gain:+.2f}",
        )
    axes.set(xlabel=unit, ylabel="gain over fine-tuning alone (points)")
    legend(axes)
    return save(figure, path)


def _markers(names: Iterable[str]) -> dict[str, str]:
    """Each name's marker: another one where the colours start again."""
    return {name: "osD^vP*X"[k // len(COLOURS) % 8] for k, name in enumerate(names)}


def _contours(
    figure: "Figure",
    axes: "Axes",
    alpha: NDArray[np.float64],
    score: NDArray[np.float64],
    labels: Sequence[str],
) -> None:
    single_experts = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
    x, y = (alpha @ single_experts).T
    known = np.isfinite(score)
    if np.ptp(score[known]) > 0:
        filled = axes.tricontourf(x[known], y[known], score[known], levels=12, cmap="viridis")
        figure.colorbar(filled, ax=axes, shrink=0.8)
    axes.plot(x, y, ".", color="white", ms=3, mec=GREY, mew=0.3)
    best = np.nanargmax(score)
    axes.plot(x[best], y[best], "o", mfc="none", mec=INK, ms=10, mew=1.4, clip_on=False)
    for (left, low), label, side in zip(
        single_experts, labels, ("top", "top", "bottom"), strict=True
    ):
        shift = (0, 6 if side == "bottom" else -6)
        axes.annotate(
            caption(label),
            (left, low),
            shift,
            textcoords="offset points",
            ha="center",
            va=side,
            fontsize=9,
        )
    axes.set_aspect("equal")
    axes.axis("off")


def _panels(count: int) -> "tuple[Figure, list[Axes]]":
    """A grid of at most three panels a row; those not needed stay away."""
    columns = min(3, count)
    rows = -(-count // columns)
    figure, grid = figure_of(rows, columns, (3.4 * columns + 0.6, 2.5 * rows + 0.3), sharex=False)
    panels = [axes for row in grid for axes in row]
    for axes in panels[count:]:
        axes.set_visible(False)
    return figure, panels[:count]
