"""A search by a model of the options' log-likelihoods: few evaluations where it predicts well.

For every example and option z(alpha) = sum_i alpha_i z_i + sum_{i<j} alpha_i alpha_j c_ij + r,
with r(alpha) a Gaussian process (kriging: Sacks et al. 1989). The alpha with the best predicted
score is measured, and the model is fitted again with it.
"""

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dfwe.search.evaluation import Evaluations, OptionScore, Trial
from dfwe.search.maximise import argmax
from dfwe.search.nelder_mead import Asking, best_simplex, descend
from dfwe.search.simplex import Alphas, Opening, Outcome, Strategy, experts, fits, left_of
from dfwe.settings import Count, Positive, Share, Whole, checked

Floats = NDArray[np.float64]
ALL_PAIRS = 6  # experts whose pairs all have their midpoint measured
BEST = 4  # of more experts, those whose pairs have
LINEAR, QUADRATIC = 1e4, 1e3  # prior variances of z_i and c_ij, as multiples of r's
REACH = 0.5  # distance over which r changes
NUGGET = 1e-6  # of the same variance: keeps the kernel invertible
MEASURED = 1e-3  # an alpha so near a measured one in every weight needs no measuring
COOLING = 3.0
SURE = 1e-9  # nats: the least deviation of a prediction
PREDICTIONS = 1 << 22  # at a time: bounds memory
_Stage = tuple[float, float]  # temperature, trusted share of wrong answers


@checked
def surrogate(
    n: int,
    *,
    evaluations: Count | None = None,
    tolerance: Share = 0.15,
    temperature: Positive = 1.0,
    coldest: Share = 0.1,
    iterations: Whole = 40,
    seed: Whole = 0,
) -> Strategy:
    """Measure the alpha whose score, by predicted log-likelihoods of the options, is the best.

    First the midpoints of all pairs of experts are measured, with more than six experts those of
    the best four. What is maximised then is smooth: the score of answers drawn by
    softmax(z / temperature), among the alphas of which the model expects to predict at most half
    of `tolerance` wrongly. The temperature falls to a third whenever the argmax was measured
    before, down to the coldest; in the end every alpha may be proposed. The colder, the nearer to
    the score of dev itself, its luck included.

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the opening included; None as in
            `nelder_mead`.
        tolerance: the largest share of a trial's answers that may be predicted wrongly; after a
            trial with more, Nelder-Mead continues from the best ones, as they were measured.
        temperature: the first one, in nats.
        coldest: the last one, as a share of the first.
        iterations: of Nelder-Mead.
        seed: of the draws that the argmax is found among.
    """
    opening = yield Opening(n, options=True)
    score = opening.options
    assert score is not None
    left = left_of(evaluations, n)
    if n == 1 or not fits("The surrogate", 1, left):
        return Outcome()
    measured = _Measured(opening)
    midpoints = _midpoints(n, opening.values)[:left]
    if len(midpoints) > 0:
        measured.add((yield midpoints))
        left -= len(midpoints)
    wrong: list[float] = []
    for stage in _stages(temperature, coldest, tolerance):
        while left > 0:
            model = measured.model()
            best = _best(model, score, stage, measured.alphas, seed)
            if np.abs(measured.alphas - best).max(axis=1).min() < MEASURED:
                break
            trial = yield from measured.ask(best)
            left -= 1
            if trial.answers is None:
                continue  # it failed: nothing was to be predicted
            missed = model(best[None])[0][0].argmax(axis=1) != score.chosen(trial.answers.texts)
            wrong.append(float(missed.mean()))
            if wrong[-1] > tolerance:
                alphas, values = measured.alphas, np.array(measured.values)
                start = best_simplex(alphas, values)
                outcome = yield from descend(alphas[start], left, iterations, values=values[start])
                rounds = 0 if outcome is None else outcome.iterations
                return Outcome(len(wrong) + rounds, remark=_remark(wrong, tolerance))
    return Outcome(len(wrong), remark=_remark(wrong, tolerance))


def _stages(temperature: float, coldest: float, tolerance: float) -> Iterator[_Stage]:
    """Falling temperatures where the model trusts itself, then the last of them everywhere."""
    last = coldest * temperature
    while temperature >= last:
        yield temperature, tolerance / 2
        temperature /= COOLING
    yield COOLING * temperature, 1.0


