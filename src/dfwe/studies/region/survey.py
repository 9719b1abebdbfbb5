"""A folder of checkpoints as it is: which belong together, which stand apart, which to average."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import UserError
from dfwe.pipeline.recipe import Recipe, digest
from dfwe.studies.region.contents import SurveyResults
from dfwe.studies.region.geometry import (
    Matrix,
    cosine,
    gram,
    mean_cosine,
    pictures,
    tree,
    variance,
)
from dfwe.training.freezing import backbone_prefix

VERSION = 1
SEPARATE = 0.1  # silhouette below which models count as one region
GAP = 0.1  # of the mean cosine inside regions over that across, below which they count as one
NEAREST = 3


@dataclass(frozen=True)
class Survey:
    """What the geometry of checkpoints says.

    Args:
        labels: (n,) the checkpoints.
        regions: groups of checkpoints that belong together, the largest first.
        outliers: checkpoints that belong to none.
        clear: whether the checkpoints fall into regions at all.
        nearest: checkpoint -> the others by similarity, the best first: what to mix it with.
        products: (n, n) inner products of the task vectors.
    """

    labels: tuple[str, ...]
    regions: tuple[tuple[str, ...], ...]
    outliers: tuple[str, ...]
    clear: bool
    nearest: dict[str, tuple[str, ...]]
    products: Matrix

    @property
    def owners(self) -> list[str]:
        """The region of each checkpoint."""
        names = {
            label: f"region {number}"
            for number, members in enumerate(self.regions, 1)
            for label in members
        }
        return [names.get(label, "outlier") for label in self.labels]

    @property
    def recipe(self) -> Recipe:
        """The survey's address in a logger; it has no weights and is not kept in the store."""
        settings = {"labels": self.labels, "products": digest(self.products.tolist())}
        return Recipe("region-survey", VERSION, settings)

    def results(self) -> SurveyResults:
        """What `results.json` contains."""
        index = {label: i for i, label in enumerate(self.labels)}
        return {
            "regions": [
                {
                    "average": list(members),
                    "variance": variance(self.products, [index[label] for label in members]),
                }
                for members in self.regions
            ],
            "outliers": list(self.outliers),
            "clear": self.clear,
            "sources": {label: list(others[:NEAREST]) for label, others in self.nearest.items()},
            "labels": list(self.labels),
            "cosine": cosine(self.products).tolist(),
        }

    def pictures(self, folder: Path) -> list[Path]:
        """Heat map, tree and plane; regions in their order, outliers last."""
        rank = {label: k for k, members in enumerate(self.regions) for label in members}
        labels = sorted(self.labels, key=lambda label: rank.get(label, len(self.regions)))
        order = [self.labels.index(label) for label in labels]
        owners = [self.owners[i] for i in order]
        return pictures(self.products[np.ix_(order, order)], labels, owners, folder)


def survey(labels: Sequence[str], products: Matrix) -> Survey:
    """Cut the tree of average linkage where the silhouette is best.

    Lone leaves are outliers, and so are models whose task vectors point apart on average. Where
    those of one region are hardly more alike than those of two, there are no regions to tell.
    """
    similar = cosine(products)
    clusters = _cut(similar)
    clear = bool(clusters.any())
    regions: list[tuple[str, ...]] = []
    for cluster in np.unique(clusters):
        members = np.flatnonzero(clusters == cluster).tolist()
        names = tuple(labels[i] for i in members)
        together = len(names) > 1 and mean_cosine(similar, members) > 0
        regions += [names] if together else [(name,) for name in names]
    nearest = {
        label: tuple(labels[int(j)] for j in np.argsort(-similar[i], kind="stable") if j != i)
        for i, label in enumerate(labels)
    }
    largest_first = sorted(regions, key=len, reverse=True)
    return Survey(
        labels=tuple(labels),
        regions=tuple(names for names in largest_first if len(names) > 1),
        outliers=tuple(names[0] for names in regions if len(names) == 1),
        clear=clear,
        nearest=nearest,
        products=products,
    )


