"""Regret of other libraries' optimisers on the landscapes of `regret.py`, at equal budgets.

`make outside` writes benchmarks/outside.json and the table in docs/search.md.

Each optimiser spends what a search of ours spends: the experts and their average come first and
count, then it proposes points of n - 1 free coordinates that a chart turns into an alpha, and
the result is the best of all trials as it is in `dfwe.search.loop`. What a library sets by
default stays, but for the first step, the start and the seed.
"""

import argparse
import contextlib
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from math import log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import helmert
from scipy.optimize import differential_evolution, minimize
from scipy.special import softmax

from dfwe.search.simplex import initial_alphas
from friends import ROOT, show
from regret import DEFAULT, EXPERTS, TABLES, Cell, contenders, ended, markdown_values, summary

from landscapes import Landscape, landscape  # isort: skip  (regret puts tools/ on the path)

Floats = NDArray[np.float64]
Value = Callable[[Floats], float]  # (n - 1,) -> points, higher is better
LIBRARIES = ("scipy", "cma", "optuna", "cmaes", "nevergrad")
CELLS = [cell for cells in TABLES.values() for cell in cells if cell.budget == 60]
AGAIN = 20  # proposals for each evaluation of the budget, of which most were made before


FLOOR = 0.01  # of a weight, where logits are told: a corner is infinitely far away
PLANE = helmert(EXPERTS)  # (n - 1, n), orthonormal, each row's sum 0


@dataclass(frozen=True)
class Chart:
    """n - 1 coordinates of the simplex, in which no expert is apart from the others.

    Args:
        name: of the map.
        alpha: (n - 1,) -> (n,), any point to one of the simplex.
        coordinates: (n,) -> (n - 1,), a point that `alpha` maps there, or near.
        reach: of the box, -reach to reach in each coordinate, for those that need one.
        step: a first step, or standard deviation.
    """

    name: str
    alpha: Callable[[Floats], Floats]
    coordinates: Callable[[Floats], Floats]
    reach: float
    step: float


def projection(x: Floats) -> Floats:
    """The point of the simplex next to the one at x (Held, Wolfe & Crowder 1974)."""
    whole = 1.0 / EXPERTS + x @ PLANE
    falling = np.sort(whole)[::-1]
    excess = (np.cumsum(falling) - 1.0) / np.arange(1, EXPERTS + 1)
    return np.maximum(whole - excess[np.flatnonzero(falling > excess)[-1]], 0.0)


CORNER = sqrt(1.0 - 1.0 / EXPERTS)  # from a corner to the centroid
CHARTS = (
    Chart("projection", projection, lambda alpha: PLANE @ alpha, reach=CORNER, step=0.35),
    Chart(
        "softmax",
        lambda z: softmax(z @ PLANE),
        lambda alpha: PLANE @ np.log(np.maximum(alpha, FLOOR)),
        reach=-log(FLOOR) * CORNER,
        step=1.0,
    ),
)


class Spent(Exception):
    """The budget is spent."""


class Asked:
    """The dev score of alphas on a landscape; one that was scored before costs nothing."""

    def __init__(self, land: Landscape, budget: int) -> None:
        self.land = land
        self.budget = budget
        self.calls = 0
        self.trials: dict[bytes, tuple[float, float, Floats]] = {}  # score, likelihood, alpha

    def __call__(self, alpha: Floats) -> float:
        self.calls += 1
        if alpha.tobytes() not in self.trials:
            if len(self.trials) == self.budget:
                raise Spent
            likelihood = self.land.log_likelihood(alpha)
            self.trials[alpha.tobytes()] = (self.land.dev(alpha), likelihood, alpha)
        elif self.calls > AGAIN * self.budget:
            raise Spent
        return self.trials[alpha.tobytes()][0]

    @property
    def best(self) -> Floats:
        """The best trial, ties by log-likelihood, then the earlier one."""
        return max(self.trials.values(), key=lambda trial: trial[:2])[2]


