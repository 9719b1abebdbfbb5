"""Nelder-Mead on the simplex with the adaptive coefficients of Gao & Han (2012)."""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dfwe.errors import UserError
from dfwe.search.evaluation import Evaluations
from dfwe.search.simplex import (
    Alphas,
    Opening,
    Outcome,
    Shape,
    Strategy,
    centroid,
    default_evaluations,
    fits,
    grouped,
    left_of,
    shape_of,
)
from dfwe.settings import Count, Share, Whole, checked

RESOLUTION = 1e-4  # a simplex smaller than this in every weight is converged
ROUNDING = 1e-12  # a weight so little below its least is that
FLATTEST = 0.1  # least height of a simplex of measured alphas, over the root of n
RESOLVED = 1.96  # standard errors of a difference that is more than noise
Start = Literal["best", "centroid", "noise"]
Reach = Annotated[float, Field(ge=1)]

Points = NDArray[np.float64]  # (m, d) free coordinates, d = g (n - 1)
Values = NDArray[np.float64]  # (m,), minus the scores: a minimiser inside
Answer = TypeVar("Answer")
Asking = Generator[Shape | Opening | Alphas, Evaluations, Answer]


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


@checked
def nelder_mead(
    n: int,
    *,
    evaluations: Count | None = None,
    iterations: Whole = 40,
    start: Start = "best",
    shrink: Share = 0.35,
    leave_out: bool = False,
    groups: int = 1,
) -> Strategy:
    """Maximise over alpha (n,): `evaluations = yield alphas`.

    The search runs in the first n - 1 weights; the last is what is left of one. Points outside
    the simplex are rejected without an evaluation.

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the opening included; None is 120, or
            more so that the opening is a third of them.
        iterations: at most so many rounds of reflection and its consequences.
        start: the centre of the first simplex: "best" (of the opening), "centroid", or "noise":
            the centroid where it is at most one standard error below the best, else the best.
        shrink: the first simplex has the vertices (1 - shrink) centre + shrink e_i.
        leave_out: leave out experts that are below the best one by more than dev can resolve, 1.96
            standard errors of the difference: their weights stay 0.
        groups: parameter groups with separate weights; alphas are (m, g, n) if several.

    Raises:
        UserError: `start` is something else, or `shrink` is not above 0 and at most 1; or the
            noise is needed and not known.
    """
    first, kept = yield from _opened(n, start, shrink, leave_out, groups)
    budget = left_of(evaluations, n)
    return (yield from _on_face(descend(first, budget, iterations), kept, n))


@checked
def parallel_nelder_mead(
    n: int,
    *,
    evaluations: Count | None = None,
    iterations: Whole = 40,
    start: Start = "best",
    shrink: Share = 0.35,
    leave_out: bool = False,
    groups: int = 1,
) -> Strategy:
    """The path of `nelder_mead`, with all that an iteration may need proposed as one batch.

    Reflection, expansion and both contractions are scored together: about 1.7 times the
    evaluations, so that it pays where `search(..., map=pool.map)` has an executor of three or
    more workers (`concurrent.futures`). Arguments as there.
    """
    first, kept = yield from _opened(n, start, shrink, leave_out, groups)
    budget = left_of(parallel_evaluations(n) if evaluations is None else evaluations, n)
    return (yield from _on_face(descend(first, budget, iterations, together=True), kept, n))


def parallel_evaluations(n: int) -> int:
    """What `parallel_nelder_mead` needs for the path of `nelder_mead` by default."""
    return 5 * default_evaluations(n) // 3


