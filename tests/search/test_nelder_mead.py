"""Nelder-Mead takes SciPy's steps, alone and speculating."""

from functools import partial
from itertools import combinations

import numpy as np
import pytest
from scipy.optimize import minimize

from dfwe.errors import UserError
from dfwe.search.config import Search
from dfwe.search.evaluation import Evaluations
from dfwe.search.loop import search
from dfwe.search.nelder_mead import (
    RESOLUTION,
    best_simplex,
    cone,
    descend,
    first_simplex,
    nelder_mead,
    parallel_nelder_mead,
)
from dfwe.search.simplex import initial_alphas

PLENTY = 10_000


def smooth(seed):
    """A bumpy bowl with its best point inside or outside the simplex, (n,) -> points."""

    def score(alpha):
        rng = np.random.default_rng(seed)
        centre = rng.dirichlet(np.ones(alpha.size)) * rng.uniform(0.5, 1.5)
        bowl = rng.normal(size=(alpha.size, alpha.size))
        return -float(np.sum((bowl @ (alpha.ravel() - centre)) ** 2)) + np.sin(9 * alpha.max())

    return score


def stepwise(seed):
    return lambda alpha: np.floor(20 * smooth(seed)(alpha)) / 20


def ours(strategy, score):
    return [trial.alpha for trial in search(strategy, score).trials]


def scipys(n, score, iterations, monkeypatch, around="best", **adaptive):
    """The feasible points SciPy evaluates, infeasible ones being infinitely bad."""
    seen = []
    named = initial_alphas(n)
    centre = named[np.argmax([score(a) for a in named])] if around == "best" else named[-1]

    def objective(free):
        alpha = np.append(free, 1.0 - free.sum())
        if (alpha < 0).any():
            return np.inf
        seen.append(alpha)
        return -score(alpha)

    stable = np.argsort  # SciPy's default order of ties depends on the processor
    monkeypatch.setattr(np, "argsort", lambda a: stable(a, kind="stable"))
    start = first_simplex(centre, 0.35)[:, :-1]
    options = {"initial_simplex": start, "maxiter": iterations + 1, "xatol": RESOLUTION}
    options |= {"maxfev": PLENTY, "fatol": np.inf, "adaptive": True, **adaptive}
    with np.errstate(invalid="ignore"):  # SciPy subtracts infinities
        found = minimize(objective, start[0], method="Nelder-Mead", options=options)
    monkeypatch.undo()
    return seen, found.nit - 1  # SciPy counts from one


@pytest.mark.parametrize("kind", [smooth, stepwise])
@pytest.mark.parametrize("n", [3, 4, 5, 8])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", ["best", "centroid"])
@pytest.mark.filterwarnings("ignore:Maximum number of iterations")
def test_it_evaluates_the_points_that_scipy_evaluates(kind, n, seed, start, monkeypatch):
    score = kind(seed)
    theirs, iterations = scipys(n, score, 60, monkeypatch, start)
    strategy = nelder_mead(n, evaluations=PLENTY, iterations=60, start=start)
    batches, outcome = drive(strategy, score)
    asked = np.concatenate(batches)
    assert np.array_equal(asked[: n + 1], initial_alphas(n))
    np.testing.assert_allclose(asked[n + 1 :], theirs, rtol=0, atol=1e-15)
    assert outcome.iterations == iterations


def drive(strategy, score):
    """Every batch of alphas, without the loop; and what is returned."""
    batches = []
    try:
        shape = next(strategy)
        alphas = (
            initial_alphas(*reversed(shape)) if isinstance(shape, tuple) else initial_alphas(shape)
        )
        while True:
            batches.append(alphas)
            values = np.array([score(alpha) for alpha in alphas])
            alphas = strategy.send(Evaluations((), values))
    except StopIteration as stop:
        return batches, stop.value


def test_with_two_experts_it_is_the_standard_nelder_mead_of_one_dimension(monkeypatch):
    theirs, _ = scipys(2, smooth(1), 60, monkeypatch, adaptive=False)
    batches, _ = drive(nelder_mead(2, evaluations=PLENTY, iterations=60), smooth(1))
    np.testing.assert_allclose(np.concatenate(batches[1:]), theirs, rtol=0, atol=1e-15)


