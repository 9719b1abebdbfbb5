"""Pictures of a run: learning curves, the search's trajectory, the mixture's weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito's colours, which the colour-blind tell apart; one an expert, in the experts' order.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#B8A800", "#555555")
DPI = 150
STAGES = {"experts": "experts", "finetune": "fine-tuned on the target"}


def learning_curves(histories: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Dev score and training loss by epoch, one panel a stage; the kept epoch is ringed.

    Args:
        histories: `scores.json` of each training: stage, label, best_epoch, epochs.
    """
    stages = [stage for stage in STAGES if any(h["stage"] == stage for h in histories)]
    labels = list(dict.fromkeys(h["label"] for h in histories))
    figure, grid = _figure(2, len(stages), (4.6 * len(stages) + 1.6, 5.2))
    for column, stage in enumerate(stages):
        score, loss = grid[0][column], grid[1][column]
        for history in (h for h in histories if h["stage"] == stage):
            colour = COLOURS[labels.index(history["label"]) % len(COLOURS)]
            epochs = [row["epoch"] + 1 for row in history["epochs"]]
            scores = [row["score"] for row in history["epochs"]]
            score.plot(epochs, scores, ".-", color=colour, label=history["label"])
            best = history["best_epoch"]
            score.plot(best + 1, scores[best], "o", mfc="none", mec=colour, ms=9)
            loss.plot(epochs, [r["train_loss"] for r in history["epochs"]], ".-", color=colour)
        score.set_title(STAGES[stage], loc="left", fontsize=10)
        loss.set_xlabel("epoch")
        loss.xaxis.get_major_locator().set_params(integer=True)
    grid[0][0].set_ylabel("dev score (points)")
    grid[1][0].set_ylabel("training loss (nats a token)")
    figure.legend(*grid[0][0].get_legend_handles_labels(), loc="outside right upper",
                  frameon=False, fontsize=8)  # fmt: skip
    return _save(figure, path)


def search_trajectory(
    trials: Sequence[Mapping[str, Any]], labels: Sequence[str], path: Path
) -> Path:
    """Dev score and alpha of every evaluation, and the best score so far.

    Args:
        trials: rows of `trials.jsonl`; labels: the experts, in alpha's order.
    """
    figure, grid = _figure(2, 1, (8.0, 5.6))
    score, alpha = grid[0][0], grid[1][0]
    at = [trial["index"] for trial in trials]
    values = [float("nan") if t["score"] is None else t["score"] for t in trials]
    opening = len(labels) + (len(labels) > 1)
    score.plot(at[:opening], values[:opening], "s", color="#555555", ms=5, mfc="none",
               label="pure experts and centroid")  # fmt: skip
    score.plot(at[opening:], values[opening:], ".", color=COLOURS[0], label="search")
    best = [max(v for v in values[: k + 1] if v == v) for k in range(len(values))]
    score.step(at, best, where="post", color=COLOURS[3], lw=1.4, label="best so far")
    score.set_ylabel("dev score (points)")
    score.legend(frameon=False, fontsize=8, loc="lower right")
    shares = [[trial["alpha"][k] for trial in trials] for k in range(len(labels))]
    edges = [*(k - 0.5 for k in at), at[-1] + 0.5]
    base = [0.0] * len(trials)
    for k, (label, share) in enumerate(zip(labels, shares, strict=True)):
        top = [b + s for b, s in zip(base, share, strict=True)]
        alpha.stairs(top, edges, baseline=base, fill=True, color=COLOURS[k % len(COLOURS)],
                     label=label, lw=0)  # fmt: skip
        base = top
    alpha.set(xlabel="evaluation", ylabel="alpha", ylim=(0, 1), xlim=(-0.5, at[-1] + 0.5))
    figure.legend(*alpha.get_legend_handles_labels(), loc="outside lower center",
                  ncols=min(5, len(labels)), frameon=False, fontsize=8)  # fmt: skip
    return _save(figure, path)


def alpha_bars(alpha: Mapping[str, float], path: Path) -> Path:
    """The weight of each expert in the final model."""
    figure, grid = _figure(1, 1, (6.4, 0.9 + 0.42 * len(alpha)))
    axes = grid[0][0]
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(alpha))]
    bars = axes.barh(list(alpha), list(alpha.values()), color=colours, height=0.66)
    axes.bar_label(bars, fmt="%.3f", padding=4, fontsize=8)
    axes.invert_yaxis()
    axes.set(xlabel="alpha", xlim=(0, max(0.2, *alpha.values()) * 1.14))
    axes.grid(False, axis="y")
    return _save(figure, path)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(
        rows, columns, figsize=size, squeeze=False, sharex="col", layout="constrained"
    )
    for axes in grid.flat:
        _plain(axes)
    return figure, grid


def _plain(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#E4E4E4", lw=0.7)
    axes.set_axisbelow(True)


def _save(figure: "Figure", path: Path) -> Path:
    from matplotlib import pyplot

    aside = path.with_name(f".{path.name}.part")
    figure.savefig(aside, dpi=DPI, format="png")
    pyplot.close(figure)
    aside.replace(path)
    return path
