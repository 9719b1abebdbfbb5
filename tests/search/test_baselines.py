"""The proposals beside Nelder-Mead: openings, budgets, seeds and hand-computed choices."""

from itertools import product

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search import baselines
from dfwe.search.cma_es import cma_es
from dfwe.search.evaluation import Evaluations
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import initial_alphas

PROPOSALS = (
    nelder_mead,
    parallel_nelder_mead,
    cma_es,
    baselines.dirichlet,
    baselines.line,
    baselines.rays,
    baselines.coordinate,
    baselines.greedy_soup,
    baselines.uniform,
    baselines.single_experts,
    baselines.dirichlet_nelder_mead,
)
CAPPED = (
    nelder_mead,
    parallel_nelder_mead,
    cma_es,
    baselines.dirichlet,
    baselines.coordinate,
    baselines.dirichlet_nelder_mead,
)
SEEDED = (cma_es, baselines.dirichlet, baselines.dirichlet_nelder_mead)
GROUPED = (
    nelder_mead,
    parallel_nelder_mead,
    cma_es,
    baselines.dirichlet,
    baselines.uniform,
    baselines.single_experts,
)


def stepwise(alpha):
    best = np.linspace(1, 2, alpha.shape[-1])
    return round(-30 * float(np.abs(alpha - best / best.sum()).sum()))


def asked(strategy, score=stepwise):
    return np.array([trial.alpha for trial in search(strategy, score).trials])


@pytest.mark.parametrize("strategy", PROPOSALS)
@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_experts_and_the_centroid_are_the_first_batch(strategy, n):
    assert next(strategy(n)) == n
    alphas = asked(strategy(n))
    first = alphas[: 1 if n == 1 else n + 1]
    assert np.array_equal(first, initial_alphas(n))
    assert alphas.min() >= 0
    np.testing.assert_allclose(alphas.sum(axis=1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strategy", CAPPED)
@pytest.mark.parametrize("evaluations", [0, 6, 7, 19, 60])
def test_the_cap_holds_with_the_opening(strategy, evaluations):
    alphas = asked(strategy(5, evaluations=evaluations))
    assert 6 <= len(alphas) <= max(evaluations, 6)


@pytest.mark.parametrize("strategy", SEEDED)
def test_a_seed_is_a_sequence_and_zero_is_a_seed(strategy):
    state = np.random.get_state()[1].tolist()
    first, again, other = (asked(strategy(4, seed=seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize("strategy", GROUPED)
def test_groups_have_a_simplex_each(strategy):
    alphas = asked(strategy(3, groups=2))
    assert alphas.shape[1:] == (2, 3)
    assert np.array_equal(alphas[:4, 0], initial_alphas(3))
    assert np.array_equal(alphas[:4, 0], alphas[:4, 1])
    np.testing.assert_allclose(alphas.sum(axis=-1), 1, rtol=0, atol=1e-12)


@pytest.mark.parametrize("strategy", CAPPED)
def test_a_failing_candidate_does_not_stop_it(strategy):
    def score(alpha):
        return np.nan if 0.6 < alpha[0] < 1 else stepwise(alpha)

    assert search(strategy(4), score).score > stepwise(np.eye(4)[3])


def test_a_bigger_random_search_begins_with_the_smaller():
    big = asked(baselines.dirichlet(4, evaluations=50))
    assert np.array_equal(big[:20], asked(baselines.dirichlet(4, evaluations=20)))


def test_uniform_and_corners_settle_on_what_they_are_named_for():
    assert search(baselines.uniform(3), lambda a: a[0]).alpha.tolist() == [1 / 3] * 3
    assert search(baselines.single_experts(3), lambda a: a.min() + a[1]).alpha.tolist() == [
        0,
        1,
        0,
    ]


def test_the_greedy_soup_keeps_an_expert_that_does_not_harm():
    values = {
        (1, 0, 0, 0): 50,
        (0, 1, 0, 0): 70,
        (0, 0, 1, 0): 60,
        (0, 0, 0, 1): 65,
        (0, 0.5, 0, 0.5): 69,
        (0, 0.5, 0.5, 0): 70,
        (1 / 3, 1 / 3, 1 / 3, 0): 69,
        (0.25,) * 4: 99,
    }
    found = search(baselines.greedy_soup(4), lambda alpha: values[tuple(alpha.tolist())])
    assert found.alpha.tolist() == [0, 0.5, 0.5, 0]  # by hand: 1, not 3, 2 at a tie, not 0
    assert found.score == 70


def test_a_line_is_evenly_spaced_between_its_ends():
    batches = baselines.line(3, start=2, end="centroid", points=5)
    next(batches)
    along = batches.send(Evaluations((), np.array([1.0, 2.0, 0.0, 0.0])))
    t = np.linspace(0, 1, 5)[:, None]
    np.testing.assert_allclose(along, (1 - t) * [0, 0, 1] + t / 3, rtol=0, atol=1e-15)


def test_a_line_goes_from_the_centroid_to_the_best_expert():
    found = search(baselines.line(4), lambda a: -abs(a[2] - 0.7))
    np.testing.assert_allclose(found.alpha, [0.1, 0.1, 0.7, 0.1], atol=1e-12)


def test_a_lattice_is_every_multiple_of_its_step():
    strategy = baselines.lattice(3, points=5)
    next(strategy)
    found = {tuple(row) for row in strategy.send(np.zeros(4))}
    whole = [row for row in product(range(5), repeat=3) if sum(row) == 4]
    assert found == {tuple(k / 4 for k in row) for row in whole}


def test_an_unknown_end_of_a_line_is_refused_with_the_choice():
    with pytest.raises(UserError, match=r"cannot end at 7.*'centroid', 'best', 0, 1, 2"):
        search(baselines.line(3, end=7), stepwise)


@pytest.mark.parametrize("strategy", CAPPED)
def test_it_finds_the_best_mixture_of_a_smooth_score(strategy):
    best = np.array([0.45, 0.25, 0.3])
    found = search(strategy(3, evaluations=200), lambda a: -float(np.sum((a - best) ** 2)))
    assert np.abs(found.alpha - best).max() < 0.08


def test_rays_go_from_the_first_expert_through_each_other_one_and_beyond():
    batches = baselines.rays(3, end=2.5, points=6)
    assert next(batches) == 3
    alphas = batches.send(Evaluations((), np.zeros(4)))
    t = [0.5, 1.0, 1.5, 2.0, 2.5]
    expected = [[1, 0, 0], *([1 - x, x, 0] for x in t), *([1 - x, 0, x] for x in t)]
    assert alphas.tolist() == expected
