"""CMA-ES (Hansen & Ostermeier 2001) over a parametrised simplex, by the package `cma`."""

from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from dfwe.errors import UserError
from dfwe.search.simplex import Outcome, Strategy, fits, initial_alphas, left_of, shape_of
from dfwe.settings import Count, Positive, Whole, checked

if TYPE_CHECKING:
    import cma

WORST = 1e9  # stands for a failed candidate: cma ranks, but does not like infinities


@checked
def cma_es(
    n: int,
    *,
    evaluations: Count | None = None,
    sigma: Positive = 1.0,
    population: Annotated[int, Field(ge=2)] | None = None,
    seed: Whole = 0,
    groups: int = 1,
) -> Strategy:
    """Maximise over z with alpha = softmax(z), a softmax for each group.

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the initial ones included; None as in
            `nelder_mead`.
        sigma: the first standard deviation of z; z begins at zero, the centroid.
        population: alphas of a batch; None for 4 + floor(3 ln(g n)).
        seed: any integer, zero too.

    Raises:
        UserError: the package `cma` is not installed.
    """
    from scipy.special import softmax

    alphas = initial_alphas(n, groups)
    if n == 1:
        yield shape_of(n, groups)
        return Outcome()
    optimizer = _optimizer(groups * n, sigma, population, seed)
    yield shape_of(n, groups)
    budget = left_of(evaluations, n)
    rounds = 0
    if not fits("A population of CMA-ES", optimizer.popsize, budget):
        return Outcome()
    while optimizer.popsize <= budget and not optimizer.stop():
        z = np.array(optimizer.ask())
        scores = (yield softmax(z.reshape(len(z), *alphas.shape[1:]), axis=-1)).values
        optimizer.tell(list(z), np.where(np.isfinite(scores), -scores, WORST).tolist())
        budget -= len(z)
        rounds += 1
    return Outcome(rounds)


def _optimizer(
    dimension: int, sigma: float, population: int | None, seed: int
) -> "cma.CMAEvolutionStrategy":
    try:
        import cma
    except ImportError:
        raise UserError(
            "search=cma_es needs the package cma, which is not installed; pip install cma==4.5.0."
        ) from None
    generator = np.random.default_rng(seed)

    def draw(*shape: int) -> NDArray[np.float64]:
        return generator.standard_normal(shape)

    options: dict[str, object] = {
        "randn": draw,
        "seed": np.nan,  # leave NumPy's global generator alone; None and 0 would mean the time
        "verbose": -9,
    }
    if population is not None:
        options["popsize"] = population
    return cma.CMAEvolutionStrategy(np.zeros(dimension), sigma, options)
