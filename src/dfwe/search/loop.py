"""The loop that drives a strategy with a score (Eq. 2); ask/tell is a generator over batches."""

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol, SupportsFloat, get_args

import numpy as np

from dfwe.errors import ScoreError, UserError, check_choice, machine_failed
from dfwe.search.evaluation import (
    Alpha,
    Evaluation,
    Evaluations,
    Noise,
    OptionScore,
    Scored,
    Trial,
)
from dfwe.search.ledger import Ledger
from dfwe.search.simplex import (
    Alphas,
    Opening,
    Outcome,
    Shape,
    Strategy,
    initial_alphas,
    toward_centroid,
)

log = logging.getLogger(__name__)
MANY_REPEATS = 0.25  # share of proposals already scored above which the search says so
Objective = Literal["score", "log_likelihood"]
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
        remark: the strategy's, on how it went.
        labels: (n,), the experts' names, as the search was given them; else their numbers.
    """

    best: Trial
    trials: tuple[Trial, ...] = field(repr=False)
    candidates: tuple[Trial, ...] = field(repr=False)
    iterations: int
    repeats: int
    remark: str | None = None
    labels: tuple[str, ...] = ()

    @property
    def weights(self) -> dict[str, float] | dict[str, dict[str, float]]:
        """Expert -> its weight; with groups, group's number -> expert -> weight."""
        labels = self.labels or tuple(map(str, range(self.alpha.shape[-1])))
        if self.alpha.ndim == 1:
            return dict(zip(labels, self.alpha.tolist(), strict=True))
        rows = enumerate(self.alpha.tolist())
        return {str(group): dict(zip(labels, row, strict=True)) for group, row in rows}

    @property
    def alpha(self) -> Alpha:
        return self.best.alpha

    @property
    def score(self) -> float:
        return self.best.value

    @property
    def evaluations(self) -> int:
        return len(self.trials)

    @property
    def failed(self) -> tuple[int, ...]:
        """Indexes of the trials that could not be scored, and so counted as the worst."""
        return tuple(trial.index for trial in self.trials if trial.score is None)

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
    options: OptionScore | None = None,
    shrinkage: float | None = None,
    ledger: Ledger | str | Path | None = None,
    labels: Sequence[str] | None = None,
    map: Callable[..., Iterable[Trial]] = map,
    on_trial: Callable[[Trial, Trial], None] | None = None,
) -> Result:
    """alpha* = argmax of the score over what is proposed (Eq. 2).

    An alpha that was scored before is answered from its trial. A candidate that fails, or scores
    NaN, is tried once more, then recorded and counts as the worst; an expert of the initial
    alphas must be scored.

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
        options: what options' log-likelihoods come to, for a strategy that reads them
            (`Opening.options`); the answers that `score` returns then have them.
        shrinkage: the share of the average, 0..1, by which the best alpha is drawn toward it; the
            drawn-in alpha is scored and is the result. None leaves the best as it is.
        ledger: records every trial, or the file to record them in. What it has of an earlier
            process is not scored again, but for the best: unless that scores the same here
            (`Ledger.confirm`), nothing new is scored.
        labels: (n,), the experts' names, for messages and `Result.weights`.
        map: scores the new candidates of a batch, in order; that of an executor of
            `concurrent.futures` scores them in parallel.
        on_trial: called with each trial and the best so far.

    Raises:
        UserError: `objective` or `ties` is unknown; an expert, or every candidate, could not be
            scored; the strategy reads options and there are none; or the best recorded trial
            scores otherwise here.
    """
    if not hasattr(strategy, "send"):  # whoever calls this may use no type checker
        raise UserError("search takes what a strategy returns: search(nelder_mead(n), score).")
    check_choice("objective", objective, get_args(Objective))
    check_choice("ties", ties, get_args(Ties))
    ledger = Ledger(ledger) if isinstance(ledger, str | Path) else ledger
    exact = steering = _Pass(score)
    trials = _Trials(objective, ties, ledger, exact, map, on_trial)
    repeats = 0
    try:
        request = next(strategy)
        alphas = _alphas(request)
        trials.reads_options = isinstance(request, Opening) and request.options
        if trials.reads_options and options is None:
            raise UserError(
                "This strategy reads what options' log-likelihoods come to; give search(..., "
                "options=), or choose another strategy."
            )
        while True:
            repeats += trials.evaluate(alphas, steering)
            if not isinstance(request, np.ndarray):
                trials.check_experts(alphas, labels)
            trials.check_scored()
            evaluations = replace(trials.evaluations(alphas), noise=noise, options=options)
            request = strategy.send(evaluations)
            alphas = _alphas(request)
            if screen is not None:
                steering = _Pass(screen, screened=True)
    except StopIteration as stop:
        outcome = stop.value or Outcome()
    trials.check_scored()
    _warn([trials.merit(trial)[1] for trial in trials.all], repeats)
    candidates = trials.candidates(outcome.candidates)
    if screen is not None:
        leaders = sorted(candidates, key=trials.merit, reverse=True)[:top]
        trials.record(_unsure(leaders), exact)
    if shrinkage is not None:
        best = max(trials.candidates(outcome.candidates), key=trials.key)
        drawn_in = _alphas(toward_centroid(best.alpha, shrinkage)[None])
        trials.evaluate(drawn_in, exact)
        trials.record(_unsure(trials.candidates(drawn_in)), exact)
        outcome = replace(outcome, candidates=drawn_in)
    if ledger is not None:
        ledger.finish(trials.all)
    candidates = trials.candidates(outcome.candidates)  # screened anew, some of them
    best = max(candidates, key=trials.key)
    if best.score is None:
        raise UserError(
            f"What the strategy settles on could not be scored ({best.error}); fix that, or "
            "choose another search=."
        )
    able = {t.index for t in candidates if t.score is not None and t.precision == best.precision}
    rivals = tuple(trial for trial in trials.all if trial.index in able)
    return Result(
        best=best,
        trials=tuple(trials.all),
        candidates=rivals,
        iterations=outcome.iterations,
        repeats=repeats,
        remark=outcome.remark,
        labels=tuple(labels or ()),
    )


