"""The proposals beside Nelder-Mead: openings, budgets, seeds and hand-computed choices."""

import re
from functools import partial
from itertools import product

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search import baselines
from dfwe.search.cma_es import cma_es
from dfwe.search.evaluation import Evaluations
from dfwe.search.gaussian_process import gaussian_process
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
@pytest.mark.parametrize("evaluations", [1, 6, 7, 19, 60])
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
    best = search(baselines.single_experts(3), lambda a: 9 * a.min() + a[1])  # the average is
    assert best.alpha.tolist() == [0, 1, 0]


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
    assert (found.score, found.iterations) == (70, 3)


def test_the_greedy_soup_tries_equal_experts_in_their_order():
    soup = baselines.greedy_soup(30)
    next(soup)
    tried = soup.send(Evaluations((), np.full(31, 50.0)))
    for expert in range(1, 30):
        assert np.flatnonzero(tried[0]).tolist() == [0, expert]
        if expert < 29:
            tried = soup.send(Evaluations((), np.array([49.0])))


def test_a_line_is_evenly_spaced_between_its_ends():
    batches = baselines.line(3, start=2, end="centroid", points=5)
    next(batches)
    along = batches.send(Evaluations((), np.array([1.0, 2.0, 0.0, 0.0])))
    t = np.linspace(0, 1, 5)[:, None]
    np.testing.assert_allclose(along, (1 - t) * [0, 0, 1] + t / 3, rtol=0, atol=1e-15)


def test_a_line_goes_from_the_centroid_to_the_best_expert():
    found = search(baselines.line(4), lambda a: -abs(a[2] - 0.7))
    np.testing.assert_allclose(found.alpha, [0.1, 0.1, 0.7, 0.1], atol=1e-12)


@pytest.mark.parametrize(
    "strategy", [partial(baselines.line, start=0, end=1, points=3), baselines.rays]
)
def test_the_result_is_on_the_line_though_the_average_is_better(strategy):
    found = search(strategy(3), lambda a: 9 * a.min() + a[1])
    assert found.alpha.tolist() == [0, 1, 0]
    assert found.score < found.trials[3].value


def test_points_are_those_of_a_line_by_default():
    for strategy, points in (
        (baselines.line(3), 11),
        (baselines.rays(3), 1 + 2 * 10),
        (baselines.lattice(2), 9),
    ):
        next(strategy)
        assert len(strategy.send(Evaluations((), np.arange(4.0)))) == points


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


def batches(strategy, score):
    """What a strategy asks for after its opening, batch by batch, and what it returns."""
    asked = []
    try:
        alphas = initial_alphas(next(strategy))
        while True:
            asked.append(alphas)
            alphas = strategy.send(Evaluations((), np.array([score(alpha) for alpha in alphas])))
    except StopIteration as stop:
        return asked[1:], stop.value


def test_coordinates_are_searched_in_turn_by_hand():
    """The peak is at (0.7, 0.3); t is -1/2, -1/4, 1/4, 1/2, but no weight falls below 0."""
    asked, _ = batches(baselines.coordinate(2), lambda alpha: -abs(alpha[0] - 0.7))
    first = [
        [0.25, 0.375, 0.625, 0.75],  # from the average, 0.5, toward and away from expert 0
        [1.0, 0.9375, 0.5625, 0.375],  # from 0.75; -1/2 would be 1.125
        [0.6875, 0.71875, 0.78125, 0.8125],  # with half the width
        [0.859375, 0.7734375, 0.6015625, 0.515625],  # from 0.6875
    ]
    for batch, weights in zip(asked, first, strict=False):
        np.testing.assert_allclose(batch, [[w, 1 - w] for w in weights], atol=1e-15)


def test_coordinates_from_an_expert_go_toward_the_others_alone():
    asked, _ = batches(baselines.coordinate(3, evaluations=9), lambda alpha: alpha[0])
    assert asked[0].tolist() == [[0.75, 0.25, 0], [0.5, 0.5, 0]]
    assert asked[1].tolist() == [[0.75, 0, 0.25], [0.5, 0, 0.5]]