@dataclass(frozen=True)
class Problem:
    """What an optimiser is given.

    Args:
        value: to be maximised; raises `Spent`.
        start: (n - 1,), the best of the opening.
        opening: (n + 1, n - 1), what was scored before.
        scores: (n + 1,), of it.
        chart: with its box and step.
        left: evaluations.
        seed: of everything drawn.
    """

    value: Value
    start: Floats
    opening: Floats
    scores: Floats
    chart: Chart
    left: int
    seed: int

    def loss(self, x: Floats) -> float:
        return -self.value(np.asarray(x, dtype=float))

    @property
    def box(self) -> list[tuple[float, float]]:
        return [(-self.chart.reach, self.chart.reach)] * len(self.start)


def scipy_minimize(problem: Problem, method: str, **options: Any) -> None:
    minimize(problem.loss, problem.start, method=method, options=options)


def nelder_mead_steps(problem: Problem) -> None:
    """SciPy's adaptive Nelder-Mead from a simplex as large as the other first steps."""
    steps = problem.chart.step * np.eye(len(problem.start))
    first = np.concatenate([problem.start[None], problem.start + steps])
    scipy_minimize(problem, "Nelder-Mead", initial_simplex=first, adaptive=True)


def powell(problem: Problem) -> None:
    minimize(problem.loss, problem.start, method="Powell", bounds=problem.box)


def cobyla(problem: Problem) -> None:
    scipy_minimize(problem, "COBYLA", rhobeg=problem.chart.step, maxiter=problem.left)


def evolution(problem: Problem) -> None:
    """Differential evolution with three members a coordinate: by default the first generation
    alone has fifteen, more than the budget."""
    differential_evolution(
        problem.loss,
        problem.box,
        x0=problem.start,
        popsize=3,
        polish=False,
        rng=problem.seed,
    )


def pycma(problem: Problem) -> None:
    import cma

    options = {"seed": problem.seed + 1, "verbose": -9}  # 0 would mean the time
    strategy = cma.CMAEvolutionStrategy(problem.start, problem.chart.step, options)
    while not strategy.stop():
        points = strategy.ask()
        strategy.tell(points, [problem.loss(x) for x in points])