class PredictedLogits:
    """alpha (c, n) -> log-likelihoods of every example's options, (c, examples, options), with
    their standard deviations.

    Each example's are shifted to the mean 0, since what all options share decides nothing. The
    prior variances of z_i and c_ij are so large that what is quadratic is predicted exactly from
    n (n + 1) / 2 alphas; with fewer, c_ij that nothing tells are 0.

    Args:
        alphas: (m, n), measured.
        logits: (m, examples, options); -inf where an example has fewer options.
    """

    def __init__(self, alphas: Alphas, logits: Floats) -> None:
        self.alphas = alphas
        self.present = np.isfinite(logits[0])  # (examples, options)
        kernel = _kernel(alphas, alphas) + NUGGET * np.eye(len(alphas))
        root = np.linalg.inv(np.linalg.cholesky(kernel))  # root.T root is the kernel's inverse
        self.root = np.asarray(root, np.float64)
        values = _centred(logits, self.present).reshape(len(alphas), -1)
        self.weights = self.root.T @ (self.root @ values)  # (m, examples * options)
        # r's variance: each trial's error, predicted from the others, over what is expected of it
        errors = self.weights**2 / np.square(self.root).sum(axis=0)[:, None]
        self.variance = float(errors[:, self.present.ravel()].mean())

    def __call__(self, alphas: Alphas) -> tuple[Floats, Floats]:
        """The log-likelihoods, and the standard deviation of each alpha's, (c,), in nats."""
        near = _kernel(alphas, self.alphas)
        logits = (near @ self.weights).reshape(-1, *self.present.shape)
        unknown = _prior(alphas) - np.square(near @ self.root.T).sum(axis=1)
        deviations = np.sqrt(self.variance * np.maximum(unknown, 0.0))
        return np.where(self.present, logits, -np.inf), deviations

    def smoothed(
        self, alphas: Alphas, score: OptionScore, temperature: float, trusted: float
    ) -> Floats:
        """The predicted scores of alphas (c, n), (c,); -inf where more answers than the share
        `trusted` are expected to be predicted wrongly."""
        rows = max(1, PREDICTIONS // self.present.size)
        parts = [alphas[start : start + rows] for start in range(0, len(alphas), rows)]
        return np.concatenate([self._smoothed(x, score, temperature, trusted) for x in parts])

    def _smoothed(
        self, alphas: Alphas, score: OptionScore, temperature: float, trusted: float
    ) -> Floats:
        from scipy.special import ndtr

        logits, deviations = self(alphas)
        second, first = np.moveaxis(np.partition(logits, -2, axis=-1)[..., -2:], -1, 0)
        # The two likeliest change places where the error of their difference exceeds it.
        errors = np.sqrt(2.0) * np.maximum(deviations, SURE)
        wrong: Floats = np.asarray(ndtr((second - first) / errors[:, None]), np.float64)
        return np.where(wrong.mean(axis=1) > trusted, -np.inf, score.smoothed(logits, temperature))


class _Measured:
    """What a search has measured so far."""

    def __init__(self, opening: Evaluations) -> None:
        self.trials: list[Trial] = []
        self.values: list[float] = []
        self.add(opening)

    def add(self, evaluations: Evaluations) -> None:
        self.trials += evaluations.trials
        self.values += evaluations.values.tolist()

    def ask(self, alpha: Floats) -> Asking[Trial]:
        """The trial of an alpha (n,)."""
        self.add((yield alpha[None]))
        return self.trials[-1]

    @property
    def alphas(self) -> Alphas:
        """(m, n)."""
        return np.stack([trial.alpha for trial in self.trials])

    def model(self) -> PredictedLogits:
        """Fitted to the trials with finite log-likelihoods of all their options."""
        rows = [_logits(trial) for trial in self.trials]
        known = [k for k, row in enumerate(rows) if row is not None]
        logits = np.stack([row for row in rows if row is not None])
        return PredictedLogits(self.alphas[known], logits)


def _best(
    model: PredictedLogits,
    score: OptionScore,
    stage: _Stage,
    known: Alphas,
    seed: int,
) -> Floats:
    """The alpha with the best predicted score, (n,)."""
    generator = np.random.default_rng([seed, len(known)])
    return argmax(lambda alphas: model.smoothed(alphas, score, *stage), known, generator)


def _midpoints(n: int, values: Floats) -> Alphas:
    """Of all pairs of experts; with many experts, of those with the best values."""
    chosen = range(n) if n <= ALL_PAIRS else np.argsort(-values[:n], kind="stable")[:BEST].tolist()
    ends = experts(n)
    middles = [(ends[i] + ends[j]) / 2 for i, j in combinations(sorted(chosen), 2)]
    return np.array(middles).reshape(-1, n)


def _kernel(first: Alphas, second: Alphas) -> Floats:
    """The prior covariance of z(alpha) at alphas (c, n) and (m, n), (c, m), r's variance 1.

    r has a Matern 5/2 kernel.
    """
    apart = np.sqrt(5.0) / REACH * np.linalg.norm(first[:, None] - second, axis=2)
    rest: Floats = (1.0 + apart + apart**2 / 3.0) * np.exp(-apart)
    return LINEAR * first @ second.T + QUADRATIC * _pairs(first) @ _pairs(second).T + rest


def _prior(alphas: Alphas) -> Floats:
    """The diagonal of their kernel, (c,)."""
    squares = [np.square(part).sum(axis=1) for part in (alphas, _pairs(alphas))]
    return LINEAR * squares[0] + QUADRATIC * squares[1] + 1.0


def _pairs(alphas: Alphas) -> Floats:
    """alpha_i alpha_j for i < j, (m, n (n - 1) / 2)."""
    i, j = np.triu_indices(alphas.shape[1], 1)
    return alphas[:, i] * alphas[:, j]


def _logits(trial: Trial) -> Floats | None:
    """(examples, options), -inf where an example has fewer; None where one is not finite."""
    if trial.answers is None or trial.answers.options is None:
        return None
    rows = trial.answers.options
    logits = np.full((len(rows), max(2, *map(len, rows))), -np.inf)
    for logit, row in zip(logits, rows, strict=True):
        logit[: len(row)] = row
    finite = np.isfinite(logits).sum() == sum(map(len, rows))
    return logits if finite else None


def _centred(logits: Floats, present: NDArray[np.bool_]) -> Floats:
    """Each example's logits with mean 0; 0 where it has no such option."""
    values = np.where(present, logits, 0.0)
    means = values.sum(axis=-1) / present.sum(axis=-1)
    return np.where(present, values - means[..., None], 0.0)


def _remark(wrong: Sequence[float], tolerance: float) -> str | None:
    """How well the trials were predicted."""
    if not wrong:
        return None
    trials = f"{len(wrong)} trial" + "s" * (len(wrong) > 1)
    told = f"The surrogate predicted {np.mean(wrong):.1%} of the answers of {trials} wrongly"
    if wrong[-1] <= tolerance:
        return f"{told}."
    return (
        f"{told}, of the last one {wrong[-1]:.1%}, more than {tolerance:.0%}: Nelder-Mead "
        "continued from the best trials."
    )