def test_a_tie_leaves_coordinates_where_they_are():
    asked, _ = batches(baselines.coordinate(3, evaluations=9), lambda alpha: 1.0)
    assert asked[1].tolist() == [[0.75, 0, 0.25], [0.5, 0, 0.5]]


def test_a_step_of_more_than_all_ends_at_the_expert():
    asked, _ = batches(baselines.coordinate(2, width=4.0), lambda alpha: alpha[0])
    assert asked[0].tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize(
    ("n", "evaluations", "asked", "rounds"),
    [(2, 1000, 8 * 13, 13), (2, 11, 8, 1), (2, 10, 4, 0), (1, 1000, 0, 0)],
)
def test_coordinates_count_rounds_until_the_width_is_resolved(n, evaluations, asked, rounds):
    """0.5 / 2 ** 13 < 1e-4; a round over two experts has eight steps from a mixture."""
    strategy = baselines.coordinate(n, evaluations=evaluations)
    steps, outcome = batches(strategy, lambda alpha: -abs(alpha[0] - 0.7))
    assert sum(map(len, steps)) == asked
    assert outcome.iterations == rounds


@pytest.mark.parametrize("strategy", [*CAPPED, gaussian_process])
def test_a_budget_that_the_opening_spends_is_told(strategy, caplog):
    assert search(strategy(4, evaluations=5), stepwise).evaluations == 5
    assert "but only 0 are left after the opening: nothing more is searched" in caplog.text


@pytest.mark.parametrize(
    ("strategy", "setting", "sentence"),
    [
        (cma_es, {"population": 1}, "cma_es.population=1 should be greater than or equal to 2"),
        (cma_es, {"sigma": 0.0}, "cma_es.sigma=0.0 should be greater than 0"),
        (nelder_mead, {"shrink": 2.0}, "nelder_mead.shrink=2.0 should be less than or equal to 1"),
        (baselines.dirichlet, {"seed": "one"}, "dirichlet.seed=one should be a valid integer"),
        (baselines.line, {"points": 1}, "line.points=1 should be greater than or equal to 2"),
    ],
)
def test_a_setting_that_cannot_be_is_one_sentence_from_python_too(strategy, setting, sentence):
    with pytest.raises(UserError, match=f"^{re.escape(sentence)}"):
        strategy(4, **setting)


def drawn(n, m, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(n), size=m)


def test_random_search_is_uniform_on_the_simplex_and_as_long_as_it_may_be():
    for n, m in ((2, 1), (4, 5), (4, 0)):
        asked, _ = batches(baselines.dirichlet(n, evaluations=n + 1 + m), stepwise)
        assert len(asked) == (m > 0)
        assert all(np.array_equal(batch, drawn(n, m)) for batch in asked)
    assert batches(baselines.dirichlet(1), stepwise)[0] == []


def test_the_simplex_is_put_around_the_best_random_mixture():
    best = drawn(4, 10)[7]
    asked, outcome = batches(
        baselines.dirichlet_nelder_mead(4, evaluations=10_000),
        lambda alpha: -float(np.abs(alpha - best).sum()),
    )
    assert np.array_equal(asked[0], drawn(4, 10))
    np.testing.assert_allclose(asked[1], 0.65 * best + 0.35 * np.eye(4))
    assert outcome.iterations == 40


@pytest.mark.parametrize(("n", "draws", "first"), [(2, 1, 1), (2, 0, 2), (4, 3, 3)])
def test_so_many_mixtures_are_drawn_before_the_simplex(n, draws, first):
    asked, _ = batches(baselines.dirichlet_nelder_mead(n, draws=draws), stepwise)
    assert len(asked[0]) == first
    assert np.array_equal(asked[0], drawn(n, draws)) == (draws > 0)


def test_one_expert_is_not_drawn():
    assert batches(baselines.dirichlet_nelder_mead(1), stepwise)[0] == []
