"""Searches on synthetic dev splits whose expected accuracy is known."""

import numpy as np
import pytest

from dfwe.search.baselines import (
    coordinate,
    dirichlet,
    dirichlet_nelder_mead,
    uniform,
)
from dfwe.search.cma_es import cma_es
from dfwe.search.config import Search
from dfwe.search.loop import search
from dfwe.search.nelder_mead import cone, nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import default_evaluations, initial_alphas
from landscapes import FLAT, landscape


@pytest.mark.parametrize("kind", ["interior", "edge", "flat", "few"])
def test_the_expected_accuracy_is_that_of_many_examples(kind):
    land = landscape(kind, 3, examples=200_000)
    top = land.dev(land.best)
    assert top == pytest.approx(80, abs=0.3)
    for alpha in initial_alphas(5):
        assert land.dev(alpha) == pytest.approx(80 - land.regret(alpha), abs=0.4)
    assert land.regret(land.best) == 0


def test_flat_landscapes_are_as_flat_as_real_runs():
    """Their best expert is two points below the optimum, the average nearer."""
    averages = []
    for seed in range(100):
        land = landscape("flat", seed)
        assert min(land.regret(expert) for expert in np.eye(5)) == pytest.approx(FLAT)
        averages.append(land.regret(np.full(5, 0.2)))
    assert 0.4 < np.mean(averages) < 1.0


def regrets(kind, strategy, n, seeds=12, examples=200):
    ends = []
    for seed in range(seeds):
        land = landscape(kind, seed, n, examples)
        ends.append(land.regret(search(strategy(n), land.dev).alpha))
    return np.mean(ends)


@pytest.mark.parametrize("n", [5, 20, 100])
def test_few_useful_experts_among_many_are_used(n):
    """Regret after max(120, n + 41) evaluations, at most half of the uniform average's."""
    budget = max(120, n + 41)
    ended = regrets("few", lambda n: nelder_mead(n, evaluations=budget), n)
    assert ended < regrets("few", uniform, n) / 2


@pytest.mark.parametrize("examples", [200, 1300])
def test_on_flat_landscapes_a_search_ends_above_the_best_expert(examples):
    assert regrets("flat", nelder_mead, 5, seeds=30, examples=examples) < FLAT / 1.5


@pytest.mark.parametrize("n", [3, 20, 100])
@pytest.mark.parametrize(
    "strategy",
    [
        nelder_mead,
        parallel_nelder_mead,
        cone,
        cma_es,
        coordinate,
        dirichlet,
        dirichlet_nelder_mead,
    ],
)
def test_the_opening_is_at_most_a_third_of_the_default_budget(strategy, n):
    further = {"experts": ["theta_0"]} if strategy is cone else {}
    budget = Search(strategy, **further).evaluations(n)
    assert len(initial_alphas(n)) <= budget / 3
    assert budget == default_evaluations(n) * (5 if strategy is parallel_nelder_mead else 3) // 3
    if n == 3:
        spent = search(strategy(n), lambda alpha: -float(np.square(alpha - 1 / n).sum()))
        assert len(initial_alphas(n)) < spent.evaluations <= budget


@pytest.mark.parametrize("strategy", [uniform])
def test_a_strategy_without_a_cap_has_none(strategy):
    assert Search(strategy).evaluations(5) is None
