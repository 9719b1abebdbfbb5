"""A folder of checkpoints as it is: which belong together, which stand apart, which to average."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfwe.errors import UserError
from dfwe.pipeline.recipe import Recipe, digest
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
NEAREST = 3


@dataclass(frozen=True)
class Survey:
    """What the geometry of checkpoints says.

    Args:
        labels: (n,) the checkpoints.
        regions: groups of checkpoints that belong together, the largest first.
        outliers: checkpoints that belong to none.
        nearest: checkpoint -> the others by similarity, the best first: what to mix it with.
        products: (n, n) inner products of the task vectors.
    """

    labels: tuple[str, ...]
    regions: tuple[tuple[str, ...], ...]
    outliers: tuple[str, ...]
    nearest: dict[str, tuple[str, ...]]
    products: Matrix

    @property
    def owners(self) -> list[str]:
        """The region of each checkpoint."""
        names = {label: f"region {k + 1}" for k, held in enumerate(self.regions) for label in held}
        return [names.get(label, "outlier") for label in self.labels]

    @property
    def recipe(self) -> Recipe:
        """What the logger calls it: a survey makes no weights and is not kept in the store."""
        settings = {"labels": self.labels, "products": digest(self.products.tolist())}
        return Recipe("region-survey", VERSION, settings)

    def results(self) -> dict[str, Any]:
        """`results.json`; `sources` are the experts to give DFWE for a target of that name."""
        index = {label: i for i, label in enumerate(self.labels)}
        return {
            "regions": [
                {
                    "average": list(held),
                    "variance": variance(self.products, [index[x] for x in held]),
                }
                for held in self.regions
            ],
            "outliers": list(self.outliers),
            "sources": {label: list(held[:NEAREST]) for label, held in self.nearest.items()},
            "labels": list(self.labels),
            "cosine": cosine(self.products).tolist(),
        }

    def pictures(self, folder: Path) -> list[Path]:
        """Heat map, tree and plane; regions in their order, outliers last."""
        rank = {label: k for k, held in enumerate(self.regions) for label in held}
        labels = sorted(self.labels, key=lambda label: rank.get(label, len(self.regions)))
        order = [self.labels.index(label) for label in labels]
        owners = [self.owners[i] for i in order]
        return pictures(self.products[np.ix_(order, order)], labels, owners, folder)


def survey(labels: Sequence[str], products: Matrix) -> Survey:
    """Cut the tree of average linkage where the silhouette is best.

    Lone leaves are outliers, and so are models whose task vectors point apart on average.
    """
    similar = cosine(products)
    found = _cut(similar)
    regions: list[tuple[str, ...]] = []
    for cluster in np.unique(found):
        members = np.flatnonzero(found == cluster).tolist()
        names = tuple(labels[i] for i in members)
        together = len(names) > 1 and mean_cosine(similar, members) > 0
        regions += [names] if together else [(name,) for name in names]
    nearest = {
        label: tuple(labels[int(j)] for j in np.argsort(-similar[i], kind="stable") if j != i)
        for i, label in enumerate(labels)
    }
    kept = sorted((held for held in regions if len(held) > 1), key=len, reverse=True)
    outliers = tuple(held[0] for held in regions if len(held) == 1)
    return Survey(tuple(labels), tuple(kept), outliers, nearest, products)


def survey_folders(
    checkpoints: Sequence[str], base: str | None = None, cache: Path | None = None
) -> Survey:
    """Survey checkpoints, or folders that hold them; similarity is around `base` or their mean.

    Raises:
        UserError: fewer than three checkpoints, or different architectures.
    """
    from dfwe.studies.region.backbones import backbone_row, backbone_space

    folders = _folders(checkpoints)
    if len(folders) < 3:
        raise UserError(
            f"checkpoints={list(checkpoints)} names {len(folders)} checkpoints; "
            "three or more are needed to see which belong together."
        )
    names = [folder.name for folder in folders]
    labels = names if len(set(names)) == len(names) else [str(folder) for folder in folders]
    start = folders[0] if base is None else Path(base).expanduser()
    space, network, _ = backbone_space(start, folders, labels, cache)
    if base is None:
        return survey(labels, gram(space.rows[:-1]))
    origin = backbone_row(start, space.layout, backbone_prefix(network), cache)
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
        found = json.loads(path.read_text())["sources"]
        known = {name: [str(other) for other in others] for name, others in found.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise UserError(
            f"sources.survey={survey} is no results.json of stage=region; run "
            "`python -m dfwe.run stage=region checkpoints=[FOLDER]` and name the one "
            "in its folder."
        ) from None
    if target not in known:
        raise UserError(
            f"sources.survey={survey} knows nothing of '{target}', only of "
            f"{', '.join(known)}; survey a checkpoint in a folder named '{target}', "
            "or name sources.list=[...] yourself."
        )
    return known[target]


def _cut(similar: Matrix) -> np.ndarray:
    """The cluster (n,) of each model."""
    from scipy.cluster.hierarchy import fcluster
    from sklearn.metrics import silhouette_score

    linkage, n = tree(similar), len(similar)
    apart = np.clip(1.0 - similar, 0.0, None)
    np.fill_diagonal(apart, 0.0)
    best, score = np.zeros(n, dtype=int), SEPARATE
    for k in range(2, n):
        found = fcluster(linkage, k, "maxclust")
        if len(set(found.tolist())) == k:
            reached = float(silhouette_score(apart, found, metric="precomputed"))
            if reached > score:
                best, score = found, reached
    return best


def _folders(checkpoints: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for item in checkpoints:
        root = Path(item).expanduser()
        inside = sorted(path.parent for path in root.glob("*/config.json"))
        if not inside and not (root / "config.json").is_file():
            raise UserError(
                f"{root} is no checkpoint and holds none; name folders that "
                "save_pretrained wrote, or a folder of them."
            )
        found += [root] if (root / "config.json").is_file() else inside
    return found
