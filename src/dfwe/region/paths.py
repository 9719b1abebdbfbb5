"""Ways through weight space as arrays of alpha (m, n): lines, convex hulls, outward, noise."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from torch import Tensor

Alphas = NDArray[np.float64]
STEPS, REACH = 10, 32.0  # of extrapolation, as in the paper: 1 to 32 and 0 to -31


def corner(n: int, i: int) -> Alphas:
    """alpha (n,) of model i itself."""
    return np.eye(n)[i]


def line(n: int, i: int, j: int, t: ArrayLike) -> Alphas:
    """(m, n): from model i at t = 0 to model j at t = 1, and beyond for any other t (m,)."""
    places = np.asarray(t, dtype=np.float64)[:, None]
    return (1 - places) * corner(n, i) + places * corner(n, j)


def outward(steps: int = STEPS, reach: float = REACH) -> Alphas:
    """t (2 steps,) on a line through two models, in log steps: -(reach - 1)..0 and 1..reach."""
    right = np.geomspace(1.0, reach, steps)
    return np.concatenate([(1.0 - right)[::-1], right])


def centroid(n: int, members: Sequence[int]) -> Alphas:
    """alpha (n,) of the uniform average of `members`."""
    alpha = np.zeros(n)
    alpha[list(members)] = 1.0 / len(members)
    return alpha


def inside(n: int, members: Sequence[int], count: int, seed: int) -> Alphas:
    """(count, n): random points of the members' convex hull, uniform over alpha (In')."""
    alphas = np.zeros((count, n))
    drawn = np.random.default_rng(seed).dirichlet(np.ones(len(members)), count)
    alphas[:, list(members)] = drawn
    return alphas


def perturbed(base: "Tensor", norm: float, seed: int) -> "Tensor":
    """The base (P,) moved by `norm` in a random direction: as far away, but nowhere special."""
    import torch

    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))
    return base + noise * (norm / noise.norm())


def breaks(t: Sequence[float], losses: Sequence[float], limit: float) -> float | None:
    """The smallest t >= 1 at which the loss exceeds `limit`; None if it never does."""
    beyond = [
        place
        for place, loss in sorted(zip(t, losses, strict=True))
        if place >= 1 and not loss <= limit
    ]
    return beyond[0] if beyond else None