@dataclass(frozen=True)
class _Pass:
    """One way to score candidates: index, alpha -> trial.

    Args:
        score: of an alpha.
        screened: whether it is the screen's, which cannot win whatever it says of itself.
    """

    score: Score
    screened: bool = False

    def __call__(self, index: int, alpha: Alpha) -> Trial:
        """One that fails is tried once more; then that is its result, not the search's end."""
        began = time.monotonic()
        evaluation = self._evaluation(alpha)
        if evaluation.score is None:
            log.warning("Candidate %d failed (%s); it is tried again.", index, evaluation.error)
            evaluation = self._evaluation(alpha)
            if evaluation.score is None:
                log.warning("Candidate %d counts as the worst (%s).", index, evaluation.error)
        return Trial(
            index=index,
            alpha=alpha,
            screened=self.screened,
            seconds=time.monotonic() - began,
            score=evaluation.score,
            log_likelihood=evaluation.log_likelihood,
            metrics=evaluation.metrics,
            precision=evaluation.precision,
            answers=evaluation.answers,
            error=evaluation.error,
        )

    def _evaluation(self, alpha: Alpha) -> Evaluation:
        try:
            evaluation = _evaluation(self.score(alpha.copy()))
        except Exception as error:
            mistake = isinstance(error, UserError) and not isinstance(error, ScoreError)
            if mistake or machine_failed(error):
                raise
            log.debug("A candidate failed.", exc_info=True)
            return Evaluation(None, error=f"{type(error).__name__}: {error}")
        if self.screened and evaluation.precision == "fp32" and evaluation.score is not None:
            return replace(evaluation, precision="screen")
        return evaluation


