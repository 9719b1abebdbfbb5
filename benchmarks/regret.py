"""Regret of every strategy on the synthetic dev splits of `tools/landscapes.py`, at equal budgets.

`python benchmarks/regret.py` writes benchmarks/regret.json and the tables in docs/search.md;
`--only surrogate` measures the rows of that name again and leaves the others.
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
from dfwe.search.evaluation import Trial
from dfwe.search.gaussian_process import gaussian_process
from dfwe.search.loop import Ties, likeliest, search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import Strategy
from dfwe.search.surrogate import surrogate
from friends import ROOT, show

sys.path.append(str(ROOT / "tools"))
from landscapes import Kind, Landscape, RightOrWrong, landscape

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
    """A strategy and how it is used.

    Args:
        strategy: of so many experts.
        ties: what breaks its ties.
        likeliest: whether the likeliest within an error is chosen.
        landscapes: at most so many are searched: a strategy may take long.
    """

    strategy: Callable[[int], Strategy]
    ties: Ties = "none"
    likeliest: bool = False
    landscapes: int | None = None


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
        "surrogate": Contender(partial(surrogate, evaluations=budget, seed=seed)),
        "gaussian_process": Contender(
            partial(gaussian_process, evaluations=budget, seed=seed),
            ties="log_likelihood",
            landscapes=20,
        ),
        "cma_es": Contender(partial(cma_es, evaluations=budget, seed=seed)),
        "coordinate": Contender(partial(baselines.coordinate, evaluations=budget)),
        "dirichlet": Contender(partial(baselines.dirichlet, evaluations=budget, seed=seed)),
        "line": Contender(baselines.line),
        "greedy_soup": Contender(baselines.greedy_soup),
        "uniform": Contender(baselines.uniform),
        "single_experts": Contender(baselines.single_experts),
    }


def measure(cell: Cell, seeds: int, only: str | None = None) -> dict[str, NDArray[np.float64]]:
    """Contender -> (2, up to seeds): regret and evaluations on the same landscapes.

    Args:
        cell: which landscapes and budget.
        seeds: how many landscapes.
        only: leave out all contenders but this one and the default; None for none.
    """
    pairs: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        land = landscape(cell.kind, seed, EXPERTS, cell.examples)
        for name, contender in contenders(cell.budget, seed).items():
            wanted = only is None or name in (DEFAULT, only)
            if wanted and (contender.landscapes is None or seed < contender.landscapes):
                pairs.setdefault(name, []).append(ended(contender, land))
    return {name: np.array(values).T for name, values in pairs.items()}


def ended(contender: Contender, land: Landscape) -> tuple[float, int]:
    """The regret of what a contender chooses on a landscape, and its evaluations."""
    result = search(
        contender.strategy(EXPERTS),
        land.evaluation,
        ties=contender.ties,
        noise=lambda trials: _errors(trials, land),
        options=RightOrWrong(),
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
    lines += [f"| `{name}` | {markdown_values(name, row, cells)} |" for name, row in rows.items()]
    return "\n".join(lines)


def markdown_values(name: str, row: dict[str, Any], cells: Sequence[Cell]) -> str:
    """A row's values in Markdown: the default's regret, another's difference from it."""
    shown = [row[cell.name]["regret" if name == DEFAULT else "difference"] for cell in cells]
    sign = "" if name == DEFAULT else "+"
    return " | ".join(f"{mean:{sign}.2f} ± {error:.2f}" for mean, error in shown)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="landscapes of each kind")
    parser.add_argument("--only", help="the one strategy that is measured again")
    arguments = parser.parse_args()
    seeds, only = arguments.seeds, arguments.only
    logging.disable(logging.WARNING)  # a step metric repeats its scores; that is the point here
    began = time.monotonic()
    path = ROOT / "benchmarks" / "regret.json"
    report: dict[str, Any] = {"seeds": seeds, "experts": EXPERTS}
    known: dict[str, Any] = {} if only is None else json.loads(path.read_text())
    assert known.get("seeds", seeds) == seeds, "the other rows are of another number of seeds"
    for title, cells in TABLES.items():
        rows = summary({cell.name: measure(cell, seeds, only) for cell in cells})
        rows = {**known.get(title, {}), **rows}
        report[title] = {name: rows[name] for name in contenders(0, 0) if name in rows}
        print(table(report[title], cells))
        show("search.md", table(report[title], cells), title)
    print(f"{time.monotonic() - began:.0f} s")
    path.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