def optuna_study(problem: Problem, sampler: str, **options: Any) -> None:
    """An optuna study that knows the opening's scores."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if sampler == "CmaEsSampler":
        names = {f"x{i}": value for i, value in enumerate(problem.start)}
        options = {"x0": names, "sigma0": problem.chart.step}
    drawn = getattr(optuna.samplers, sampler)(seed=problem.seed, **options)
    study = optuna.create_study(direction="maximize", sampler=drawn)
    space: dict[str, Any] = {
        f"x{i}": optuna.distributions.FloatDistribution(*ends)
        for i, ends in enumerate(problem.box)
    }
    for x, score in zip(problem.opening, problem.scores, strict=True):
        params = dict(zip(space, x.tolist(), strict=True))
        known = optuna.trial.create_trial(params=params, distributions=space, value=score)
        study.add_trial(known)
    while True:
        trial = study.ask(space)
        study.tell(trial, problem.value(np.array([trial.params[name] for name in space])))


def nevergrad_optimizer(problem: Problem, name: str) -> None:
    import nevergrad

    reach = problem.chart.reach
    array = nevergrad.p.Array(init=problem.start, lower=-reach, upper=reach)
    array.random_state.seed(problem.seed)
    optimizer = nevergrad.optimizers.registry[name](array, budget=problem.left)
    while True:
        candidate = optimizer.ask()
        optimizer.tell(candidate, problem.loss(candidate.value))


@dataclass(frozen=True)
class Outside:
    """An optimiser, and on how many of the landscapes it is run at most."""

    run: Callable[[Problem], None]
    landscapes: int = 100
    charts: tuple[Chart, ...] = CHARTS


OPTIMISERS = {
    "scipy Nelder-Mead": Outside(partial(scipy_minimize, method="Nelder-Mead")),
    "scipy Nelder-Mead, adaptive, large first steps": Outside(nelder_mead_steps),
    "scipy Powell": Outside(powell),
    "scipy COBYLA": Outside(cobyla),
    "scipy differential_evolution": Outside(evolution),
    "cma": Outside(pycma),
    "optuna RandomSampler": Outside(partial(optuna_study, sampler="RandomSampler")),
    "optuna TPESampler": Outside(partial(optuna_study, sampler="TPESampler"), 40),
    "optuna CmaEsSampler": Outside(partial(optuna_study, sampler="CmaEsSampler"), 60),
    "optuna GPSampler": Outside(partial(optuna_study, sampler="GPSampler"), 5, CHARTS[1:]),
    "nevergrad NGOpt": Outside(partial(nevergrad_optimizer, name="NGOpt"), 40),
    "nevergrad OnePlusOne": Outside(partial(nevergrad_optimizer, name="OnePlusOne")),
    "nevergrad TwoPointsDE": Outside(partial(nevergrad_optimizer, name="TwoPointsDE")),
}


def ended_outside(
    optimiser: Callable[[Problem], None], chart: Chart, land: Landscape, budget: int, seed: int
) -> tuple[float, int]:
    """The regret of the best of its trials, and how many there are."""
    asked, alphas = Asked(land, budget), initial_alphas(EXPERTS)
    scores = np.array([asked(alpha) for alpha in alphas])
    problem = Problem(
        lambda x: asked(chart.alpha(x)),
        chart.coordinates(asked.best),
        np.stack([chart.coordinates(alpha) for alpha in alphas]),
        scores,
        chart,
        budget - len(alphas),
        seed,
    )
    with contextlib.suppress(Spent):
        optimiser(problem)
    return land.regret(asked.best), len(asked.trials)


def measure(cell: Cell, landscapes: int, seconds: dict[str, float]) -> dict[str, Floats]:
    """Name -> (2, landscapes): regret and evaluations; adds what each took to `seconds`."""
    lands = [landscape(cell.kind, s, EXPERTS, cell.examples) for s in range(landscapes)]
    default = contenders(cell.budget, 0)[DEFAULT]
    rows = {DEFAULT: np.array([ended(default, land) for land in lands]).T}
    for name, optimiser in OPTIMISERS.items():
        for chart in optimiser.charts:
            began = time.monotonic()
            pairs = [
                ended_outside(optimiser.run, chart, land, cell.budget, seed)
                for seed, land in enumerate(lands[: optimiser.landscapes])
            ]
            key = f"{name}, {chart.name}"
            rows[key] = np.array(pairs).T
            seconds[key] = seconds.get(key, 0.0) + time.monotonic() - began
    return rows


def ranked(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By the mean difference from the default over the cells."""
    means = {
        name: np.mean([cell["difference"][0] for cell in row.values()])
        for name, row in rows.items()
    }
    return {name: rows[name] for name in sorted(rows, key=lambda name: means[name])}


def table(rows: dict[str, dict[str, Any]], cells: Sequence[Cell]) -> str:
    """Markdown: how far the others are from the default, whose row has its regret."""
    lines = [
        f"| optimiser | simplex by | landscapes | {' | '.join(cell.name for cell in cells)} |",
        "|---|---|---:|" + "---:|" * len(cells),
    ]
    for name, row in rows.items():
        optimiser, chart = (f"`{name}`", "") if name == DEFAULT else name.rsplit(", ", 1)
        number = max(row[cell.name]["landscapes"] for cell in cells)
        lines.append(f"| {optimiser} | {chart} | {number} | {markdown_values(name, row, cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--landscapes", type=int, default=100, help="of each kind, at most")
    landscapes = parser.parse_args().landscapes
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    began = time.monotonic()
    seconds: dict[str, float] = {}
    measured = {cell.name: measure(cell, landscapes, seconds) for cell in CELLS}
    rows = summary(measured)
    for cell, values in measured.items():
        for name, pairs in values.items():
            rows[name][cell]["landscapes"] = pairs.shape[1]
    rows = ranked(rows)
    print(table(rows, CELLS))
    print(json.dumps(seconds, indent=1))
    print(f"{time.monotonic() - began:.0f} s")
    report = {"experts": EXPERTS, "versions": {name: version(name) for name in LIBRARIES}}
    show("search.md", table(rows, CELLS), "outside")
    path = ROOT / "benchmarks" / "outside.json"
    path.write_text(json.dumps({**report, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
