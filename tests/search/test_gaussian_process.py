"""The Gaussian process finds known optima, with and without noise, whatever the metric."""

import numpy as np
import pytest
from scipy.stats import norm

from dfwe.search.evaluation import Evaluation
from dfwe.search.gaussian_process import gaussian_process
from dfwe.search.loop import search
from landscapes import landscape


def bowl(best):
    return lambda alpha: 50 - 60 * float(np.sum((alpha - best) ** 2))


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_smooth_optimum_is_found_in_few_evaluations(n):
    best = np.random.default_rng(n).dirichlet(np.full(n, 4.0))
    found = search(gaussian_process(n, evaluations=35), bowl(best))
    np.testing.assert_allclose(found.alpha, best, atol=0.03)
    assert found.evaluations <= 35


def test_it_is_a_reference_implementation_of_expected_improvement():
    """The first proposal behind the opening: no measured or random alpha promises more."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern

    score = bowl(np.array([0.6, 0.3, 0.1]))
    variance = np.array([0.5, 1.0, 2.0, 0.25, 1.0])

    def noise(trials):
        return np.full((2, 2), np.sqrt(2 * variance[trials[1].index]))

    found = search(gaussian_process(3, evaluations=5, draws=0), score, noise=noise)
    measured = np.stack([trial.alpha for trial in found.trials[:4]])
    values = np.array([trial.value for trial in found.trials[:4]])
    scaled = (values - values.mean()) / values.std()
    process = GaussianProcessRegressor(
        ConstantKernel(1.0, (1e-2, 1e2)) * Matern(0.5, (0.05, 5.0), nu=2.5),
        alpha=variance[:4] / values.std() ** 2,
    ).fit(measured, scaled)

    def improvement(alphas):
        mean, error = process.predict(alphas, return_std=True)
        gain = mean - process.predict(measured).max()
        return gain * norm.cdf(gain / error) + error * norm.pdf(gain / error)

    pool = np.random.default_rng(9).dirichlet(np.ones(3), 3000)
    (proposed,) = improvement(found.trials[4].alpha[None])
    assert proposed >= improvement(pool).max() - 1e-6
    assert proposed > improvement(pool).mean() + improvement(pool).std()


def test_the_seed_decides_the_search():
    score = landscape("interior", 0, 4, 50).dev
    paths = [
        [
            t.alpha.tolist()
            for t in search(gaussian_process(4, evaluations=14, seed=s), score).trials
        ]
        for s in (0, 0, 1)
    ]
    assert paths[0] == paths[1] != paths[2]


@pytest.mark.parametrize("budget", [4, 5, 8, 12])
def test_no_more_than_the_budget_is_measured(budget):
    found = search(gaussian_process(3, evaluations=budget), landscape("edge", 1, 3, 40).dev)
    assert found.evaluations == budget


def test_a_candidate_that_fails_is_left_out_of_the_process():
    def score(alpha):
        if 0 < alpha[0] < 0.2:
            raise RuntimeError("no")
        return bowl(np.array([0.5, 0.5]))(alpha)

    assert search(gaussian_process(2, evaluations=16), score).score > 49.9


def test_a_search_by_likelihood_uses_no_noise_of_scores():
    def never(trials):
        raise AssertionError("the noise is in points")

    best = np.array([0.2, 0.5, 0.3])
    found = search(
        gaussian_process(3, evaluations=30),
        lambda alpha: Evaluation(0.0, bowl(best)(alpha)),
        objective="log_likelihood",
        noise=never,
    )
    np.testing.assert_allclose(found.alpha, best, atol=0.05)


def test_equal_scores_everywhere_end_in_the_budget():
    found = search(gaussian_process(3, evaluations=9), lambda alpha: 40.0)
    assert (found.score, found.evaluations <= 9) == (40.0, True)


@pytest.mark.parametrize("seed", range(3))
def test_a_step_metric_is_climbed_above_the_opening(seed):
    land = landscape("interior", seed, 3, 200)
    found = search(gaussian_process(3, evaluations=16), land.dev)
    opening = max(found.trials[:4], key=lambda trial: trial.value).alpha
    assert land.regret(found.alpha) < land.regret(opening) / 2
