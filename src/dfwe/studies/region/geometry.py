"""Where fine-tuned models lie: task vectors, their similarity and clusters (2302.04863, sec. 3).

Everything follows from one matrix of inner products of the task vectors theta_i - theta_0, which
is summed block by block, so that no model is ever in memory as a whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 1 << 18  # elements of each model at a time
Matrix = NDArray[np.float64]


def gram(rows: "Sequence[Tensor]", origin: "Tensor | None" = None, block: int = BLOCK) -> Matrix:
    """Inner products (n, n) of the task vectors of `rows` (P,), which start at `origin` (P,).

    Without an origin they start at the rows' mean.
    """
    import torch

    size, n = rows[0].shape[0], len(rows)
    total = np.zeros((n, n))
    for start in range(0, size, block):
        part = torch.stack([row[start : start + block] for row in rows])  # (n, block)
        part -= part.mean(0) if origin is None else origin[start : start + block]
        total += (part @ part.T).double().numpy()
    return total


def cosine(products: Matrix) -> Matrix:
    """Cosine similarity (n, n) of the task vectors; 0 with a model that never moved."""
    norms = np.sqrt(np.diag(products))
    scale = np.outer(norms, norms)
    similar = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    np.fill_diagonal(similar, 1.0)
    return np.clip(similar, -1.0, 1.0)


def distances(products: Matrix) -> Matrix:
    """Euclidean distances (n, n) between the models."""
    squares = np.diag(products)
    return np.sqrt(np.maximum(squares[:, None] + squares[None] - 2 * products, 0.0))


def mean_cosine(similar: Matrix, members: Sequence[int]) -> float:
    """The mean cosine over the pairs of at least two members."""
    among = similar[np.ix_(members, members)]
    return float(among[~np.eye(len(among), dtype=bool)].mean())


def variance(products: Matrix, members: Sequence[int]) -> float:
    """Mean squared distance of a cluster's models from their centroid."""
    among = products[np.ix_(members, members)]
    return float(np.trace(among) / len(members) - among.mean())


def spectral(similar: Matrix, k: int, seed: int = 0) -> NDArray[np.int64]:
    """The cluster (n,) of each model: spectral clustering on the cosine, negatives as none."""
    from sklearn.cluster import spectral_clustering

    # A hair above zero keeps the graph connected; scikit-learn warns of one that is not.
    affinity = np.maximum(similar, 1e-9)
    clusters = spectral_clustering(affinity, n_clusters=k, random_state=seed)
    return np.asarray(clusters, dtype=np.int64)


@dataclass(frozen=True)
class Agreement:
    """How well clusters match the true groups; 1 is perfect.

    Args:
        accuracy: of the best one-to-one matching of clusters and groups, 0..1.
        f1: macro, under that matching, 0..1; a group without a cluster counts as 0.
        ari: adjusted Rand index, -0.5..1.
    """

    accuracy: float
    f1: float
    ari: float


def agreement(clusters: Sequence[int], truth: Sequence[str]) -> Agreement:
    """Compare the cluster (n,) of each model with its true group (n,)."""
    from scipy.optimize import linear_sum_assignment
    from sklearn.metrics import adjusted_rand_score

    ids, rows = np.unique(clusters, return_inverse=True)
    names, columns = np.unique(truth, return_inverse=True)
    counts = np.zeros((len(ids), len(names)), dtype=np.int64)  # models by cluster and group
    np.add.at(counts, (rows, columns), 1)
    i, j = np.asarray(linear_sum_assignment(-counts), dtype=np.int64)  # the matching
    matched = counts[i, j]
    f1 = np.zeros(len(names))
    f1[j] = 2 * matched / (counts.sum(1)[i] + counts.sum(0)[j])
    return Agreement(
        accuracy=float(matched.sum() / len(truth)),
        f1=float(f1.mean()),
        ari=float(adjusted_rand_score(truth, clusters)),
    )


def plane(products: Matrix) -> tuple[Matrix, tuple[float, float]]:
    """Coordinates (n, 2) that keep distances best, and each axis's share of the variance."""
    n = len(products)
    centre = np.eye(n) - 1.0 / n
    values, vectors = np.linalg.eigh(centre @ products @ centre)
    values = np.maximum(values[::-1], 0.0)
    shares = values[:2] / max(values.sum(), 1e-300)
    return vectors[:, ::-1][:, :2] * np.sqrt(values[:2]), (float(shares[0]), float(shares[1]))


def tree(similar: Matrix) -> Matrix:
    """Average linkage on 1 - cosine, as SciPy's matrix (n - 1, 4)."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import squareform

    apart = 1.0 - (similar + similar.T) / 2
    np.fill_diagonal(apart, 0.0)
    return np.asarray(linkage(squareform(apart, checks=False), "average"), dtype=np.float64)


def pictures(
    products: Matrix, labels: Sequence[str], owners: Sequence[str], folder: Path
) -> list[Path]:
    """Heat map, tree and plane of the models in `folder`."""
    from dfwe.reporting.maps import dendrogram, heat_map, plane_map

    similar = cosine(products)
    return [
        heat_map(similar, owners, folder / "cosine.png"),
        dendrogram(tree(similar), labels, owners, folder / "tree.png"),
        plane_map(*plane(products), owners, folder / "plane.png"),
    ]
