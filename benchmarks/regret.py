"""Regret of every proposal on synthetic accuracies of 200 dev examples, at equal budgets.

Example j is answered rightly at alpha when e_j + s w_j . (alpha - best) < g(alpha), with e_j and
w_j standard normal and g(alpha) = G - |B (alpha - best)|^2. So examples prefer different
mixtures, the dev accuracy is a step function, and the expected accuracy has the closed form
100 Phi(g(alpha) / sqrt(1 + s^2 |alpha - best|^2)) with its optimum at `best`. B is a random
matrix of condition up to 3 whose size sets the distances; G = Phi^-1(0.8).

`python benchmarks/regret.py` writes benchmarks/regret.json and the table in docs/search.md.
"""

import argparse
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from dfwe.search import baselines
from dfwe.search.cma_es import cma_es
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import Strategy
from friends import ROOT, show

DEFAULT = "nelder_mead"
KINDS = ("interior", "edge")
EXPERTS, EXAMPLES = 5, 200
BUDGETS = (60, 120)
TOP = NormalDist().inv_cdf(0.8)  # 80 points at the optimum
OWN_TASTE = 1.0  # s, how far examples differ in the mixture they prefer
CURVATURE = 1.9  # the best expert is about 20 points below the optimum

Alpha = NDArray[np.float64]


@dataclass(frozen=True)
class Landscape:
    """A dev split and its population."""

    best: Alpha  # (n,)
    bowl: NDArray[np.float64]  # B, (n, n)
    e: NDArray[np.float64]  # (examples,)
    w: NDArray[np.float64]  # (examples, n)

    def dev(self, alpha: Alpha) -> float:
        """Accuracy on the dev examples, points."""
        margin = self._height(alpha) - OWN_TASTE * (self.w @ (alpha - self.best))
        return 100.0 * float(np.mean(self.e < margin))

    def regret(self, alpha: Alpha) -> float:
        """Points of expected accuracy below the optimum."""
        spread = sqrt(1.0 + OWN_TASTE**2 * float(np.sum((alpha - self.best) ** 2)))
        return 100.0 * float(ndtr(TOP) - ndtr(self._height(alpha) / spread))

    def _height(self, alpha: Alpha) -> float:
        return TOP - float(np.sum((self.bowl @ (alpha - self.best)) ** 2))


def landscape(kind: str, seed: int) -> Landscape:
    """The optimum lies inside, or on an edge: two of the five weights are zero."""
    # A trailing zero adds nothing to a seed: [seed, 0] would be the stream of the strategies'
    # `seed`, whose first draw would then be the optimum.
    rng = np.random.default_rng([1 + KINDS.index(kind), seed, 1])
    best = rng.dirichlet(np.ones(EXPERTS))
    if kind == "edge":
        best[rng.choice(EXPERTS, 2, replace=False)] = 0.0
        best /= best.sum()
    turn, _ = np.linalg.qr(rng.normal(size=(EXPERTS, EXPERTS)))
    bowl = CURVATURE * rng.uniform(1 / 3, 1, size=EXPERTS)[:, None] * turn
    e, w = rng.normal(size=EXAMPLES), rng.normal(size=(EXAMPLES, EXPERTS))
    return Landscape(best, bowl, e, w)


def contenders(budget: int, seed: int) -> dict[str, Callable[[int], Strategy]]:
    """The proposals as `conf/search` declares them, but for the budget and the seed."""
    mixed = partial(baselines.dirichlet_nelder_mead, evaluations=budget, seed=seed)
    return {
        DEFAULT: partial(nelder_mead, evaluations=budget),
        "nelder_mead, start=centroid shrink=0.5": partial(
            nelder_mead, evaluations=budget, start="centroid", shrink=0.5
        ),
        "parallel_nelder_mead": partial(parallel_nelder_mead, evaluations=budget),
        "dirichlet_nelder_mead": mixed,
        "cma_es": partial(cma_es, evaluations=budget, seed=seed),
        "coordinate": partial(baselines.coordinate, evaluations=budget),
        "dirichlet": partial(baselines.dirichlet, evaluations=budget, seed=seed),
        "line": baselines.line,
        "greedy_soup": baselines.greedy_soup,
        "uniform": baselines.uniform,
        "corners": baselines.single_experts,
    }


def measure(kind: str, budget: int, seeds: int) -> dict[str, NDArray[np.float64]]:
    """Contender -> (2, seeds): regret and evaluations on the same landscapes."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for seed in range(seeds):
        land = landscape(kind, seed)
        for name, strategy in contenders(budget, seed).items():
            result = search(strategy(EXPERTS), land.dev)
            pairs.setdefault(name, []).append((land.regret(result.alpha), result.evaluations))
    return {name: np.array(values).T for name, values in pairs.items()}


def summary(cells: dict[str, dict[str, NDArray[np.float64]]]) -> dict[str, dict[str, Any]]:
    """Means with standard errors; differences from the default are paired by landscape."""
    rows: dict[str, dict[str, Any]] = {}
    for name in next(iter(cells.values())):
        rows[name] = {}
        for cell, measured in cells.items():
            regret, evaluations = measured[name]
            rows[name][cell] = {
                "evaluations": float(evaluations.mean()),
                "regret": _mean(regret),
                "difference": _mean(regret - measured[DEFAULT][0]),
            }
        rows[name]["difference"] = _mean(_pooled(cells, name) - _pooled(cells, DEFAULT))
    return rows


def _pooled(cells: dict[str, dict[str, NDArray[np.float64]]], name: str) -> NDArray[np.float64]:
    """Each landscape's regret, averaged over the budgets: (kinds x seeds,)."""
    return np.concatenate(
        [
            np.mean([cells[f"{kind}, {budget}"][name][0] for budget in BUDGETS], axis=0)
            for kind in KINDS
        ]
    )


def _mean(values: NDArray[np.float64]) -> list[float]:
    """The mean and its standard error."""
    return [float(values.mean()), float(values.std(ddof=1) / sqrt(len(values)))]


def table(rows: dict[str, dict[str, Any]]) -> str:
    """Markdown."""
    cells = [f"{kind}, {budget}" for kind in KINDS for budget in BUDGETS]
    lines = [
        f"| proposals | {' | '.join(cells)} | difference from the default |",
        "|---|" + "---|" * (len(cells) + 1),
    ]
    for name, row in rows.items():
        shown = [f"{row[cell]['regret'][0]:.2f} ± {row[cell]['regret'][1]:.2f}" for cell in cells]
        mean, error = row["difference"]
        last = "" if name == DEFAULT else f"{mean:+.2f} ± {error:.2f}"
        lines.append(f"| `{name}` | {' | '.join(shown)} | {last} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=200, help="landscapes of each kind")
    seeds = parser.parse_args().seeds
    logging.disable(logging.WARNING)  # a step metric repeats its scores; that is the point here
    began = time.monotonic()
    cells = {
        f"{kind}, {budget}": measure(kind, budget, seeds) for kind in KINDS for budget in BUDGETS
    }
    rows = summary(cells)
    print(table(rows))
    print(f"{time.monotonic() - began:.0f} s")
    settings = {"seeds": seeds, "experts": EXPERTS, "examples": EXAMPLES}
    report = json.dumps({**settings, "proposals": rows}, indent=1)
    (ROOT / "benchmarks" / "regret.json").write_text(report + "\n")
    show("search.md", table(rows))


if __name__ == "__main__":
    main()
