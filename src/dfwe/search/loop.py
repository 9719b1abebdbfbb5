"""The loop that drives a strategy with a score (Eq. 2); ask/tell is a generator over batches."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import UserError, check_choice, machine_failed
from dfwe.search.ledger import Ledger, Trial
from dfwe.search.simplex import Alphas, Outcome, Strategy

log = logging.getLogger(__name__)
MANY_REPEATS = 0.25  # share of proposals already scored above which the search says so
OBJECTIVES = ("score", "log_likelihood")
FLAT = 12  # so many last trials of one and the same score, and the search says so


@dataclass(frozen=True)
class Evaluation:
    """What a score function may return beside the plain score."""

    score: float
    log_likelihood: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"


class Score(Protocol):
    """alpha (n,), or (g, n) -> points, higher is better."""

    def __call__(self, alpha: NDArray[np.float64]) -> float | Evaluation: ...


@dataclass(frozen=True)
class Result:
    """What a search found.

    Args:
        best: the best fp32 trial, ties by log-likelihood, then by the earlier one; or what the
            strategy settled on.
        trials: every scored alpha, in proposal order.
        iterations: what the strategy counted as such.
        repeats: proposals answered from earlier trials.
    """

    best: Trial
    trials: tuple[Trial, ...] = field(repr=False)
    iterations: int
    repeats: int

    @property
    def alpha(self) -> NDArray[np.float64]:
        return self.best.alpha

    @property
    def score(self) -> float:
        return self.best.value

    @property
    def evaluations(self) -> int:
        return len(self.trials)

    def nearest_centroid(self, within: float) -> Trial:
        """The trial nearest the uniform average of those at most `within` points below the best.

        With the best's standard error, the one-standard-error rule (Breiman et al. 1984): the
        plainest mixture that the dev split cannot tell from the best.
        """
        n = self.alpha.shape[-1]
        close = [
            trial
            for trial in self.trials
            if trial.precision == self.best.precision and trial.value >= self.score - within
        ]
        return min(close, key=lambda trial: (np.square(trial.alpha - 1 / n).sum(), -trial.value))


def search(
    strategy: Strategy,
    score: Score,
    *,
    screen: Score | None = None,
    top: int = 5,
    objective: str = "score",
    ledger: Ledger | str | Path | None = None,
    map: Callable[..., Iterable[Any]] = map,
    on_trial: Callable[[Trial, Trial], None] | None = None,
) -> Result:
    """alpha* = argmax of the score over what is proposed (Eq. 2).

    An alpha scored before is answered from its trial. A candidate that fails, or scores NaN, is
    noted and counts as the worst.

    Args:
        strategy: `scores = yield alphas`, alphas (m, n), scores (m,).
        score: alpha (n,) -> points, or a `Evaluation`.
        screen: a cheaper score, whose `Evaluation.precision` is not "fp32", that steers after the
            first batch; the `top` best of those that the strategy settles among are then scored
            by `score`, and only what `score` has scored can win.
        objective: what the strategy climbs and the best is chosen by: "score", or
            "log_likelihood" of the `Evaluation`, which has no steps; ties by the other.
        ledger: notes every trial, or the file to note them in; an unfinished one is replayed and
            gone on with.
        map: scores the new candidates of a batch, in order; that of an executor of
            `concurrent.futures` scores them in parallel.
        on_trial: called with each trial and the best so far.

    Raises:
        UserError: the ledger belongs to another search, `by` is unknown, or no candidate could be
            scored.
    """
    if not isinstance(strategy, Generator):
        raise UserError("search takes what a proposer returns: search(nelder_mead(n), score).")
    check_choice("by", objective, OBJECTIVES)
    ledger = Ledger(ledger) if isinstance(ledger, str | Path) else ledger
    merit = partial(_merit, objective=objective)
    key = partial(_key, objective=objective)
    trials: list[Trial] = []
    known: dict[bytes, Trial] = {}
    repeats = 0

    def measure(alphas: list[NDArray[np.float64]], score: Score) -> None:
        attempt = partial(_attempt, score, screening=score is screen)
        for trial, seconds in _scored(alphas, len(trials), ledger, attempt, map):
            if ledger is not None and seconds is not None:
                ledger.append(trial, seconds)
            trials.append(trial)
            known[trial.alpha.tobytes()] = trial
            if on_trial is not None:
                on_trial(trial, max(trials, key=key))

    try:
        alphas, steering = next(strategy), score
        while True:
            alphas = _rows(alphas)
            fresh = _fresh(alphas, known)
            repeats += len(alphas) - len(fresh)
            measure(fresh, steering)
            _check_scored(trials, objective)
            values = np.array([merit(known[alpha])[1] for alpha in _keys(alphas)])
            alphas, steering = strategy.send(values), screen or score
    except StopIteration as stop:
        outcome = stop.value or Outcome()
    _check_scored(trials, objective)
    _warn([merit(trial)[1] for trial in trials], repeats)
    candidates = known.keys() if outcome.candidates is None else _keys(_rows(outcome.candidates))
    if screen is not None:
        leaders = sorted((known[alpha] for alpha in candidates), key=merit, reverse=True)[:top]
        measure(_unsure(leaders), score)
    if ledger is not None:
        ledger.check_end(len(trials))
    best = max((known[alpha] for alpha in candidates), key=key)
    return Result(best, tuple(trials), outcome.iterations, repeats)


def _unsure(trials: list[Trial]) -> list[NDArray[np.float64]]:
    """The alphas that only the screen has scored, each once."""
    return list({t.index: t.alpha for t in trials if t.precision != "fp32"}.values())


def _merit(trial: Trial, objective: str) -> tuple[bool, float, float, int]:
    """By score or log-likelihood, ties by the other, then the earlier one."""
    log_likelihood = -np.inf if trial.log_likelihood is None else trial.log_likelihood
    first, second = (
        (trial.value, log_likelihood) if objective == "score" else (log_likelihood, trial.value)
    )
    return trial.score is not None, first, second, -trial.index


def _key(trial: Trial, objective: str) -> tuple[Any, ...]:
    """The order of trials: a lower precision steers the search, but only fp32 can win."""
    return trial.score is not None, trial.precision == "fp32", *_merit(trial, objective)


def _check_scored(trials: list[Trial], objective: str) -> None:
    if all(trial.score is None for trial in trials):
        reason = trials[0].error if trials else "nothing was proposed"
        raise UserError(
            f"None of the {len(trials)} candidates could be scored ({reason}); mend that, delete "
            "the ledger where there is one, and search again."
        )
    if objective == "log_likelihood" and all(trial.log_likelihood is None for trial in trials):
        raise UserError(
            "A search by log_likelihood needs a score function that returns a Evaluation with "
            "one; give it, or search by score."
        )


def _warn(values: list[float], repeats: int) -> None:
    """Of what the strategy climbed, trial by trial; -inf for a failed one."""
    asked = len(values) + repeats
    if repeats > MANY_REPEATS * asked:
        log.warning(
            "%d of %d proposals had been scored before: the steps are below what this dev "
            "set can resolve.",
            repeats,
            asked,
        )
    if len(values) > FLAT and len(set(values[-FLAT:])) == 1:
        log.warning(
            "The last %d candidates all scored %.2f: the steps are below what this dev "
            "set can resolve.",
            FLAT,
            values[-1],
        )


def _rows(alphas: Alphas) -> Alphas:
    """The alphas as they are noted; there is no -0.0, since their bytes are keys."""
    return np.array(alphas, dtype=np.float64, order="C") + 0.0


def _keys(alphas: Alphas) -> list[bytes]:
    return [alpha.tobytes() for alpha in alphas]


def _fresh(alphas: NDArray[np.float64], known: Mapping[bytes, Trial]) -> list[NDArray[np.float64]]:
    """The rows not scored before, each once."""
    rows = {alpha.tobytes(): alpha.copy() for alpha in alphas}
    return [alpha for key, alpha in rows.items() if key not in known]


def _scored(
    alphas: list[NDArray[np.float64]],
    first: int,
    ledger: Ledger | None,
    attempt: Callable[[int, NDArray[np.float64]], tuple[Trial, float]],
    map: Callable[..., Iterable[Any]],
) -> Iterable[tuple[Trial, float | None]]:
    """Trials in order; seconds are None for those read from the ledger."""
    done = 0
    for alpha in alphas:
        noted = ledger.replay(first + done, alpha) if ledger is not None else None
        if noted is None:
            break
        done += 1
        yield noted, None
    if alphas[done:]:
        yield from map(attempt, range(first + done, first + len(alphas)), alphas[done:])


def _attempt(
    score: Score, index: int, alpha: NDArray[np.float64], *, screening: bool
) -> tuple[Trial, float]:
    began = time.monotonic()
    try:
        measured = score(alpha.copy())
        found = measured if isinstance(measured, Evaluation) else Evaluation(float(measured))
        wrong = None if math.isfinite(found.score) else f"the score is {float(found.score)}"
    except Exception as error:  # a candidate that fails is a result, not the end of the search
        if isinstance(error, UserError) or machine_failed(error):
            raise
        trial = Trial(index, alpha, None, error=f"{type(error).__name__}: {error}")
        log.warning("Candidate %d counts as the worst (%s).", index, trial.error, exc_info=True)
        return trial, time.monotonic() - began
    if wrong is not None:
        return Trial(index, alpha, None, error=wrong), time.monotonic() - began
    metrics = {name: _finite(value) for name, value in found.metrics.items()}
    # What the screen says cannot win, whatever it says of itself.
    precision = "screen" if screening and found.precision == "fp32" else found.precision
    trial = Trial(
        index, alpha, float(found.score), _finite(found.log_likelihood), metrics, precision
    )
    return trial, time.monotonic() - began


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else float(value)
