"""The loop that drives a strategy with a score (Eq. 2); ask/tell is a generator over batches."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, SupportsFloat, get_args

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import UserError, check_choice, machine_failed
from dfwe.search.evaluation import Alpha, Evaluation, Evaluations, Scored, Trial
from dfwe.search.ledger import Ledger
from dfwe.search.simplex import Alphas, Outcome, Shape, Strategy, initial_alphas, toward_centroid

log = logging.getLogger(__name__)
MANY_REPEATS = 0.25  # share of proposals already scored above which the search says so
Objective = Literal["score", "log_likelihood"]
Noise = Callable[[Sequence[Trial]], NDArray[np.float64]]
Ties = Literal["none", "log_likelihood"]
TIE = 1e-3  # points per nat: a difference in likelihood orders trials of about one score alone
FLAT = 12  # so many last trials of one and the same score, and the search says so


class Score(Protocol):
    """alpha (n,), or (g, n) -> points, higher is better."""

    def __call__(self, alpha: Alpha) -> float | Scored | Evaluation: ...


@dataclass(frozen=True)
class Result:
    """The outcome of a search.

    Args:
        best: the best fp32 trial, ties by log-likelihood, then by the earlier one; or the best
            of the strategy's candidates.
        trials: every scored alpha, in the order of proposals.
        candidates: the trials that `best` is the best of, likewise.
        iterations: what the strategy counted as such.
        repeats: proposals answered from earlier trials.
    """

    best: Trial
    trials: tuple[Trial, ...] = field(repr=False)
    candidates: tuple[Trial, ...] = field(repr=False)
    iterations: int
    repeats: int

    @property
    def alpha(self) -> Alpha:
        return self.best.alpha

    @property
    def score(self) -> float:
        return self.best.value

    @property
    def evaluations(self) -> int:
        return len(self.trials)

    def within(self, errors: Sequence[float]) -> list[Trial]:
        """The trials at most one standard error below the best, which is one of them.

        Args:
            errors: of each trial's difference from the best, in points (Breiman et al. 1984).
        """
        return [
            trial
            for trial, error in zip(self.trials, errors, strict=True)
            if trial.score is not None
            and trial.precision == self.best.precision
            and trial.value >= self.score - error
        ]


def nearest_centroid(trials: Sequence[Trial]) -> Trial:
    """The trial nearest the uniform average; of equals the one with the best score."""
    n = trials[0].alpha.shape[-1]
    return min(trials, key=lambda trial: (np.square(trial.alpha - 1 / n).sum(), -trial.value))


def likeliest(trials: Sequence[Trial]) -> Trial:
    """The trial with the highest log-likelihood; of equals the one with the best score."""
    return max(
        trials,
        key=lambda trial: (
            -np.inf if trial.log_likelihood is None else trial.log_likelihood,
            trial.value,
        ),
    )


def search(
    strategy: Strategy,
    score: Score,
    *,
    screen: Score | None = None,
    top: int = 5,
    objective: Objective = "score",
    ties: Ties = "none",
    noise: Noise | None = None,
    shrinkage: float | None = None,
    ledger: Ledger | str | Path | None = None,
    map: Callable[..., Iterable[Any]] = map,
    on_trial: Callable[[Trial, Trial], None] | None = None,
) -> Result:
    """alpha* = argmax of the score over what is proposed (Eq. 2).

    An alpha that was scored before is answered from its trial. A candidate that fails, or scores
    NaN, is recorded and counts as the worst.

    Args:
        strategy: `evaluations = yield n`, then `evaluations = yield alphas` with alphas (m, n).
        score: alpha (n,) -> points, or points with what they rest on.
        screen: a cheaper score, whose `Evaluation.precision` is not "fp32", that steers after the
            first batch; the `top` best of the strategy's candidates are then scored by `score`,
            and only what `score` has scored can win.
        top: how many of the screened candidates are scored again.
        objective: what the strategy climbs and the best is chosen by: "score", or
            "log_likelihood" of the `Evaluation`, which has no steps; ties by the other.
        ties: what orders trials of one score while the strategy climbs: "none", or
            "log_likelihood", which adds `TIE` points per nat to what the strategy is sent.
        noise: m trials -> the standard error of each difference of two scores, (m, m), in points;
            what a strategy needs that asks what dev can tell apart.
        shrinkage: the share of the average, 0..1, by which the best alpha is drawn toward it; the
            drawn-in alpha is scored and is the result. None leaves the best as it is.
        ledger: records every trial, or the file to record them in; an unfinished one is replayed
            and continued.
        map: scores the new candidates of a batch, in order; that of an executor of
            `concurrent.futures` scores them in parallel.
        on_trial: called with each trial and the best so far.

    Raises:
        UserError: the ledger belongs to another search, `objective` or `ties` is unknown, or no
            candidate could be scored.
    """
    if not isinstance(strategy, Generator):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise UserError("search takes what a strategy returns: search(nelder_mead(n), score).")
    check_choice("objective", objective, get_args(Objective))
    check_choice("ties", ties, get_args(Ties))
    ledger = Ledger(ledger) if isinstance(ledger, str | Path) else ledger
    trials = _Trials(objective, ties, ledger, map, on_trial)
    repeats = 0
    try:
        alphas, steering = _alphas(next(strategy)), partial(_attempt, score)
        while True:
            repeats += trials.evaluate(alphas, steering)
            evaluations = trials.evaluations(alphas)
            if noise is not None:
                evaluations = replace(evaluations, errors=noise(evaluations.trials))
                noise = None  # of the opening alone
            alphas = _alphas(strategy.send(evaluations))
            if screen is not None:
                steering = partial(_attempt, screen, screening=True)
    except StopIteration as stop:
        outcome = stop.value or Outcome()
    trials.check_scored()
    _warn([trials.merit(trial)[1] for trial in trials.all], repeats)
    candidates = trials.candidates(outcome.candidates)
    if screen is not None:
        leaders = sorted(candidates, key=trials.merit, reverse=True)[:top]
        trials.record(_unsure(leaders), partial(_attempt, score))
    if shrinkage is not None:
        best = max(trials.candidates(outcome.candidates), key=trials.key)
        drawn_in = _alphas(toward_centroid(best.alpha, shrinkage)[None])
        trials.evaluate(drawn_in, partial(_attempt, score))
        trials.record(_unsure(trials.candidates(drawn_in)), partial(_attempt, score))
        outcome = replace(outcome, candidates=drawn_in)
    if ledger is not None:
        ledger.check_end(len(trials.all))
    candidates = trials.candidates(outcome.candidates)  # screened anew, some of them
    best = max(candidates, key=trials.key)
    able = {t.index for t in candidates if t.score is not None and t.precision == best.precision}
    rivals = tuple(trial for trial in trials.all if trial.index in able)
    return Result(best, tuple(trials.all), rivals, outcome.iterations, repeats)


Attempt = Callable[[int, Alpha], Trial]


class _Trials:
    """The trials of one search: scored, replayed, recorded, ranked."""

    def __init__(
        self,
        objective: Objective,
        ties: Ties,
        ledger: Ledger | None,
        map: Callable[..., Iterable[Any]],
        on_trial: Callable[[Trial, Trial], None] | None,
    ) -> None:
        self.objective = objective
        self.ties = ties
        self.ledger = ledger
        self.map = map
        self.on_trial = on_trial
        self.all: list[Trial] = []
        self.by_alpha: dict[bytes, Trial] = {}  # the last trial of an alpha

    def evaluate(self, alphas: Alphas, attempt: Attempt) -> int:
        """Scores the alphas that were not scored before; how many were."""
        rows = {alpha.tobytes(): alpha.copy() for alpha in alphas}
        fresh = [alpha for key, alpha in rows.items() if key not in self.by_alpha]
        self.record(fresh, attempt)
        self.check_scored()
        return len(alphas) - len(fresh)

    def record(self, alphas: Sequence[Alpha], attempt: Attempt) -> None:
        """Replays what the ledger has of these alphas and scores the others, in order."""
        first, pending = len(self.all), list(alphas)
        while pending and (trial := self._replay(len(self.all), pending[0])) is not None:
            pending.pop(0)
            self._add(trial)
        if not pending:
            return
        numbers = range(len(self.all), first + len(alphas))
        for trial in self.map(attempt, numbers, pending):
            if self.ledger is not None:
                self.ledger.append(trial)
            self._add(trial)

    def evaluations(self, alphas: Alphas) -> Evaluations:
        """What the strategy is sent for the alphas that it proposed."""
        rows = tuple(self.by_alpha[alpha.tobytes()] for alpha in alphas)
        return Evaluations(rows, np.array([self._value(trial) for trial in rows]))

    def candidates(self, alphas: Alphas | None) -> list[Trial]:
        """The last trial of each of these alphas; of every alpha for None."""
        if alphas is None:
            return list(self.by_alpha.values())
        return [self.by_alpha[alpha.tobytes()] for alpha in _alphas(alphas)]

    def _value(self, trial: Trial) -> float:
        """What the strategy climbs."""
        value = self.merit(trial)[1]
        if self.ties == "none" or self.objective != "score" or trial.log_likelihood is None:
            return value
        return value + TIE * trial.log_likelihood

    def merit(self, trial: Trial) -> tuple[bool, float, float, int]:
        """By the objective, ties by the other one, then the earlier trial."""
        likelihood = -np.inf if trial.log_likelihood is None else trial.log_likelihood
        first, second = (
            (trial.value, likelihood) if self.objective == "score" else (likelihood, trial.value)
        )
        return trial.score is not None, first, second, -trial.index

    def key(self, trial: Trial) -> tuple[Any, ...]:
        """The order of trials: a lower precision steers the search, but only fp32 can win."""
        return trial.score is not None, trial.precision == "fp32", *self.merit(trial)

    def check_scored(self) -> None:
        """Raises UserError while no candidate could be scored."""
        if all(trial.score is None for trial in self.all):
            reason = self.all[0].error if self.all else "nothing was proposed"
            raise UserError(
                f"None of the {len(self.all)} candidates could be scored ({reason}); fix that, "
                "delete the ledger where there is one, and search again."
            )
        likely = any(trial.log_likelihood is not None for trial in self.all)
        if self.objective == "log_likelihood" and not likely:
            raise UserError(
                "A search by log_likelihood needs a score function that returns an Evaluation "
                "with one; give it, or search by score."
            )

    def _replay(self, index: int, alpha: Alpha) -> Trial | None:
        return None if self.ledger is None else self.ledger.replay(index, alpha)

    def _add(self, trial: Trial) -> None:
        self.all.append(trial)
        self.by_alpha[trial.alpha.tobytes()] = trial
        if self.on_trial is not None:
            self.on_trial(trial, max(self.all, key=self.key))


def _alphas(request: Shape | Alphas) -> Alphas:
    """What a strategy asks for, as recorded; there is no -0.0, since bytes are keys."""
    if isinstance(request, int):
        return initial_alphas(request)
    if isinstance(request, tuple):
        groups, n = request
        return initial_alphas(n, groups)
    return np.array(request, dtype=np.float64, order="C") + 0.0


def _unsure(trials: Sequence[Trial]) -> list[Alpha]:
    """The alphas that only the screen has scored, each once."""
    return list({t.index: t.alpha for t in trials if t.precision != "fp32"}.values())


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


def _attempt(score: Score, index: int, alpha: Alpha, *, screening: bool = False) -> Trial:
    """The trial of one candidate; one that fails is a result, not the end of the search."""
    began = time.monotonic()
    try:
        evaluation = _evaluation(score(alpha.copy()))
    except Exception as error:
        if isinstance(error, UserError) or machine_failed(error):
            raise
        evaluation = Evaluation(None, error=f"{type(error).__name__}: {error}")
        log.warning(
            "Candidate %d counts as the worst (%s).", index, evaluation.error, exc_info=True
        )
    if screening and evaluation.precision == "fp32" and evaluation.score is not None:
        # What the screen says cannot win, whatever it says of itself.
        evaluation = replace(evaluation, precision="screen")
    return Trial(
        index=index,
        alpha=alpha,
        seconds=time.monotonic() - began,
        score=evaluation.score,
        log_likelihood=evaluation.log_likelihood,
        metrics=evaluation.metrics,
        precision=evaluation.precision,
        answers=evaluation.answers,
        error=evaluation.error,
    )


def _evaluation(measured: float | Scored | Evaluation) -> Evaluation:
    """What a score function returned, its numbers as JSON can hold them."""
    if isinstance(measured, Evaluation):
        value = measured
    elif isinstance(measured, SupportsFloat):  # a NumPy or torch scalar too
        value = Evaluation(float(measured))
    else:
        value = Evaluation(
            measured.score, measured.log_likelihood, measured.metrics, answers=measured.answers
        )
    if value.score is None:
        return replace(value, error=value.error or "the score is None")
    if not math.isfinite(value.score):
        return Evaluation(None, error=f"the score is {float(value.score)}")
    return replace(
        value,
        score=float(value.score),
        log_likelihood=_finite(value.log_likelihood),
        metrics=_finite_values(value.metrics),
    )


def _finite_values(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: _finite(value) for name, value in metrics.items()}


def _finite(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return None if value is None or not math.isfinite(value) else float(value)