@checked
def cone(
    n: int,
    *,
    evaluations: Count | None = None,
    iterations: Whole = 40,
    reach: Reach = 1.5,
    shrink: Share = 0.35,
    slope: bool = False,
    groups: int = 1,
    depths: Sequence[float] | None = None,
) -> Strategy:
    """Nelder-Mead over theta_0 + s sum_i alpha_i (theta_i - theta_0), s in 0..reach.

    The last expert is theta_0; its weight, 1 - s, may be as low as 1 - reach. With one other
    expert this is the line of WiSE-FT (Wortsman et al. 2022); equal alpha are those of task
    arithmetic (Ilharco et al. 2023).

    With a slope, s varies linearly with a group's depth d, s (1 + t (2 d - 1)), and t in -1..1 is
    one more coordinate; alphas are (m, g, n).

    Args:
        n: the number of experts, theta_0 included.
        evaluations: at most so many alphas are proposed, the opening included.
        iterations: at most so many rounds of reflection and its consequences.
        reach: the largest s.
        shrink: of the first simplex, around the best of the opening.
        slope: whether s varies with depth.
        groups: of parameters, g.
        depths: (g,), of each group, 0 at the embedding and 1 at the head; for a slope.

    Raises:
        UserError: there are groups and no slope, or a slope and no depths.
    """
    if slope != (depths is not None) or slope != (groups > 1):
        raise UserError(
            "search=cone gives all parameters one alpha, or with search.strategy.slope=true a "
            "slope over the depth of transformer blocks: set that and search/groups=block, or "
            "neither."
        )
    first, _ = yield from _opened(n, "best", shrink, False, groups)
    budget, least = left_of(evaluations, n), 1.0 - reach
    if depths is None:
        return (yield from descend(first, budget, iterations, least=least))
    level = first[:n, 0, :-1]  # (n, n - 1), the plain cone's
    middle = np.append(level.mean(axis=0), shrink)
    points = np.concatenate([np.c_[level, np.zeros(n)], middle[None]])
    return (yield from _descend(points, _Sloped(np.array(depths), least), budget, iterations))


def _opened(
    n: int, start: Start, shrink: float, leave_out: bool, groups: int
) -> Asking[tuple[Alphas, NDArray[np.intp]]]:
    """The opening is asked for; then the first simplex, over the experts that are kept."""
    opening = yield shape_of(n, groups)
    scores, errors = opening.values, None
    if start == "noise" or leave_out:
        if opening.noise is None:
            raise UserError(
                "A search that asks what dev can resolve needs the answers of its candidates; "
                "set search.strategy.start=best and search.strategy.leave_out=false."
            )
        errors = opening.noise(opening.trials)
    kept, best = np.arange(n), int(np.argmax(scores))
    if leave_out and errors is not None:
        top = int(np.argmax(scores[:n]))
        resolved = RESOLVED * errors[top, :n]
        kept = np.flatnonzero(scores[:n] >= scores[top] - resolved)
    average = start == "centroid" or best == n
    if start == "noise" and errors is not None and n > 1:
        average = average or bool(scores[n] >= scores[best] - errors[best, n])
    k = len(kept)
    centre = centroid(k)[0] if average else (kept == best).astype(float)
    return first_simplex(centre, shrink, groups), kept


def _on_face(inner: Strategy, kept: NDArray[np.intp], n: int) -> Strategy:
    """A strategy over some of the experts as one over all n: the others' weights are 0."""
    try:
        alphas = next(inner)
        while True:
            assert isinstance(alphas, np.ndarray)
            whole = np.zeros((*alphas.shape[:-1], n))
            whole[..., kept] = alphas
            alphas = inner.send((yield whole))
    except StopIteration as stop:
        return stop.value


