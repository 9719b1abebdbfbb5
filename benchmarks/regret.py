"""Regret of every strategy on the synthetic dev splits of `tools/landscapes.py`, at equal budgets.

`python benchmarks/regret.py` writes benchmarks/regret.json and the tables in docs/search.md.
"""

import argparse
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfwe.search import baselines
from dfwe.search.cma_es import cma_es
from dfwe.search.evaluation import Evaluation, Trial
from dfwe.search.loop import Ties, likeliest, search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import Strategy
from friends import ROOT, show

sys.path.append(str(ROOT / "tools"))
from landscapes import Kind, Landscape, landscape

DEFAULT = "nelder_mead"
EXPERTS, BUDGETS = 5, (60, 120)


@dataclass(frozen=True)
class Cell:
    """A column of a table: landscapes of one kind, and a budget."""

    kind: Kind
    examples: int
    budget: int

    @property
    def name(self) -> str:
        return f"{self.kind}, dev {self.examples}, {self.budget}"


TABLES = {
    "steep": [Cell(kind, 200, budget) for kind in ("interior", "edge") for budget in BUDGETS],
    "flat": [Cell("flat", examples, 60) for examples in (100, 200, 1300)],
}


@dataclass(frozen=True)
class Contender:
    """A strategy, what breaks its ties, and whether the likeliest within an error is chosen."""

    strategy: Callable[[int], Strategy]
    ties: Ties = "none"
    likeliest: bool = False


def contenders(budget: int, seed: int) -> dict[str, Contender]:
    """The strategies as `conf/search` declares them, but for the budget and the seed."""
    default = partial(nelder_mead, evaluations=budget)
    mixed = partial(baselines.dirichlet_nelder_mead, evaluations=budget, seed=seed)
    centroid = partial(nelder_mead, evaluations=budget, start="centroid", shrink=0.5)
    noise = partial(nelder_mead, evaluations=budget, start="noise")
    return {
        DEFAULT: Contender(default),
        "nelder_mead, start=centroid shrink=0.5": Contender(centroid),
        "nelder_mead, start=noise": Contender(noise),
        "nelder_mead, ties=log_likelihood": Contender(default, ties="log_likelihood"),
        "nelder_mead, the likeliest within an error": Contender(default, likeliest=True),
        "parallel_nelder_mead": Contender(partial(parallel_nelder_mead, evaluations=budget)),
        "dirichlet_nelder_mead": Contender(mixed),
        "cma_es": Contender(partial(cma_es, evaluations=budget, seed=seed)),
        "coordinate": Contender(partial(baselines.coordinate, evaluations=budget)),
        "dirichlet": Contender(partial(baselines.dirichlet, evaluations=budget, seed=seed)),
        "line": Contender(baselines.line),
        "greedy_soup": Contender(baselines.greedy_soup),
        "uniform": Contender(baselines.uniform),
        "single_experts": Contender(baselines.single_experts),
    }


def measure(cell: Cell, seeds: int) -> dict[str, NDArray[np.float64]]:
    """Contender -> (2, seeds): regret and evaluations on the same landscapes."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        land = landscape(cell.kind, seed, EXPERTS, cell.examples)
        for name, contender in contenders(cell.budget, seed).items():
            pairs.setdefault(name, []).append(ended(contender, land))
    return {name: np.array(values).T for name, values in pairs.items()}


def ended(contender: Contender, land: Landscape) -> tuple[float, int]:
    """The regret of what a contender chooses on a landscape, and its evaluations."""
    result = search(
        contender.strategy(EXPERTS),
        lambda alpha: Evaluation(land.dev(alpha), land.log_likelihood(alpha)),
        ties=contender.ties,
        noise=lambda trials: _errors(trials, land),
    )
    chosen = result.best
    if contender.likeliest:
        chosen = likeliest(result.within(_errors(result.trials, land)[chosen.index]))
    return land.regret(chosen.alpha), result.evaluations


def _errors(trials: Sequence[Trial], land: Landscape) -> NDArray[np.float64]:
    """The standard error of each difference of two accuracies, in points: as of paired answers."""
    right = np.stack([land.answers(trial.alpha) for trial in trials]).astype(float)
    apart = right[:, None] - right[None]
    return 100 * apart.std(axis=2, ddof=1) / sqrt(right.shape[1])


def summary(cells: dict[str, dict[str, NDArray[np.float64]]]) -> dict[str, dict[str, Any]]:
    """Means with standard errors; differences from the default are paired by landscape.

    A contender may have the first landscapes alone.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in next(iter(cells.values())):
        rows[name] = {}
        for cell, measured in cells.items():
            regret, evaluations = measured[name]
            rows[name][cell] = {
                "evaluations": float(evaluations.mean()),
                "regret": _mean(regret),
                "difference": _mean(regret - measured[DEFAULT][0][: len(regret)]),
            }
    return rows


def _mean(values: NDArray[np.float64]) -> list[float]:
    """The mean and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / sqrt(len(values)))]


def table(rows: dict[str, dict[str, Any]], cells: Sequence[Cell]) -> str:
    """Markdown: the default's regret, and how far the others are from it."""
    lines = [
        f"| strategy | {' | '.join(cell.name for cell in cells)} |",
        "|---|" + "---:|" * len(cells),
    ]
    for name, row in rows.items():
        shown = [row[cell.name]["regret" if name == DEFAULT else "difference"] for cell in cells]
        sign = "" if name == DEFAULT else "+"
        values = [f"{mean:{sign}.2f} ± {error:.2f}" for mean, error in shown]
        lines.append(f"| `{name}` | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="landscapes of each kind")
    seeds = parser.parse_args().seeds
    logging.disable(logging.WARNING)  # a step metric repeats its scores; that is the point here
    began = time.monotonic()
    report: dict[str, Any] = {"seeds": seeds, "experts": EXPERTS}
    for title, cells in TABLES.items():
        report[title] = summary({cell.name: measure(cell, seeds) for cell in cells})
        print(table(report[title], cells))
        show("search.md", table(report[title], cells), title)
    print(f"{time.monotonic() - began:.0f} s")
    (ROOT / "benchmarks" / "regret.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
