"""The argmax over the simplex of a function that costs little: draws, then moves of the best."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dfwe.search.simplex import Alphas, initial_alphas

Values = NDArray[np.float64]
DRAWS = 300  # even on the simplex, and as many near its faces
FEW = 2.0  # the total concentration of the latter, and of moves: about two experts in each
WIDTHS = (0.3, 0.1, 0.03, 0.01)  # of the moves, round by round
STARTS, MOVES = 4, 40  # the best alphas of a round, and the moves of each
DIGITS = 9  # below which values are equal: another machine rounds otherwise


def argmax(
    function: Callable[[Alphas], Values], known: Alphas, generator: np.random.Generator
) -> NDArray[np.float64]:
    """The alpha (n,) with the highest value, of equals the first that was tried.

    Args:
        function: alphas (m, n) -> values (m,).
        known: (m, n), alphas to try first.
        generator: of the draws.
    """
    n = known.shape[-1]
    drawn = [generator.dirichlet(np.full(n, c), DRAWS) for c in (1.0, FEW / n)]
    alphas = np.concatenate([known, initial_alphas(n), *drawn])
    values = np.round(function(alphas), DIGITS)
    for width in WIDTHS:
        best = np.argsort(-values, kind="stable")[:STARTS]
        ends = generator.dirichlet(np.full(n, FEW / n), (2, STARTS, MOVES))
        moved = np.maximum(alphas[best, None] + width * (ends[0] - ends[1]), 0.0).reshape(-1, n)
        moved /= moved.sum(axis=1, keepdims=True)
        alphas = np.concatenate([alphas[best], moved])
        values = np.concatenate([values[best], np.round(function(moved), DIGITS)])
    return alphas[np.argmax(values)]
