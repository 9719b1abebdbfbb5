"""Points of the simplex, the initial alphas of every search, and what a strategy is."""

import logging
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import check_whole
from dfwe.search.evaluation import Evaluations

log = logging.getLogger(__name__)
Alphas = NDArray[np.float64]  # (m, n), rows on the simplex; (m, g, n) with g parameter groups
Shape = int | tuple[int, int]  # n, or (g, n)


EVALUATIONS = 120  # of a search over few experts


@dataclass(frozen=True)
class Outcome:
    """What a strategy returns at its end; None says as much as `Outcome()`.

    Args:
        iterations: the number of rounds.
        candidates: (m, n) or (m, g, n), of what it proposed: the best of these is the result;
            None for the best of all.
        remark: a sentence on how it went, for the record and the terminal.
    """

    iterations: int = 0
    candidates: Alphas | None = None
    remark: str | None = None


@dataclass(frozen=True)
class Opening:
    """What a strategy may yield first in place of a shape alone.

    Args:
        shape: of an alpha.
        options: whether the strategy reads the log-likelihood of every option in the answers of
            its trials; they are computed for it alone.
    """

    shape: Shape
    options: bool = False


# A generator: `evaluations = yield n` (or `(g, n)`, or an `Opening`) asks for the initial alphas,
# then `evaluations = yield alphas` for alphas (m, n) or (m, g, n).
Strategy = Generator[Shape | Opening | Alphas, Evaluations, Outcome | None]


def shape_of(n: int, groups: int = 1) -> Shape:
    """What a strategy yields first: the shape of an alpha."""
    return n if groups == 1 else (groups, n)


def experts(n: int, groups: int = 1) -> Alphas:
    """The n pure experts, (n, n) or (n, g, n)."""
    return grouped(np.eye(n), groups)


def centroid(n: int, groups: int = 1) -> Alphas:
    """The uniform average, (1, n) or (1, g, n)."""
    return grouped(np.full((1, n), 1.0 / n), groups)


def initial_alphas(n: int, groups: int = 1) -> Alphas:
    """What every search scores first, (n + 1, n): the result is never worse than an expert.

    With one expert the centroid is that expert: (1, 1).

    Raises:
        UserError: there is no expert.
    """
    check_whole("n", n, 1)
    ends = experts(n, groups)
    return ends if n == 1 else np.concatenate([ends, centroid(n, groups)])


def toward_centroid(alpha: NDArray[np.float64], share: float) -> NDArray[np.float64]:
    """(1 - share) alpha + share / n, of the shape of alpha, (n,) or (g, n)."""
    return (1.0 - share) * alpha + share / alpha.shape[-1]


def default_evaluations(n: int) -> int:
    """The evaluations of a search over n experts: the opening is at most a third of them."""
    return max(EVALUATIONS, 3 * (n + 1))


def left_of(evaluations: int | None, n: int) -> int:
    """What the opening leaves of so many evaluations; None stands for the default."""
    cap = default_evaluations(n) if evaluations is None else evaluations
    return cap - len(initial_alphas(n))


def fits(what: str, size: int, left: int) -> bool:
    """Whether the first step after the opening fits what is left; the log says where not."""
    if size > left:
        log.warning(
            "%s needs %d evaluations, but only %d are left after the opening: nothing more is "
            "searched; raise search.strategy.evaluations.",
            what,
            size,
            max(left, 0),
        )
    return size <= left


def grouped(alphas: Alphas, groups: int) -> Alphas:
    """The same weights (m, n) for every group: (m, g, n); (m, n) for one group."""
    return alphas if groups == 1 else np.repeat(alphas[:, None], groups, axis=1)
