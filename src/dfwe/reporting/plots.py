"""Pictures of a run: learning curves, the search's trajectory, the mixture's weights."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfwe.pipeline.files import temporary_sibling

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


def learning_curves(histories: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Dev score and training loss by epoch, one panel a stage; the kept epoch is ringed.

    Args:
        histories: `scores.json` of each training: stage, label, best_epoch, epochs.
    """
    stages = [stage for stage in STAGES if any(h["stage"] == stage for h in histories)]
    colour = colours(h["label"] for h in histories)
    figure, grid = figure_of(2, len(stages), (4.6 * len(stages) + 1.8, 5.2), [2, 1])
    for column, stage in enumerate(stages):
        score, loss = grid[0][column], grid[1][column]
        members = [h for h in histories if h["stage"] == stage]
        for history in members:
            _curve(score, loss, history, colour[history["label"]])
        score.set_title(f"{STAGES[stage]}, {_monitored(members)}", loc="left", fontsize=10)
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    grid[0][0].set_ylabel("dev score (points)")
    grid[1][0].set_ylabel("training loss\n(nats a token)")
    figure.align_ylabels(grid[:, 0])
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
    trials: Sequence[Mapping[str, Any]], labels: Sequence[str], chosen: int, path: Path
) -> Path:
    """Dev score, log-likelihood and alpha of every evaluation, the opening shaded.

    Args:
        trials: rows of `trials.jsonl`; an alpha (g, n) is shown as its mean over the groups.
        labels: the n experts, in alpha's order.
        chosen: the trial that the search found the best.
    """
    n = len(labels)
    alphas = np.array([np.reshape(t["alpha"], (-1, n)).mean(axis=0) for t in trials])  # (m, n)
    log_likelihood = _column(trials, "log_likelihood")
    heights = [3.2, 1.1, 1.8] if np.isfinite(log_likelihood).any() else [3.2, 1.8]
    figure, grid = figure_of(len(heights), 1, (9.2, 1.1 * sum(heights)), heights)
    axes = list(grid[:, 0])
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


def alpha_bars(alpha: Mapping[str, Any], path: Path) -> Path:
    """The weight of each expert in the final model, beside the uniform average's.

    Args:
        alpha: expert -> weight; or group -> expert -> weight, drawn as one stacked bar a group.
    """
    if any(isinstance(value, Mapping) for value in alpha.values()):
        return _group_bars(alpha, path)
    uniform = 1 / len(alpha)
    figure, grid = figure_of(1, 1, (6.4, 0.9 + 0.42 * len(alpha)))
    axes = grid[0][0]
    bars = axes.barh(
        range(len(alpha)), list(alpha.values()), color=list(colours(alpha).values()), height=0.66
    )
    axes.set_yticks(range(len(alpha)), [caption(label) for label in alpha])
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
    axes.set(xlabel="alpha", xlim=(0, max(0.2, uniform, *alpha.values()) * 1.14))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return save(figure, path)


def _group_bars(alpha: Mapping[str, Mapping[str, float]], path: Path) -> Path:
    labels = list(dict.fromkeys(label for weights in alpha.values() for label in weights))
    figure, grid = figure_of(1, 1, (7.4, 1.2 + 0.34 * len(alpha)))
    axes = grid[0][0]
    left = np.zeros(len(alpha))
    for label, colour in colours(labels).items():
        widths = np.array([weights[label] for weights in alpha.values()])
        axes.barh(list(alpha), widths, left=left, color=colour, height=0.66, label=caption(label))
        left += widths
    axes.invert_yaxis()
    axes.set(xlabel="alpha", xlim=(0, 1))
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    legend(axes)
    return save(figure, path)


def _curve(score: "Axes", loss: "Axes", history: Mapping[str, Any], colour: str) -> None:
    rows = history["epochs"]
    epochs = [row["epoch"] + 1 for row in rows]
    line = ".-" if len(rows) <= 20 else "-"
    score.plot(epochs, [row["score"] for row in rows], line, color=colour)
    loss.plot(epochs, [row["train_loss"] for row in rows], line, color=colour)
    best = next(row for row in rows if row["epoch"] == history["best_epoch"])
    score.plot(best["epoch"] + 1, best["score"], "o", mfc="none", mec=colour, ms=9, mew=1.6)


def _monitored(members: Sequence[Mapping[str, Any]]) -> str:
    """What selected the epochs: without it the scores of a panel cannot be compared."""
    monitors = {history["monitor"] for history in members}
    return f"scored on {monitors.pop()}" if len(monitors) == 1 else "each scored on its own task"


def best_so_far(trials: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The highest float32 score up to each trial, (m,); nan before the first."""
    counts = [t["score"] is not None and t["precision"] == "fp32" for t in trials]
    return np.fmax.accumulate(np.where(counts, _column(trials, "score"), np.nan))


def _dots(
    axes: "Axes",
    trials: Sequence[Mapping[str, Any]],
    alphas: NDArray[np.float64],
    chosen: int,
    colour: Sequence[str],
) -> None:
    """Every score as a dot, the best so far as steps; experts and centroid stand out."""
    score = _column(trials, "score")
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


def _column(trials: Sequence[Mapping[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([np.nan if t[name] is None else t[name] for t in trials], dtype=np.float64)


def figure_of(
    rows: int,
    columns: int,
    size: tuple[float, float],
    heights: Sequence[float] | None = None,
    *,
    sharex: bool = True,
) -> tuple["Figure", Any]:
    """A figure of its own, on Agg: pyplot would keep it and could open a window."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(
        rows, columns, squeeze=False, sharex="col" if sharex else False, height_ratios=heights
    )
    for axes in grid.flat:
        _plain(axes)
    return figure, grid


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.tick_params(color=GREY, labelsize=9)
    axes.grid(True, color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)


def save(figure: "Figure", path: Path) -> Path:
    """Write it, aside first, as the ending of `path` says: .png or .svg."""
    temporary, kind = temporary_sibling(path), path.suffix.removeprefix(".")
    undated = {"Date": None} if kind == "svg" else None  # the same picture is the same file
    figure.savefig(temporary, dpi=DPI, format=kind, metadata=undated)
    temporary.replace(path)
    return path
