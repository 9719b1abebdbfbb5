"""Points of the simplex: the opening that every search begins with."""

import numpy as np
from numpy.typing import NDArray

Alphas = NDArray[np.float64]  # (m, n), rows on the simplex


def corners(n: int) -> Alphas:
    """The n pure experts, (n, n)."""
    return np.eye(n)


def centroid(n: int) -> Alphas:
    """The uniform average, (1, n)."""
    return np.full((1, n), 1.0 / n)


def opening(n: int) -> Alphas:
    """What every search scores first, (n + 1, n): the result is never worse than an expert.

    One expert is its own centroid: (1, 1).
    """
    return corners(n) if n == 1 else np.concatenate([corners(n), centroid(n)])
