"""A search by a model of the options' log-likelihoods: few evaluations where it predicts well.

For every example and option z(alpha) ~ sum_i alpha_i z_i + sum_{i<j} alpha_i alpha_j c_ij. The
alpha with the best predicted score is measured, and the model is fitted again with it.
"""

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from dfwe.search.evaluation import Evaluations, OptionScore, Trial
from dfwe.search.maximise import argmax
from dfwe.search.nelder_mead import Asking, descend, first_simplex
from dfwe.search.simplex import Alphas, Opening, Outcome, Strategy, experts, fits, left_of
from dfwe.settings import Count, Positive, Share, Whole, checked

Floats = NDArray[np.float64]
ALL_PAIRS = 6  # experts whose pairs all have their midpoint measured
BEST = 4  # of more experts, those whose pairs have
NEARBY = 0.1  # a trial's weight in the fit halves at this distance from the best one
RIDGE = 1e-4  # on c_ij where there are fewer trials than coefficients
LINEAR = 1e-8  # on z_i there
MEASURED = 1e-3  # an alpha so near a measured one in every weight needs no measuring
COOLING = 3.0
PREDICTIONS = 1 << 22  # at a time: bounds memory


@checked
def surrogate(
    n: int,
    *,
    evaluations: Count | None = None,
    tolerance: Share = 0.15,
    temperature: Positive = 1.0,
    coldest: Share = 0.1,
    iterations: Whole = 40,
    shrink: Share = 0.35,
    seed: Whole = 0,
) -> Strategy:
    """Measure the alpha whose score, by predicted log-likelihoods of the options, is the best.

    First the midpoints of all pairs of experts are measured, with more than six experts those of
    the best four. What is maximised then is smooth: the score of answers drawn by
    softmax(z / temperature). The temperature falls to a third whenever the argmax was measured
    before, and the search ends where it would be below the coldest. The colder, the nearer to
    the score of dev itself, its luck included.

    Args:
        n: the number of experts.
        evaluations: at most so many alphas are proposed, the opening included; None as in
            `nelder_mead`.
        tolerance: the largest share of a trial's answers that may be predicted wrongly; after a
            trial with more, Nelder-Mead goes on from the best one.
        temperature: the first one, in nats.
        coldest: the last one, as a share of the first.
        iterations: of Nelder-Mead.
        shrink: of Nelder-Mead's first simplex.
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
    last = coldest * temperature
    while left > 0 and temperature >= last:
        model = measured.model()
        best = _best(model, score, temperature, measured.alphas, seed)
        if np.abs(measured.alphas - best).max(axis=1).min() < MEASURED:
            temperature /= COOLING
            continue
        trial = yield from measured.ask(best)
        left -= 1
        if trial.answers is None:
            continue  # it failed: nothing was to be predicted
        missed = model(best[None])[0].argmax(axis=1) != score.chosen(trial.answers.texts)
        wrong.append(float(missed.mean()))
        if wrong[-1] > tolerance:
            start = first_simplex(measured.best, shrink)
            outcome = yield from descend(start, left, iterations)
            rounds = 0 if outcome is None else outcome.iterations
            return Outcome(len(wrong) + rounds, remark=_remark(wrong, tolerance))
    return Outcome(len(wrong), remark=_remark(wrong, tolerance))


class QuadraticLogits:
    """alpha (c, n) -> log-likelihoods of every example's options, (c, examples, options).

    Each example's are shifted to the mean 0, since what all options share decides nothing.

    Args:
        alphas: (m, n), measured.
        logits: (m, examples, options); -inf where an example has fewer options.
        centre: (n,); the squared residual of a trial at distance d from it has the weight
            1 / (1 + (d / 0.1)^2).
    """

    def __init__(self, alphas: Alphas, logits: Floats, centre: Floats) -> None:
        self.present = np.isfinite(logits[0])  # (examples, options)
        self.values = _centred(logits, self.present)
        distance = np.linalg.norm(alphas - centre, axis=1)
        self.hat = _hat(_features(alphas), 1.0 / (1.0 + (distance / NEARBY) ** 2), len(centre))

    def __call__(self, alphas: Alphas) -> Floats:
        m, *shape = self.values.shape
        weights = _features(alphas) @ self.hat  # (c, m): each trial's part in the prediction
        predicted = (weights @ self.values.reshape(m, -1)).reshape(len(alphas), *shape)
        return np.where(self.present, predicted, -np.inf)

    def smoothed(self, alphas: Alphas, score: OptionScore, temperature: float) -> Floats:
        """The predicted scores of alphas (c, n), (c,)."""
        rows = max(1, PREDICTIONS // self.present.size)
        parts = [alphas[start : start + rows] for start in range(0, len(alphas), rows)]
        return np.concatenate([score.smoothed(self(part), temperature) for part in parts])


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

    @property
    def best(self) -> Floats:
        """The alpha with the best value, (n,)."""
        return self.alphas[int(np.argmax(self.values))]

    def model(self) -> QuadraticLogits:
        """Fitted to the trials with finite log-likelihoods of all their options."""
        rows = [_logits(trial) for trial in self.trials]
        known = [k for k, row in enumerate(rows) if row is not None]
        logits = np.stack([row for row in rows if row is not None])
        return QuadraticLogits(self.alphas[known], logits, self.best)


def _best(
    model: QuadraticLogits, score: OptionScore, temperature: float, known: Alphas, seed: int
) -> Floats:
    """The alpha with the best predicted score, (n,)."""
    generator = np.random.default_rng([seed, len(known)])
    return argmax(lambda alphas: model.smoothed(alphas, score, temperature), known, generator)


def _midpoints(n: int, values: Floats) -> Alphas:
    """Of all pairs of experts; with many experts, of those with the best values."""
    chosen = range(n) if n <= ALL_PAIRS else np.argsort(-values[:n], kind="stable")[:BEST].tolist()
    ends = experts(n)
    middles = [(ends[i] + ends[j]) / 2 for i, j in combinations(sorted(chosen), 2)]
    return np.array(middles).reshape(-1, n)


def _features(alphas: Alphas) -> Floats:
    """alpha_i, then alpha_i alpha_j for i < j, (m, n (n + 1) / 2)."""
    i, j = np.triu_indices(alphas.shape[1], 1)
    return np.concatenate([alphas, alphas[:, i] * alphas[:, j]], axis=1)


def _hat(features: Floats, weights: Floats, n: int) -> Floats:
    """The matrix (p, m) from m trials' values to the p coefficients that fit them.

    Weighted least squares; with fewer trials than coefficients, with a ridge (Hoerl & Kennard
    1970) that draws c_ij to zero, in the form whose cost grows with the trials alone.
    """
    m, p = features.shape
    root = np.sqrt(weights)
    if m >= p and np.linalg.matrix_rank(features) == p:
        return np.asarray(np.linalg.pinv(root[:, None] * features) * root, np.float64)
    prior = np.concatenate([np.full(n, 1 / LINEAR), np.full(p - n, 1 / RIDGE)])
    spread = prior[:, None] * features.T  # (p, m)
    fitted = np.linalg.solve(features @ spread + np.diag(1 / weights), spread.T)
    return np.asarray(fitted.T, np.float64)


def _logits(trial: Trial) -> Floats | None:
    """(examples, options), -inf where an example has fewer; None where one is not finite."""
    if trial.answers is None or trial.answers.options is None:
        return None
    rows = trial.answers.options
    logits = np.full((len(rows), max(map(len, rows))), -np.inf)
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
        f"{told}, of the last one {wrong[-1]:.1%}, more than {tolerance:.0%}: Nelder-Mead went on "
        "from the best trial."
    )