def survey_folders(
    checkpoints: Sequence[str], base: str | None = None, cache: Path | None = None
) -> Survey:
    """Survey checkpoints by the similarity of their task vectors.

    Args:
        checkpoints: folders of checkpoints, or folders of several such folders.
        base: the checkpoint that the task vectors start from; None is the checkpoints' mean.
        cache: where flat copies are kept of checkpoints that cannot be mapped.

    Raises:
        UserError: fewer than three checkpoints, or different architectures.
    """
    from dfwe.studies.region.backbones import backbone_row, backbone_space
    from dfwe.weights.rows import read_row

    folders = _folders(checkpoints)
    if len(folders) < 3:
        raise UserError(
            f"checkpoints={list(checkpoints)} names {len(folders)} checkpoints; "
            "three or more are needed to see which belong together."
        )
    names = [folder.name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    start = folders[0] if base is None else Path(base).expanduser()
    read = partial(read_row, cache=cache)
    space, network, _ = backbone_space(start, folders, labels, read)
    if base is None:
        return survey(labels, gram(space.rows[:-1]))
    origin = backbone_row(read(start), start, space.layout, backbone_prefix(network))
    return survey(labels, gram(space.rows[:-1], origin))


def recommended(survey: str, target: str) -> list[str]:
    """The sources that `stage=region` recommends for a target.

    Args:
        survey: its `results.json`, of a grid or of checkpoints named after their tasks.

    Raises:
        UserError: the file is missing or of another stage, or the target is not in it.
    """
    path = Path(survey).expanduser()
    try:
        sources = json.loads(path.read_text())["sources"]
        known = {name: [str(other) for other in others] for name, others in sources.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"sources.survey={survey} is no results.json of stage=region; run "
            "`dfwe stage=region checkpoints=[FOLDER]` and name the one "
            "in its folder."
        ) from None
    if target not in known:
        raise UserError(
            f"sources.survey={survey} knows nothing of '{target}', only of "
            f"{', '.join(known)}; survey a checkpoint in a folder named '{target}', "
            "or name sources.list=[...] yourself."
        )
    return known[target]


def _cut(similar: Matrix) -> NDArray[np.int64]:
    """The cluster (n,) of each model: of all cuts of the tree that with the best silhouette."""
    from scipy.cluster.hierarchy import fcluster
    from sklearn.metrics import silhouette_score

    linkage, n = tree(similar), len(similar)
    apart = np.clip(1.0 - similar, 0.0, None)
    np.fill_diagonal(apart, 0.0)
    best, score = np.zeros(n, dtype=np.int64), SEPARATE
    for k in range(2, n):
        clusters = np.asarray(fcluster(linkage, k, "maxclust"), dtype=np.int64)
        if len(np.unique(clusters)) == k:
            silhouette = float(silhouette_score(apart, clusters, metric="precomputed"))
            if silhouette > score and _gap(similar, clusters) > GAP:
                best, score = clusters, silhouette
    return best


def _gap(similar: Matrix, clusters: NDArray[np.int64]) -> float:
    """How far the mean cosine of pairs of one cluster is above that of pairs of two."""
    pairs = np.triu_indices(len(similar), 1)
    same = (clusters[:, None] == clusters)[pairs]
    values = similar[pairs]
    return float(values[same].mean() - values[~same].mean()) if same.any() else 0.0


def _folders(checkpoints: Sequence[str]) -> list[Path]:
    """The folders of single checkpoints, those inside a folder sorted by name."""
    folders: list[Path] = []
    for item in checkpoints:
        root = Path(item).expanduser()
        inside = sorted(path.parent for path in root.glob("*/config.json"))
        if not inside and not (root / "config.json").is_file():
            raise UserError(
                f"{root} is not a checkpoint and contains none; name folders that "
                "save_pretrained wrote, or a folder of them."
            )
        folders += [root] if (root / "config.json").is_file() else inside
    return folders
