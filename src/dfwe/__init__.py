"""Derivative-free weight-space ensembling (arXiv 2307.03506).

Mixing and searching without the command line: any `torch.nn.Module`, any score.

    space = WeightSpace.from_pretrained(["expert-a", "expert-b", "expert-c"])
    best = search(nelder_mead(space.n), score)    # score: alpha (n,) -> float, higher is better
    space.export(best.alpha, "mixture")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfwe.errors import UserError
    from dfwe.proposals.baselines import (
        coordinate,
        corners,
        dirichlet,
        dirichlet_nelder_mead,
        greedy_soup,
        line,
        uniform,
    )
    from dfwe.proposals.cma_es import cma_es
    from dfwe.proposals.ledger import Ledger, Trial
    from dfwe.proposals.loop import Measure, Result, search
    from dfwe.proposals.nelder_mead import nelder_mead, parallel_nelder_mead
    from dfwe.weights.preflight import preflight
    from dfwe.weights.space import WeightSpace

_HOME = {  # imported when first asked for, so that `import dfwe` stays light
    "WeightSpace": "weights.space",
    "preflight": "weights.preflight",
    "search": "proposals.loop",
    "Measure": "proposals.loop",
    "Result": "proposals.loop",
    "Ledger": "proposals.ledger",
    "Trial": "proposals.ledger",
    "nelder_mead": "proposals.nelder_mead",
    "parallel_nelder_mead": "proposals.nelder_mead",
    "cma_es": "proposals.cma_es",
    "coordinate": "proposals.baselines",
    "corners": "proposals.baselines",
    "dirichlet": "proposals.baselines",
    "dirichlet_nelder_mead": "proposals.baselines",
    "greedy_soup": "proposals.baselines",
    "line": "proposals.baselines",
    "uniform": "proposals.baselines",
    "UserError": "errors",
}

__all__ = [
    "Ledger",
    "Measure",
    "Result",
    "Trial",
    "UserError",
    "WeightSpace",
    "cma_es",
    "coordinate",
    "corners",
    "dirichlet",
    "dirichlet_nelder_mead",
    "greedy_soup",
    "line",
    "nelder_mead",
    "parallel_nelder_mead",
    "preflight",
    "search",
    "uniform",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dfwe")
    if name not in _HOME:
        raise AttributeError(f"module 'dfwe' has no attribute '{name}'")
    return getattr(import_module(f"dfwe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