def test_an_unknown_start_is_named():
    with pytest.raises(UserError, match="should be 'best', 'centroid' or 'noise'"):
        next(nelder_mead(3, start="middle"))


def test_one_expert_is_scored_once():
    assert ours(nelder_mead(1), lambda alpha: 1.0) == [[1.0]]


@pytest.mark.parametrize("n", range(2, 9))
def test_it_finds_an_optimum_inside_and_on_an_edge(n):
    for zeros in (0, n // 2):
        best = np.random.default_rng(n).dirichlet(np.full(n, 5.0))
        best[:zeros] = 0
        best /= best.sum()
        strategy = nelder_mead(n, evaluations=PLENTY, iterations=400)
        found = search(strategy, lambda alpha: -float(np.sum((alpha - best) ** 2)))  # noqa: B023
        assert np.abs(found.alpha - best).max() < (0.1 if zeros else 0.01)


@pytest.mark.parametrize("strategy", [nelder_mead, parallel_nelder_mead])
@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("evaluations", range(6, 61, 9))
def test_the_cap_counts_every_proposal_and_the_weights_are_weights(strategy, groups, evaluations):
    batches, _ = drive(strategy(5, evaluations=evaluations, groups=groups), stepwise(3))
    asked = np.concatenate(batches)
    assert len(asked) <= evaluations
    assert asked.min() >= 0
    np.testing.assert_allclose(asked.sum(axis=-1), 1.0, rtol=0, atol=1e-12)
    assert asked.shape[1:] == ((5,) if groups == 1 else (3, 5))


@pytest.mark.parametrize("kind", [smooth, stepwise])
@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("seed", range(5))
def test_the_parallel_one_walks_the_same_path_in_no_more_batches(kind, n, seed):
    path, outcome = drive(nelder_mead(n, evaluations=PLENTY), kind(seed))
    ahead, parallel = drive(parallel_nelder_mead(n, evaluations=PLENTY), kind(seed))
    rest = iter(np.concatenate(ahead).tolist())
    assert all(alpha in rest for alpha in np.concatenate(path).tolist())  # a subsequence
    assert parallel == outcome
    assert len(ahead) <= len(path)


@pytest.mark.parametrize("centre", [np.array([0.4, 0.3, 0.2, 0.1]), *np.eye(4)], ids=str)
def test_groups_begin_with_a_full_simplex_that_holds_the_plain_one(centre):
    start = first_simplex(centre, 0.5, groups=3)
    assert start.shape == (3 * 3 + 1, 3, 4)
    assert np.array_equal(start[:4, 0], first_simplex(centre, 0.5))
    edges = (start[1:] - start[0])[..., :-1].reshape(9, 9)
    assert np.linalg.matrix_rank(edges) == 9


def test_a_budget_below_the_first_simplex_is_told(caplog):
    found = search(nelder_mead(5, evaluations=20, groups=4), lambda alpha: float(alpha[0, 0]))
    assert found.evaluations == 6
    assert "needs 17 evaluations, but only 14 are left" in caplog.text
    caplog.clear()
    search(nelder_mead(5, evaluations=30, groups=4), lambda alpha: float(alpha[0, 0]))
    assert "first simplex" not in caplog.text
    search(nelder_mead(5, evaluations=3), lambda alpha: float(alpha[0]))
    assert "simplex of Nelder-Mead needs 5 evaluations, but only 0 are left" in caplog.text


def test_groups_find_weights_of_their_own():
    best = np.random.default_rng(0).dirichlet(np.full(3, 4.0), size=2)
    strategy = nelder_mead(3, evaluations=PLENTY, iterations=300, groups=2)
    found = search(strategy, lambda alpha: -float(np.sum((alpha - best) ** 2)))
    np.testing.assert_allclose(found.alpha, best, atol=0.01)


def test_a_converged_simplex_ends_the_search():
    strategy = nelder_mead(3, evaluations=PLENTY, iterations=PLENTY)
    found = search(strategy, lambda alpha: -float(np.sum((alpha - 1 / 3) ** 2)))
    assert found.iterations < 200


def opened(strategy, scores, errors):
    """The first simplex that a strategy asks for after an opening of these scores."""
    n = next(strategy)
    assert len(scores) == n + 1
    return strategy.send(Evaluations((), np.array(scores), lambda _: np.array(errors)))


@pytest.mark.parametrize("error", [1.0, 2.0, 3.0])
def test_the_search_starts_around_the_average_where_noise_hides_the_best(error):
    """The best expert is 2 points above the average."""
    errors = np.full((5, 5), error)
    simplex = opened(nelder_mead(4, start="noise"), [50, 52, 40, 41, 50], errors)
    around_average = first_simplex(np.full(4, 0.25), 0.35)
    around_best = first_simplex(np.array([0.0, 1, 0, 0]), 0.35)
    np.testing.assert_allclose(simplex, around_average if error >= 2 else around_best)


def test_an_average_that_is_the_best_is_the_start():
    simplex = opened(nelder_mead(3, start="noise"), [50, 51, 49, 52], np.zeros((4, 4)))
    np.testing.assert_allclose(simplex, first_simplex(np.full(3, 1 / 3), 0.35))


@pytest.mark.parametrize("strategy", [nelder_mead, parallel_nelder_mead])
def test_experts_that_are_resolved_to_be_worse_keep_weight_zero(strategy):
    target = np.array([0.3, 0.5, 0.2, 0.0])
    scores = lambda alpha: 60 - 30 * float(np.sum((alpha - target) ** 2))  # noqa: E731

    def noise(trials):
        return 6.5 * (1 - np.eye(len(trials)))

    result = search(strategy(4, leave_out=True, evaluations=60), scores, noise=noise)
    # Experts score 36.6, 48.6, 30.6 and 18.6; 1.96 * 6.5 = 12.74.
    searched = np.stack([trial.alpha for trial in result.trials[5:]])
    assert len(searched) > 10
    assert (searched[:, 2:] == 0).all()
    assert (searched[:, :2] > 0).any(axis=0).all()
    np.testing.assert_allclose(searched.sum(axis=1), 1)


@pytest.mark.parametrize("settings", [{"start": "noise"}, {"leave_out": True}])
def test_what_needs_the_noise_refuses_scores_alone(settings):
    with pytest.raises(UserError, match=r"^A search that asks what dev can resolve needs"):
        search(nelder_mead(3, **settings), lambda alpha: alpha[0])


def test_a_cone_reaches_beyond_the_experts_from_theta_0():
    """The optimum is theta_0 + 1.4 (0.6 tau_0 + 0.4 tau_1): theta_0 has weight -0.4."""
    target = np.array([1.4 * 0.6, 1.4 * 0.4, -0.4])
    strategy = cone(3, evaluations=PLENTY, iterations=200, reach=1.5)
    result = search(strategy, lambda alpha: -float(np.sum((alpha - target) ** 2)))
    np.testing.assert_allclose(result.alpha, target, atol=2e-3)
    assert all(trial.alpha[2] >= -0.5 - 1e-9 for trial in result.trials)
    assert all((trial.alpha[:2] >= 0).all() for trial in result.trials)


def test_a_cone_of_reach_one_is_the_simplex():
    target = np.array([0.7, 0.5, -0.2])
    strategy = cone(3, evaluations=PLENTY, iterations=200, reach=1.0)
    result = search(strategy, lambda alpha: -float(np.sum((alpha - target) ** 2)))
    assert min(trial.alpha.min() for trial in result.trials) == 0
    with pytest.raises(UserError, match=r"reach=0\.5"):
        Search(partial(cone, reach=0.5))


def sloped(depths, **settings):
    return cone(3, slope=True, groups=len(depths), depths=depths, **settings)


def test_a_sloped_cone_finds_how_s_varies_with_depth():
    """s is 0.6 at the embedding, 0.8 in the middle and 1.0 at the head."""
    depths = (0.0, 0.5, 1.0)
    factors = np.array([0.6, 0.8, 1.0])
    free = factors[:, None] * [0.75, 0.25]
    target = np.c_[free, 1 - free.sum(1)]
    strategy = sloped(depths, evaluations=PLENTY, iterations=300)
    result = search(strategy, lambda alpha: -float(np.sum((alpha - target) ** 2)))
    np.testing.assert_allclose(result.alpha, target, atol=3e-3)


def test_each_alpha_of_a_sloped_cone_is_a_line_over_depth_within_reach():
    depths = (0.0, 0.25, 0.5, 1.0)
    seen = []
    strategy = sloped(depths, evaluations=80, iterations=PLENTY, reach=1.3)
    search(strategy, lambda alpha: seen.append(alpha) or float(np.sin(9 * alpha[:, 0]).sum()))
    slopes = []
    for alpha in seen:
        s = 1 - alpha[:, -1]
        np.testing.assert_allclose(s, np.interp(depths, [0, 1], s[[0, -1]]), atol=1e-12)
        np.testing.assert_allclose(alpha.sum(1), 1)
        assert (alpha[:, :2] >= 0).all()
        assert (s <= 1.3 + 1e-9).all()
        shares = alpha[:, :2] / np.maximum(s, 1e-12)[:, None]
        np.testing.assert_allclose(
            shares[s > 1e-9], shares[np.argmax(s)][None].repeat((s > 1e-9).sum(), 0), atol=1e-9
        )
        slopes.append(s[-1] - s[0])
    assert min(slopes) < -0.01 < 0.01 < max(slopes)


def test_a_sloped_cone_opens_with_the_first_simplex_of_the_plain_one_and_one_vertex_more():
    score = smooth(0)
    (_, plain, *_), _ = drive(cone(3, evaluations=PLENTY), score)
    (_, ours, *_), _ = drive(sloped((0.0, 1.0), evaluations=PLENTY), lambda a: score(a[0]))
    np.testing.assert_allclose(ours[:3], np.stack([plain, plain], axis=1))
    middle = np.mean(plain, axis=0)[:2]
    np.testing.assert_allclose(ours[3, :, :2], [0.65 * middle, 1.35 * middle])


@pytest.mark.parametrize(
    "settings",
    [
        {"slope": True},
        {"groups": 2},
        {"groups": 2, "depths": (0.0, 1.0)},
        {"slope": True, "groups": 2},
    ],
)
def test_a_slope_needs_groups_with_depths(settings):
    with pytest.raises(UserError, match="set that and search/groups=block, or neither"):
        next(cone(3, **settings))


def test_each_group_but_the_last_moves_by_itself_toward_each_other_expert():
    centre = np.array([0.4, 0.3, 0.2, 0.1])
    separate = first_simplex(centre, 0.5, groups=3)[4:]
    assert len(separate) == 2 * 3
    for row, alpha in enumerate(separate):
        group, expert = row // 3, row % 3 + 1  # expert 0 is the centre's largest
        expected = np.tile(centre, (3, 1))
        expected[group] = 0.5 * centre + 0.5 * np.eye(4)[expert]
        np.testing.assert_allclose(alpha, expected)


def test_a_cone_by_default_reaches_half_beyond_the_experts_in_forty_rounds():
    strategy = cone(4, evaluations=PLENTY)
    batches, outcome = drive(strategy, lambda alpha: np.sin(9 * alpha[0]) - alpha[3])
    assert outcome.iterations == 40
    assert min(alpha[3] for batch in batches for alpha in batch) == pytest.approx(-0.5, abs=1e-3)


def test_the_cap_of_a_cone_counts_every_proposal():
    batches, _ = drive(cone(4, evaluations=20), smooth(0))
    assert 15 <= sum(map(len, batches)) <= 20


@pytest.mark.parametrize("seed", range(4))
def test_of_measured_alphas_the_best_that_span_the_simplex_are_gone_on_from(seed):
    """Of all sets of n that are affinely independent, by trying them all."""
    rng, n = np.random.default_rng(seed), 4
    middles = [(a + b) / 2 for a, b in combinations(np.eye(n), 2)]
    alphas = np.concatenate([initial_alphas(n), middles])
    values = rng.permutation(len(alphas)).astype(float)
    sets = [
        chosen
        for chosen in map(list, combinations(range(len(alphas)), n))
        if np.linalg.matrix_rank(alphas[chosen]) == n
    ]
    expected = max(sets, key=lambda chosen: values[chosen].sum())
    assert sorted(best_simplex(alphas, values)) == expected


def test_a_simplex_that_is_measured_is_not_asked_for_again():
    score, start = smooth(1), first_simplex(np.array([1.0, 0, 0, 0]), 0.35)
    values = np.array([score(alpha) for alpha in start])
    asked, known = (
        ours(descend(start, 60, 20, values=values_of), score) for values_of in (None, values)
    )
    np.testing.assert_array_equal(known, asked[len(start) :])
    assert len(ours(descend(start, 1, 20, values=values), score)) == 1
