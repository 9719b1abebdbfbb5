"""Pictures of a run: learning curves, the search's trajectory, the mixture's weights."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfwe.pipeline.files import written_aside
from dfwe.search.evaluation import Alpha, Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which the colour-blind tell apart; one an expert, in the experts' order.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#555555")
INK, GREY = "#222222", "#8C8C8C"
DPI = 150
CAPTION = 32  # letters of a name that a picture has room for
STAGES = {"experts": "experts", "finetune": "fine-tuned on the target"}


def colours(labels: Iterable[str]) -> dict[str, str]:
    """Each label's colour, in the order of first appearance; they start again after the last."""
    return {x: COLOURS[k % len(COLOURS)] for k, x in enumerate(dict.fromkeys(labels))}


def caption(name: str) -> str:
    """A name as matplotlib takes it literally, a long one without its middle."""
    if len(name) > CAPTION:
        name = f"{name[: CAPTION // 2 - 1]}…{name[-CAPTION // 2 :]}"
    name = name.replace("$", r"\$")  # no formula
    return f" {name}" if name.startswith("_") else name  # which legends leave out


@dataclass(frozen=True)
class LearningCurve:
    """A training by epoch.

    Args:
        stage: experts or finetune.
        label: the expert's.
        monitor: the task whose dev score selected the epoch.
        best_epoch: the one whose weights are kept, from 1.
        scores: on dev, in points, one per epoch.
        losses: of training, in nats per token, one per epoch.
    """

    stage: str
    label: str
    monitor: str
    best_epoch: int
    scores: Sequence[float]
    losses: Sequence[float]


def learning_curves(curves: Sequence[LearningCurve], path: Path) -> Path:
    """Dev score and training loss by epoch, one panel a stage; the kept epoch is ringed."""
    stages = [stage for stage in STAGES if any(curve.stage == stage for curve in curves)]
    colour = colours(curve.label for curve in curves)
    figure, grid = figure_of(2, len(stages), (4.6 * len(stages) + 1.8, 5.2), [2, 1])
    for column, stage in enumerate(stages):
        score, loss = grid[0][column], grid[1][column]
        members = [curve for curve in curves if curve.stage == stage]
        for curve in members:
            _draw_curve(score, loss, curve, colour[curve.label])
        score.set_title(f"{STAGES[stage]}, {_monitored(members)}", loc="left", fontsize=10)
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    grid[0][0].set_ylabel("dev score (points)")
    grid[1][0].set_ylabel("training loss\n(nats per token)")
    figure.align_ylabels([row[0] for row in grid])
    for label, c in colour.items():
        grid[0][0].plot([], [], color=c, lw=2, label=caption(label))
    grid[0][0].plot([], [], "o", mfc="none", mec=GREY, ms=9, label="kept epoch")
    figure.legend(
        *grid[0][0].get_legend_handles_labels(),
        loc="outside right upper",
        frameon=False,
        fontsize=8,
    )
    return save(figure, path)


def search_trajectory(
    trials: Sequence[Trial], labels: Sequence[str], chosen: int, path: Path
) -> Path:
    """Dev score, log-likelihood and alpha of every evaluation, the opening shaded.

    Args:
        trials: in their order; an alpha (g, n) is shown as its mean over the groups.
        labels: the n experts, in alpha's order.
        chosen: the index of the trial that the search returned.
    """
    n = len(labels)
    alphas = np.array([trial.alpha.reshape(-1, n).mean(axis=0) for trial in trials])  # (m, n)
    log_likelihood = _column([trial.log_likelihood for trial in trials])
    heights = [3.2, 1.1, 1.8] if np.isfinite(log_likelihood).any() else [3.2, 1.8]
    figure, grid = figure_of(len(heights), 1, (9.2, 1.1 * sum(heights)), heights)
    axes = [row[0] for row in grid]
    named = np.any([_pure(alphas), _centroid(alphas)], axis=0)
    initial_alphas = len(named) if named.all() else int(named.argmin())
    for ax in axes:
        ax.axvspan(-0.5, initial_alphas - 0.5, color="#F1F1F1", lw=0, zorder=0)
    _dots(axes[0], trials, alphas, chosen, list(colours(labels).values()))
    if len(axes) == 3:
        axes[1].plot(log_likelihood, ".-", color="#ABABAB", lw=0.8, ms=3)
        axes[1].set_ylabel("log-likelihood\n(nats)")
    _areas(axes[-1], alphas, labels)
    axes[-1].set(xlabel="evaluation", xlim=(-1, len(trials)))
    axes[-1].xaxis.get_major_locator().set_params(integer=True)
    figure.align_ylabels(axes)
    return save(figure, path)


def alpha_bars(alpha: Alpha, labels: Sequence[str], groups: Sequence[str], path: Path) -> Path:
    """The weight of each expert in the final model, beside the uniform average's.

    Args:
        alpha: (n,); or (g, n), drawn as one stacked bar a group.
        labels: the n experts.
        groups: the g groups of parameters.
    """
    if alpha.ndim == 2:
        return _group_bars(alpha, labels, groups, path)
    n, uniform = len(labels), 1 / len(labels)
    figure, grid = figure_of(1, 1, (6.4, 0.9 + 0.42 * n))
    axes = grid[0][0]
    bars = axes.barh(range(n), alpha, color=list(colours(labels).values()), height=0.66)
    axes.set_yticks(range(n), [caption(label) for label in labels])
    axes.axvline(uniform, color=INK, lw=1, ls=(0, (4, 3)), zorder=1.5)
    axes.bar_label(
        bars,
        fmt="%.3f",
        padding=4,
        fontsize=8,
        zorder=3,
        bbox={"facecolor": "white", "linewidth": 0, "pad": 0.6},
    )
    axes.set_title(f"dashed: uniform average, {uniform:.3f}", loc="right", fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="alpha", xlim=(0, max(0.2, uniform, alpha.max()) * 1.14))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return save(figure, path)


