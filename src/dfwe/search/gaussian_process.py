"""Bayesian optimisation over the simplex: a Gaussian process of the score, expected improvement.

It needs the scores alone, and so serves free text too.
"""

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dfwe.search.evaluation import Evaluations, Noise, Trial
from dfwe.search.maximise import argmax
from dfwe.search.simplex import Alphas, Outcome, Strategy, fits, left_of
from dfwe.settings import Count, Whole, checked

if TYPE_CHECKING:
    from sklearn.gaussian_process import GaussianProcessRegressor

Floats = NDArray[np.float64]
MEASURED = 1e-3  # an alpha so near a measured one in every weight needs no measuring
LEAST = 1e-6  # variance of the noise, of the standardised values: keeps the kernel invertible


@checked
def gaussian_process(
    n: int, *, evaluations: Count | None = None, draws: Whole | None = None, seed: Whole = 0
) -> Strategy:
    """Measure the alpha with the largest expected improvement, time and again.

    The score is a Gaussian process over alpha with a Matern 5/2 kernel, whose scales maximise the
    likelihood of what is measured, and a noise of each trial's own: half the squared standard
    error of its difference from the opening's best. Where no noise is known (scores alone, a
    search by likelihood) one for all is fitted. The improvement is over the highest mean of a
    measured alpha (Mockus et al. 1978).

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the opening included; None as in
            `nelder_mead`.
        draws: random alphas, uniform on the simplex, behind the opening; None for n.
        seed: of the draws, those included among which the argmax is found.
    """
    opening = yield n
    left = left_of(evaluations, n)
    if n == 1 or not fits("The Gaussian process", 1, left):
        return Outcome()
    measured = _Measured(opening)
    drawn = min(n if draws is None else draws, left)
    if drawn > 0:
        measured.add((yield np.random.default_rng(seed).dirichlet(np.ones(n), drawn)))
    for step in range(left - drawn):
        best = _most_promising(measured, np.random.default_rng([seed, step]))
        if np.abs(measured.alphas - best).max(axis=1).min() < MEASURED:
            return Outcome(step)  # nothing else was drawn
        measured.add((yield best[None]))
    return Outcome(left - drawn)


class _Measured:
    """The trials that could be scored, and the noise of each."""

    def __init__(self, opening: Evaluations) -> None:
        likelihoods = [trial.log_likelihood for trial in opening.trials]
        in_points = opening.values.tolist() != likelihoods  # not climbed by likelihood
        self.noise: Noise | None = opening.noise if in_points else None
        self.first = opening.trials[int(np.argmax(opening.values))]
        self.rows: list[tuple[Floats, float, float]] = []  # alpha, value, variance
        self.add(opening)

    def add(self, evaluations: Evaluations) -> None:
        for trial, value in zip(evaluations.trials, evaluations.values.tolist(), strict=True):
            if np.isfinite(value):
                self.rows.append((trial.alpha, value, self._variance(trial)))

    @property
    def alphas(self) -> Alphas:
        """(m, n)."""
        return np.stack([alpha for alpha, _, _ in self.rows])

    def process(self) -> "GaussianProcessRegressor":
        """The process of the standardised values."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.gaussian_process import GaussianProcessRegressor
        from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

        values = np.array([value for _, value, _ in self.rows])
        variances = np.array([variance for _, _, variance in self.rows])
        scale = values.std() or 1.0
        kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(0.5, (0.05, 5.0), nu=2.5)
        if self.noise is None:
            kernel = kernel + WhiteKernel(0.1, (LEAST, 1.0))
        noise = np.maximum(variances / scale**2, LEAST)
        process = GaussianProcessRegressor(kernel, alpha=noise)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound
            process.fit(self.alphas, (values - values.mean()) / scale)
        return process

    def _variance(self, trial: Trial) -> float:
        """Of the trial's value; 0 where nothing is known of it."""
        if self.noise is None:
            return 0.0
        return float(self.noise([self.first, trial])[0, 1]) ** 2 / 2


def _most_promising(measured: _Measured, generator: np.random.Generator) -> Floats:
    """The alpha with the largest expected improvement, (n,)."""
    from scipy.stats import norm

    process = measured.process()
    known = measured.alphas
    best = float(process.predict(known).max())

    def improvement(alphas: Alphas) -> Floats:
        mean, error = process.predict(alphas, return_std=True)
        error = np.maximum(error, 1e-12)
        z = (mean - best) / error
        gain: Floats = (mean - best) * norm.cdf(z) + error * norm.pdf(z)
        near = np.abs(alphas[:, None] - known).max(axis=2).min(axis=1) < MEASURED
        return np.where(near, -1.0, gain)

    return argmax(improvement, known, generator)
