"""Pictures of regions in weight space: similarity, its tree, a plane, losses along paths."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfwe.reporting.plots import GREY, caption, colours, figure_of, legend, save

Matrix = NDArray[np.float64]


def heat_map(similar: Matrix, owners: Sequence[str], path: Path) -> Path:
    """Cosine similarity (n, n) of task vectors, models of one owner side by side."""
    n, names = len(owners), list(dict.fromkeys(owners))
    order = sorted(range(n), key=lambda i: names.index(owners[i]))
    figure, grid = figure_of(1, 1, (7.2, 6.2))
    figure.set_layout_engine("compressed")  # the squares leave the labels their room
    axes = grid[0][0]
    shown = similar[np.ix_(order, order)]
    apart = shown[~np.eye(n, dtype=bool)]
    image = axes.imshow(shown, cmap="viridis", vmin=min(0.0, apart.min()), vmax=apart.max())
    counts = [sum(owner == name for owner in owners) for name in names]
    edges = np.cumsum(counts)
    for edge in edges[:-1]:
        axes.axhline(edge - 0.5, color="white", lw=1)
        axes.axvline(edge - 0.5, color="white", lw=1)
    middles = edges - np.array(counts) / 2 - 0.5
    captions = [caption(name) for name in names]
    axes.set_xticks(middles, captions, rotation=45, ha="right")
    axes.set_yticks(middles, captions)
    axes.grid(False)
    figure.colorbar(image, ax=axes, label="cosine similarity of task vectors", shrink=0.85)
    return save(figure, path)


def dendrogram(linkage: Matrix, labels: Sequence[str], owners: Sequence[str], path: Path) -> Path:
    """The tree of average linkage on 1 - cosine; a model's name has its owner's colour."""
    from scipy.cluster.hierarchy import dendrogram, leaves_list

    figure, grid = figure_of(1, 1, (7.6, 1.2 + 0.2 * len(labels)))
    axes = grid[0][0]
    dendrogram(
        linkage,
        labels=[caption(label) for label in labels],
        orientation="right",
        ax=axes,
        color_threshold=0,
        above_threshold_color=GREY,
        leaf_font_size=8,
    )
    colour = colours(owners)
    leaves = np.asarray(leaves_list(linkage), dtype=np.int64)  # (n,), from the bottom up
    for text, leaf in zip(axes.get_yticklabels(), leaves, strict=True):
        text.set_color(colour[owners[int(leaf)]])
    axes.set_xlabel("1 - cosine similarity")
    axes.grid(False)
    return save(figure, path)


def plane_map(
    places: Matrix, shares: tuple[float, float], owners: Sequence[str], path: Path
) -> Path:
    """Models on the two directions in which they differ most; the centroid of each owner as x."""
    figure, grid = figure_of(1, 1, (7.4, 5.2))
    axes = grid[0][0]
    for name, colour in colours(owners).items():
        mine = places[[owner == name for owner in owners]]
        axes.plot(
            mine[:, 0], mine[:, 1], "o", color=colour, ms=6, mew=0, alpha=0.85, label=caption(name)
        )
        axes.plot(*mine.mean(0), "x", color=colour, ms=8)
    axes.set(
        xlabel=f"first direction ({shares[0]:.0%} of the variance)",
        ylabel=f"second direction ({shares[1]:.0%})",
    )
    legend(axes)
    return save(figure, path)


def loss_curves(curves: Mapping[str, Sequence[Mapping[str, float | None]]], path: Path) -> Path:
    """Generalised loss along lines, with 95 % bands.

    Args:
        curves: kind of line -> rows of t, mean, low, high, sorted by t; low and high may be None.
    """
    figure, grid = figure_of(1, 1, (7.8, 4.4))
    axes = grid[0][0]
    wide = False
    for kind, colour in colours(curves).items():
        rows = curves[kind]
        t, mean, low, high = (
            np.array([row[name] for row in rows], dtype=np.float64)  # nan for None
            for name in ("t", "mean", "low", "high")
        )
        axes.plot(t, mean, ".-", color=colour, label=kind)
        axes.fill_between(t, low, high, color=colour, alpha=0.18, lw=0)
        wide = wide or bool((np.abs(t) > 2).any())
    if wide:
        axes.set_xscale("symlog", linthresh=1.0)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:.1g}")
    axes.set(xlabel="t (0 and 1: the two models)", ylabel="generalised loss (nats)")
    legend(axes)
    return save(figure, path)