def _group_bars(alpha: Alpha, labels: Sequence[str], groups: Sequence[str], path: Path) -> Path:
    figure, grid = figure_of(1, 1, (7.4, 1.2 + 0.34 * len(groups)))
    axes = grid[0][0]
    left = np.zeros(len(groups))
    for widths, (label, colour) in zip(alpha.T, colours(labels).items(), strict=True):
        axes.barh(groups, widths, left=left, color=colour, height=0.66, label=caption(label))
        left += widths
    axes.invert_yaxis()
    axes.set(xlabel="alpha", xlim=(0, 1))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    legend(axes)
    return save(figure, path)


def _draw_curve(score: "Axes", loss: "Axes", curve: LearningCurve, colour: str) -> None:
    epochs = range(1, len(curve.scores) + 1)
    line = ".-" if len(epochs) <= 20 else "-"
    score.plot(epochs, curve.scores, line, color=colour)
    loss.plot(epochs, curve.losses, line, color=colour)
    best = curve.best_epoch - 1
    score.plot(epochs[best], curve.scores[best], "o", mfc="none", mec=colour, ms=9, mew=1.6)


def _monitored(members: Sequence[LearningCurve]) -> str:
    """What selected the epochs: without it the scores of a panel cannot be compared."""
    monitors = {curve.monitor for curve in members}
    return f"scored on {monitors.pop()}" if len(monitors) == 1 else "each scored on its task"


def best_so_far(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """The highest float32 score up to each trial, (m,); nan before the first."""
    scores = [trial.score if trial.precision == "fp32" else None for trial in trials]
    return np.fmax.accumulate(_column(scores))


def _dots(
    axes: "Axes",
    trials: Sequence[Trial],
    alphas: NDArray[np.float64],
    chosen: int,
    colour: Sequence[str],
) -> None:
    """Every score as a dot, the best so far as steps; experts and centroid stand out."""
    score = _column([trial.score for trial in trials])
    at = np.arange(len(score))
    pure, centroid = _pure(alphas), _centroid(alphas) & ~_pure(alphas)
    rest = ~pure & ~centroid
    axes.plot(at[rest], score[rest], "o", ms=3.6, mew=0, color="#9A9A9A", label="mixture")
    axes.scatter(
        at[pure],
        score[pure],
        s=36,
        marker="D",
        zorder=2.5,
        c=[colour[k] for k in alphas[pure].argmax(axis=1)],
    )
    axes.plot([], [], "D", ms=6, color=GREY, label="pure expert")
    axes.plot(at[centroid], score[centroid], "s", ms=6.5, color=INK, label="uniform average")
    axes.step(
        at, best_so_far(trials), where="post", color=INK, lw=1.3, label="best so far", zorder=1.5
    )
    axes.plot(
        chosen,
        score[chosen],
        "o",
        mfc="none",
        mec=INK,
        ms=11,
        mew=1.4,
        ls="",
        label=f"chosen, {score[chosen]:.2f} (evaluation {chosen})",
    )
    failed = at[np.isnan(score)]
    if len(failed):
        axes.plot(
            failed,
            np.full(len(failed), 0.03),
            "x",
            ms=6,
            color=INK,
            label="failed",
            transform=axes.get_xaxis_transform(),
        )
    axes.set_ylabel("dev score (points)")
    legend(axes)


def _areas(axes: "Axes", alphas: NDArray[np.float64], labels: Sequence[str]) -> None:
    """alpha (m, n) stacked, one evaluation wide each."""
    edges = np.arange(len(alphas) + 1) - 0.5
    tops = alphas.cumsum(axis=1)
    for k, (label, colour) in enumerate(colours(labels).items()):
        axes.stairs(
            tops[:, k],
            edges,
            baseline=tops[:, k] - alphas[:, k],
            fill=True,
            color=colour,
            label=caption(label),
            lw=0,
        )
    axes.set(ylabel="alpha", ylim=(0, 1))
    legend(axes, reverse=True)  # in the order in which the areas lie


def legend(axes: "Axes", reverse: bool = False) -> None:
    """A small legend, to the right of the axes."""
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=8,
        reverse=reverse,
    )


def _pure(alphas: NDArray[np.float64]) -> NDArray[np.bool_]:
    return alphas.max(axis=1) == 1


def _centroid(alphas: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.ptp(alphas, axis=1) < 1e-12


def _column(values: Sequence[float | None]) -> NDArray[np.float64]:
    """nan where there is none."""
    return np.array([np.nan if value is None else value for value in values])


def figure_of(
    rows: int,
    columns: int,
    size: tuple[float, float],
    heights: Sequence[float] | None = None,
    *,
    sharex: bool = True,
) -> "tuple[Figure, list[list[Axes]]]":
    """A figure on Agg, apart from pyplot, which would keep it and could open a window.

    Its axes are in rows.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex="col" if sharex else False, height_ratios=heights
    )
    axes: list[list[Axes]] = grid.tolist()
    for row in axes:
        for one in row:
            _plain(one)
    return figure, axes


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelsize=9)
    axes.grid(True, color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)


def save(figure: "Figure", path: Path) -> Path:
    """Write it, aside first, as the ending of `path` says: .png or .svg."""
    kind = path.suffix.removeprefix(".")
    undated = {"Date": None} if kind == "svg" else None  # the same picture is the same file
    with written_aside(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format=kind, metadata=undated)
    return path
