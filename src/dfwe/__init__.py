"""Derivative-free weight-space ensembling (arXiv 2307.03506).

Mixing and searching without the command line: any `torch.nn.Module`, any score.

    from dfwe import WeightSpace
    from dfwe.search import nelder_mead, search

    space = WeightSpace.from_pretrained(["expert-a", "expert-b", "expert-c"])
    best = search(nelder_mead(space.n), score)    # score: alpha (n,) -> float, higher is better
    space.export(best.alpha, "mixture")
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dfwe.errors import UserError
    from dfwe.weights.loading import load_model
    from dfwe.weights.preflight import preflight
    from dfwe.weights.space import WeightSpace

_HOME = {  # imported when first asked for, so that `import dfwe` stays light
    "UserError": "errors",
    "WeightSpace": "weights.space",
    "load_model": "weights.loading",
    "preflight": "weights.preflight",
}

__all__ = ["UserError", "WeightSpace", "load_model", "preflight"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return version("dfwe")
    if name not in _HOME:
        raise AttributeError(f"module 'dfwe' has no attribute '{name}'")
    return getattr(import_module(f"dfwe.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
