"""Nelder-Mead on the simplex with the adaptive coefficients of Gao & Han (2012)."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfwe.search.simplex import Alphas, opening

Proposals = Generator[Alphas, NDArray[np.float64], int]  # returns its iterations
RESOLUTION = 1e-4  # a simplex smaller than this in every weight is converged


@dataclass(frozen=True)
class Coefficients:
    """Reflection, expansion, contraction and shrinkage."""

    rho: float
    chi: float
    psi: float
    sigma: float

    @classmethod
    def adaptive(cls, dimension: int) -> "Coefficients":
        """Gao & Han (2012), Eq. 4.1; the standard ones in one dimension, where they degenerate."""
        d = max(dimension, 2)
        return cls(rho=1.0, chi=1.0 + 2.0 / d, psi=0.75 - 1.0 / (2.0 * d), sigma=1.0 - 1.0 / d)


def nelder_mead(
    n: int, *, evaluations: int = 120, iterations: int = 40, shrink: float = 0.5
) -> Proposals:
    """Maximise over alpha (n,): `scores = yield alphas`.

    The search runs in the first n - 1 weights; the last is what is left of one. Points outside
    the simplex are rejected without an evaluation.

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the opening included.
        iterations: at most so many rounds of reflection and its consequences.
        shrink: the first simplex has the vertices (1 - shrink) centroid + shrink e_i.
    """
    yield opening(n)
    if n == 1:
        return 0
    budget = evaluations - len(opening(n))
    vertices = ((1.0 - shrink) / n + shrink * np.eye(n))[:, :-1]  # (n, n - 1)
    if budget < n:
        return 0
    values = -(yield _alphas(vertices))  # a minimiser inside
    budget -= n
    c = Coefficients.adaptive(n - 1)
    for iteration in range(iterations):
        order = np.argsort(values, kind="stable")
        vertices, values = vertices[order], values[order]
        if np.abs(vertices[1:] - vertices[0]).max() < RESOLUTION:
            return iteration
        spent = yield from _iterate(vertices, values, c, budget)
        if spent is None:
            return iteration
        budget -= spent
    return iterations


def _iterate(
    x: NDArray[np.float64], f: NDArray[np.float64], c: Coefficients, budget: int
) -> Generator[Alphas, NDArray[np.float64], int | None]:
    """One iteration on sorted vertices `x` (n, n - 1) with values `f`, changed in place.

    Returns:
        The evaluations spent, or None when the budget does not allow the next one.
    """
    spent = 0
    mean = x[:-1].mean(axis=0)

    def ask(point: NDArray[np.float64]) -> Generator[Alphas, NDArray[np.float64], float | None]:
        nonlocal spent
        if not _feasible(point):
            return np.inf
        if spent == budget:
            return None
        spent += 1
        scores = yield _alphas(point[None])
        return -float(scores[0])

    def replace(point: NDArray[np.float64], value: float) -> None:
        x[-1], f[-1] = point, value

    reflected = (1 + c.rho) * mean - c.rho * x[-1]
    fr = yield from ask(reflected)
    if fr is None:
        return None
    if fr < f[0]:
        expanded = (1 + c.rho * c.chi) * mean - c.rho * c.chi * x[-1]
        fe = yield from ask(expanded)
        if fe is None:
            replace(reflected, fr)
            return None
        replace(*((expanded, fe) if fe < fr else (reflected, fr)))
        return spent
    if fr < f[-2]:
        replace(reflected, fr)
        return spent
    side = c.psi * c.rho if fr < f[-1] else -c.psi  # outside or inside contraction
    contracted = (1 + side) * mean - side * x[-1]
    fc = yield from ask(contracted)
    if fc is None:
        return None
    if (fr < f[-1] and fc <= fr) or (fr >= f[-1] and fc < f[-1]):
        replace(contracted, fc)
        return spent
    if spent + len(x) - 1 > budget:
        return None
    x[1:] = x[0] + c.sigma * (x[1:] - x[0])  # shrink: stays inside, the simplex is convex
    f[1:] = -(yield _alphas(x[1:]))
    return spent + len(x) - 1


def _feasible(point: NDArray[np.float64]) -> bool:
    return bool((point >= 0).all() and point.sum() <= 1)


def _alphas(points: NDArray[np.float64]) -> Alphas:
    """Free coordinates (m, n - 1) -> weights (m, n)."""
    return np.column_stack([points, 1.0 - points.sum(axis=1)])
