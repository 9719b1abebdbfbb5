"""Derivative-free weight-space ensembling (arXiv 2307.03506).

Mixing and searching without the command line: any `torch.nn.Module`, any score.

    from dfwe import WeightSpace
    from dfwe.search import nelder_mead, search

    space = WeightSpace.from_pretrained(["expert-a", "expert-b", "expert-c"])
    best = search(nelder_mead(space.n), score)    # score: alpha (n,) -> float, higher is better
    space.export(best.alpha, "mixture")
"""

import lazy_loader

# The names of `__init__.pyi`, imported when first asked for, so that `import dfwe` stays light.
_attribute, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("dfwe")
    return _attribute(name)