def first_simplex(centre: NDArray[np.float64], shrink: float, groups: int = 1) -> Alphas:
    """g (n - 1) + 1 alphas: the simplex shrunk toward `centre` (n,).

    With several groups: those n with the same weights in every group, then each group but the
    last by itself toward all experts but the centre's largest, where the centre may be itself;
    together they are affinely independent.
    """
    n = len(centre)
    shrunk = (1.0 - shrink) * centre + shrink * np.eye(n)
    others = np.delete(shrunk, centre.argmax(), axis=0)
    separate = np.tile(centre, ((groups - 1) * (n - 1), groups, 1))
    for row, alpha in enumerate(separate):
        alpha[row // (n - 1)] = others[row % (n - 1)]
    return np.concatenate([grouped(shrunk, groups), separate]) if groups > 1 else shrunk


def best_simplex(alphas: Alphas, values: NDArray[np.float64]) -> NDArray[np.intp]:
    """Positions of n measured alphas to continue from, affinely independent and the best that are.

    The best is taken first, then each that lies off the plane through those taken, as far as a
    pure expert always does.

    Args:
        alphas: (m, n), all pure experts among them.
        values: (m,), higher is better.
    """
    n = alphas.shape[1]
    first, *others = np.argsort(-values, kind="stable").tolist()
    chosen, plane = [first], np.zeros((0, n))  # orthonormal rows
    for position in others:
        edge = alphas[position] - alphas[first]
        off = edge - plane.T @ (plane @ edge)
        if (distance := np.linalg.norm(off)) > FLATTEST / np.sqrt(n):
            chosen.append(position)
            plane = np.concatenate([plane, off[None] / distance])
    return np.array(chosen)


def descend(
    start: Alphas,
    budget: int,
    iterations: int,
    *,
    values: NDArray[np.float64] | None = None,
    together: bool = False,
    least: float = 0.0,
) -> Strategy:
    """Nelder-Mead from the simplex `start` with at most `budget` evaluations.

    Args:
        start: (d + 1, n) or (d + 1, g, n).
        budget: evaluations that are left.
        iterations: at most so many rounds.
        values: (d + 1,), of the start, higher is better; None asks for them.
        together: ask for all that a round may need at once.
        least: the least weight of the last expert.
    """
    points = start[..., :-1].reshape(len(start), -1)  # (d + 1, d)
    chart = _Simplex(start.shape[1:], least)
    known = None if values is None else -values
    return (yield from _descend(points, chart, budget, iterations, known, together=together))


def _descend(
    x: Points,
    chart: "_Chart",
    budget: int,
    iterations: int,
    known: Values | None = None,
    *,
    together: bool = False,
) -> Strategy:
    """Nelder-Mead from the vertices `x` (d + 1, d) of free coordinates, whose values are `known`
    or asked for."""
    if x.size == 0:  # one expert: nothing to search
        return Outcome()
    if known is None and not fits(
        "The first simplex of Nelder-Mead", int(chart.alphas(x)[1].sum()), budget
    ):
        return Outcome()
    c = Coefficients.adaptive(x.shape[1])
    asked = _Asked(budget, chart)
    iteration = 0
    try:
        f = (yield from asked.values(x)) if known is None else known
        while iteration < iterations:
            order = np.argsort(f, kind="stable")
            x, f = x[order], f[order]
            if np.abs(x[1:] - x[0]).max() < RESOLUTION:
                break
            if together:
                yield from asked.ahead(_line(x, c))
            x, f = yield from _iterate(x, f, c, asked)
            iteration += 1
    except _Spent:
        pass
    return Outcome(iteration)


def _line(x: Points, c: Coefficients) -> Points:
    """Reflection, expansion, outside and inside contraction of the worst vertex, (4, d)."""
    mean = x[:-1].mean(axis=0)
    steps = (c.rho, c.rho * c.chi, c.rho * c.psi, -c.psi)
    return np.stack([(1 + t) * mean - t * x[-1] for t in steps])


def _iterate(
    x: Points, f: Values, c: Coefficients, asked: "_Asked"
) -> Asking[tuple[Points, Values]]:
    """The simplex after one iteration on the sorted vertices `x` (d + 1, d) of values `f`."""
    reflected, expanded, outside, inside = _line(x, c)
    fr = yield from asked.value(reflected)
    if fr < f[0]:
        fe = yield from asked.value(expanded)
        return _replaced(x, f, *((expanded, fe) if fe < fr else (reflected, fr)))
    if fr < f[-2]:
        return _replaced(x, f, reflected, fr)
    contracted = outside if fr < f[-1] else inside
    fc = yield from asked.value(contracted)
    accepted = fc <= fr if fr < f[-1] else fc < f[-1]
    if accepted:
        return _replaced(x, f, contracted, fc)
    shrunk = x[0] + c.sigma * (x[1:] - x[0])  # stays inside: the feasible set is convex
    values = yield from asked.values(shrunk)
    return np.concatenate([x[:1], shrunk]), np.concatenate([f[:1], values])


def _replaced(x: Points, f: Values, point: Points, value: float) -> tuple[Points, Values]:
    return np.concatenate([x[:-1], point[None]]), np.append(f[:-1], value)


class _Spent(Exception):
    """The budget does not allow what is asked next."""


@dataclass(frozen=True)
class _Simplex:
    """All weights but the last expert's are free coordinates.

    Args:
        shape: of an alpha, (n,) or (g, n).
        least: the least weight of the last expert; the others' is 0.
    """

    shape: tuple[int, ...]
    least: float

    def alphas(self, points: Points) -> tuple[Alphas, NDArray[np.bool_]]:
        """The alphas of points (m, d), and which are feasible, (m,)."""
        free = points.reshape(len(points), *self.shape[:-1], self.shape[-1] - 1)
        return _completed(free, self.least)


@dataclass(frozen=True)
class _Sloped:
    """The weights of all experts but theta_0, and how they change with depth.

    Args:
        depths: (g,), 0..1.
        least: the least weight of theta_0.
    """

    depths: NDArray[np.float64]
    least: float

    def alphas(self, points: Points) -> tuple[Alphas, NDArray[np.bool_]]:
        """The alphas (m, g, n) of points (m, n), and which are feasible, (m,)."""
        free, slope = points[:, None, :-1], points[:, -1:]
        factor = 1.0 + slope * (2.0 * self.depths - 1.0)  # (m, g)
        alphas, feasible = _completed(factor[..., None] * free, self.least)
        low = np.minimum(points[:, :-1].min(axis=1), 1.0 - np.abs(points[:, -1]))
        return alphas, feasible & (low >= -ROUNDING)


_Chart = _Simplex | _Sloped


def _completed(free: NDArray[np.float64], least: float) -> tuple[Alphas, NDArray[np.bool_]]:
    """Weights (m, ..., n - 1) with what is left of one, and which lie inside, (m,)."""
    alphas = np.concatenate([free, 1.0 - free.sum(axis=-1, keepdims=True)], axis=-1)
    low = np.append(np.zeros(free.shape[-1]), least)
    margins = (alphas - low).reshape(len(alphas), -1).min(axis=1)
    return np.maximum(alphas, low), margins >= -ROUNDING


class _Asked:
    """Values of points: infeasible ones are the worst unasked; ends when the budget is spent.

    Args:
        budget: evaluations left.
        chart: from points to alphas.
    """

    def __init__(self, budget: int, chart: _Chart) -> None:
        self.budget = budget
        self.chart = chart
        self.known: dict[bytes, float] = {}

    def values(self, points: Points) -> Asking[Values]:
        """(m,): asks for all of them in one batch."""
        alphas, feasible = self.chart.alphas(points)
        values = np.full(len(points), np.inf)
        if feasible.any():
            if feasible.sum() > self.budget:
                raise _Spent
            self.budget -= int(feasible.sum())
            evaluations = yield alphas[feasible]
            values[feasible] = -evaluations.values
        return values

    def value(self, point: Points) -> Asking[float]:
        """One point's value: looked up when asked ahead."""
        if point.tobytes() in self.known:
            return self.known[point.tobytes()]
        return float((yield from self.values(point[None]))[0])

    def ahead(self, points: Points) -> Asking[None]:
        """Ask for points that may be wanted soon; forgets those asked ahead before."""
        values = yield from self.values(points)
        self.known = {p.tobytes(): v for p, v in zip(points, values.tolist(), strict=True)}
