"""Spearman's rank correlation against its formula."""

import pytest

from dfwe.statistics.rank_correlation import spearman


def test_without_ties_it_is_the_formula_of_rank_differences():
    """1 - 6 sum d^2 / (n (n^2 - 1)); ranks 3 1 4 2 5 and 4 1 3 2 5."""
    first, second = [30.0, 10.0, 40.0, 20.0, 50.0], [44.0, 41.0, 43.0, 42.0, 45.0]
    assert spearman(first, second) == pytest.approx(1 - 6 * (1 + 0 + 1 + 0 + 0) / (5 * 24))


def test_ties_have_their_mean_rank():
    """Ranks 1.5 1.5 3 and 1 2 3: their covariance 0.75 over the deviations' product."""
    assert spearman([1.0, 1.0, 2.0], [1.0, 2.0, 3.0]) == pytest.approx(1.5 / (1.5 * 2) ** 0.5)


@pytest.mark.parametrize(
    ("first", "second"), [([1.0, 2.0], [1.0, 2.0]), ([1.0, 1.0, 1.0], [1.0, 2.0, 3.0])]
)
def test_too_few_models_or_equal_ones_have_none(first, second):
    assert spearman(first, second) is None
