"""Strategies to compare Nelder-Mead with: soups, lines, coordinates, random search."""

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import UserError
from dfwe.search.nelder_mead import RESOLUTION, descend, first_simplex
from dfwe.search.simplex import (
    Alphas,
    Outcome,
    Strategy,
    centroid,
    experts,
    fits,
    initial_alphas,
    left_of,
    shape_of,
)
from dfwe.settings import Count, Points, Positive, Share, Whole, checked


@checked
def uniform(n: int, *, groups: int = 1) -> Strategy:
    """The plain average of all experts (uniform soup), whatever the scores are."""
    yield shape_of(n, groups)
    return Outcome(candidates=centroid(n, groups))


@checked
def single_experts(n: int, *, groups: int = 1) -> Strategy:
    """The best single expert."""
    yield shape_of(n, groups)
    return Outcome(candidates=experts(n, groups))


@checked
def greedy_soup(n: int) -> Strategy:
    """Wortsman et al. (2022), recipe 1: experts by score, each kept if the average is no worse."""
    scores = (yield n).values
    first, *others = np.argsort(-scores[:n], kind="stable").tolist()
    soup, best = [first], scores[first]
    for expert in others:
        score = (yield _average([*soup, expert], n)[None]).values[0]
        if score >= best:
            soup, best = [*soup, expert], score
    return Outcome(iterations=n - 1, candidates=_average(soup, n)[None])


@checked
def line(
    n: int, *, start: int | str = "centroid", end: int | str = "best", points: Points = 11
) -> Strategy:
    """WiSE-FT (Wortsman et al. 2022): the best of (1 - t) start + t end, t evenly in 0..1.

    Args:
        start: an expert's number from 0, "best" (the best expert) or "centroid".
        end: likewise.
        points: how many values of t, both ends included.
    """
    known = ["centroid", "best", *range(n)]
    for name in (start, end):
        if name not in known:
            raise UserError(f"A line cannot end at {name!r}; choose one of {known}.")
    scores = (yield n).values
    ends = {"centroid": centroid(n)[0], "best": experts(n)[np.argmax(scores[:n])]}
    ends |= {expert: alpha for expert, alpha in enumerate(experts(n))}
    t = np.linspace(0.0, 1.0, points)[:, None]
    alphas = (1 - t) * ends[start] + t * ends[end]
    yield alphas
    return Outcome(candidates=alphas)


@checked
def rays(n: int, *, end: Positive = 1.0, points: Points = 11) -> Strategy:
    """The best of (1 - t) e_0 + t e_i over t evenly in 0..end and every other expert i.

    From a base, the first expert, through each of several merges; beyond t = 1 the base's weight
    is negative.

    Args:
        n: the number of experts, the base included.
        end: the largest t.
        points: values of t for each, both ends included.
    """
    yield n
    base, *others = experts(n)
    t = np.linspace(0.0, end, points)[1:, None]
    alphas = np.concatenate([base[None], *((1 - t) * base + t * other for other in others)])
    yield alphas
    return Outcome(candidates=alphas)


@checked
def lattice(n: int, *, points: Points = 9) -> Strategy:
    """Every alpha whose entries are multiples of 1 / (points - 1): a landscape, for a few experts.

    Args:
        points: on each edge, both ends included.
    """
    yield n
    steps = points - 1
    cuts = combinations(range(steps + n - 1), n - 1)  # stars and bars
    edges = np.array([(-1, *cut, steps + n - 1) for cut in cuts])
    yield (np.diff(edges) - 1) / steps
    return Outcome()


@checked
def coordinate(n: int, *, evaluations: Count | None = None, width: Positive = 0.5) -> Strategy:
    """Line searches from the best alpha toward and away from each expert in turn.

    Every step proposes (1 - t) alpha + t e_i at t = -w, -w/2, w/2, w, as far as alpha_i stays
    at or above zero; w begins at `width` and halves with each round over the experts.
    """
    alphas = initial_alphas(n)
    scores = (yield n).values
    budget = left = left_of(evaluations, n)
    rounds = 0
    best, value = alphas[np.argmax(scores)], scores.max()
    while n > 1 and width > RESOLUTION:
        for corner in experts(n):
            alphas = _toward(best, corner, width)
            if len(alphas) > left:
                if left == budget:
                    fits("The first line search", len(alphas), left)
                return Outcome(rounds)
            if len(alphas) > 0:
                scores = (yield alphas).values
                left -= len(alphas)
                if scores.max() > value:
                    best, value = alphas[np.argmax(scores)], scores.max()
        rounds, width = rounds + 1, width / 2
    return Outcome(rounds)


@checked
def dirichlet(
    n: int,
    *,
    evaluations: Count | None = None,
    concentration: Positive = 1.0,
    seed: Whole = 0,
    groups: int = 1,
) -> Strategy:
    """Random search: alphas from the symmetric Dirichlet distribution, uniform at 1."""
    yield shape_of(n, groups)
    draws = left_of(evaluations, n)
    if n > 1 and fits("Random search", 1, draws):
        yield _draws(n, draws, concentration, seed, groups)
    return Outcome()


@checked
def dirichlet_nelder_mead(
    n: int,
    *,
    evaluations: Count | None = None,
    iterations: Whole = 40,
    shrink: Share = 0.35,
    draws: Whole = 10,
    seed: Whole = 0,
) -> Strategy:
    """A short random search, then Nelder-Mead from the simplex shrunk around its best alpha.

    Args:
        evaluations: of both together, the opening included.
        iterations: of Nelder-Mead.
        shrink: the first simplex has the vertices (1 - shrink) best + shrink e_i.
        draws: the random alphas, uniform on the simplex.
    """
    alphas = initial_alphas(n)
    scores = (yield n).values
    left = left_of(evaluations, n)
    draws = min(draws, left)
    if draws > 0 and n > 1:
        drawn = _draws(n, draws, 1.0, seed)
        left -= draws
        alphas, scores = np.concatenate([alphas, drawn]), np.append(scores, (yield drawn).values)
    start = first_simplex(alphas[np.argmax(scores)], shrink)
    return (yield from descend(start, left, iterations))


def _average(experts: list[int], n: int) -> NDArray[np.float64]:
    alpha = np.zeros(n)
    alpha[experts] = 1.0 / len(experts)
    return alpha


def _toward(alpha: NDArray[np.float64], expert: NDArray[np.float64], width: float) -> Alphas:
    share = float(alpha @ expert)
    if share == 1.0:
        return np.empty((0, len(alpha)))
    least = -share / (1.0 - share)
    t = np.unique(np.clip([-width, -width / 2, width / 2, width], least, 1.0))
    t = t[t != 0.0][:, None]
    return np.maximum((1 - t) * alpha + t * expert, 0.0)


def _draws(n: int, m: int, concentration: float, seed: int, groups: int = 1) -> Alphas:
    """(m, n) or (m, g, n); more draws of one seed begin with the fewer."""
    shape = (m,) if groups == 1 else (m, groups)
    return np.random.default_rng(seed).dirichlet(np.full(n, concentration), size=shape)