class _Trials:
    """The trials of one search: scored, replayed, recorded, ranked."""

    def __init__(
        self,
        objective: Objective,
        ties: Ties,
        ledger: Ledger | None,
        exact: _Pass,
        map: Callable[..., Iterable[Trial]],
        on_trial: Callable[[Trial, Trial], None] | None,
    ) -> None:
        self.objective = objective
        self.ties = ties
        self.ledger = ledger
        self.exact = exact
        self.map = map
        self.on_trial = on_trial
        self.reads_options = False  # whether each trial needs them
        self.all: list[Trial] = []
        self.by_alpha: dict[bytes, Trial] = {}  # the last trial of an alpha
        self.best: Trial | None = None  # so far
        self.any_scored = self.any_likely = False
        self.resumed = False  # whether what an earlier process recorded was looked at

    def evaluate(self, alphas: Alphas, way: _Pass) -> int:
        """Scores the alphas that were not scored before; how many were."""
        rows = {alpha.tobytes(): alpha.copy() for alpha in alphas}
        fresh = [alpha for key, alpha in rows.items() if key not in self.by_alpha]
        self.record(fresh, way)
        return len(alphas) - len(fresh)

    def record(self, alphas: Sequence[Alpha], way: _Pass) -> None:
        """Replays what the ledger has of these alphas and scores the others, in order."""
        numbered = list(enumerate(alphas, start=len(self.all)))
        replayed = [self._replay(index, alpha, way.screened) for index, alpha in numbered]
        fresh = [row for row, trial in zip(numbered, replayed, strict=True) if trial is None]
        scored = iter(self._scored(fresh, way))
        for trial in replayed:
            if trial is None:
                trial = next(scored)
                self._check_options(trial)
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

    def key(self, trial: Trial) -> tuple[bool, bool, bool, float, float, int]:
        """The order of trials: a lower precision steers the search, but only fp32 can win."""
        return trial.score is not None, trial.precision == "fp32", *self.merit(trial)

    def check_scored(self) -> None:
        """Raises UserError while no candidate could be scored."""
        if not self.any_scored:
            reason = self.all[0].error if self.all else "nothing was proposed"
            raise UserError(
                f"None of the {len(self.all)} candidates could be scored ({reason}); fix that "
                "and search again."
            )
        if self.objective == "log_likelihood" and not self.any_likely:
            raise UserError(
                "A search by log_likelihood needs a score function that returns an Evaluation "
                "with one; give it, or search by score."
            )

    def check_experts(self, initial: Alphas, labels: Sequence[str] | None) -> None:
        """Raises UserError where an expert, one of the first n alphas, could not be scored."""
        n = initial.shape[-1]
        for number, alpha in enumerate(initial[:n]):
            trial = self.by_alpha[alpha.tobytes()]
            if trial.score is None:
                name = f"number {number + 1}" if labels is None else f"'{labels[number]}'"
                raise UserError(
                    f"Expert {name} cannot be scored ({trial.error}); fix that, or leave it out, "
                    "and search again."
                )

    def _scored(self, fresh: Sequence[tuple[int, Alpha]], way: _Pass) -> Iterable[Trial]:
        if not fresh:
            return ()
        self._check_resumed(fresh[0][1].shape)
        return self.map(way, *zip(*fresh, strict=True))

    def _check_resumed(self, shape: tuple[int, ...]) -> None:
        """Before the first new trial: does the best of an earlier process score the same here?"""
        if self.ledger is None or self.resumed:
            return
        self.resumed = True
        best = self.ledger.best(self.key, shape)
        if best is not None:
            self.ledger.confirm(best, self.exact(best.index, best.alpha))

    def _replay(self, index: int, alpha: Alpha, screened: bool) -> Trial | None:
        trial = None if self.ledger is None else self.ledger.replay(index, alpha, screened)
        if trial is None or (self.reads_options and not trial.has_options):
            return None
        return trial

    def _check_options(self, trial: Trial) -> None:
        """Raises UserError where the strategy reads options, and the score gave none."""
        if self.reads_options and not trial.has_options:
            raise UserError(
                "This strategy reads the log-likelihood of every option in the answers that a "
                "score function returns; give them, or choose another strategy."
            )

    def _add(self, trial: Trial) -> None:
        self.all.append(trial)
        self.by_alpha[trial.alpha.tobytes()] = trial
        self.any_scored |= trial.score is not None
        self.any_likely |= trial.log_likelihood is not None
        if self.best is None or self.key(trial) > self.key(self.best):
            self.best = trial
        if self.on_trial is not None:
            self.on_trial(trial, self.best)


def _alphas(request: Shape | Opening | Alphas) -> Alphas:
    """What a strategy asks for, as recorded; there is no -0.0, since bytes are keys."""
    if isinstance(request, Opening):
        request = request.shape
    if isinstance(request, int):
        return initial_alphas(request)
    if isinstance(request, tuple):
        groups, n = request
        return initial_alphas(n, groups)
    return np.asarray(request, dtype=np.float64) + 0.0


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
