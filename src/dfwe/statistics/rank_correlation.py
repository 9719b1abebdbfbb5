"""Whether two scores order the same models alike."""

from collections.abc import Sequence

LEAST = 3  # models: two are ordered alike or not, by chance as often


def spearman(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation, -1..1, ties by their mean rank.

    None for fewer than three pairs, and where one of the two orders nothing.

    Args:
        first: a value of each model.
        second: another one, in the same order.
    """
    from scipy.stats import spearmanr

    if len(first) < LEAST or min(len(set(first)), len(set(second))) < 2:
        return None
    return float(spearmanr(first, second).statistic)
