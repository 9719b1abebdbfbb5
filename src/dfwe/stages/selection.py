"""What a search's record says of its choice on dialogues that it was not made on."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.pipeline.record import Array, Record
from dfwe.reporting.results import CertificateRecord, CorrectedGain
from dfwe.search.evaluation import Trial
from dfwe.search.loop import Objective, Result
from dfwe.search.simplex import centroid, experts
from dfwe.statistics.counts import (
    DialogueCounts,
    Floats,
    count,
    dialogue_of,
    few_draws,
    sum_by_dialogue,
)
from dfwe.statistics.cross_fitting import CrossFitted, fold_of
from dfwe.statistics.selection import DRAWS, accuracy_among, certify, choose, select
from dfwe.tasks.task import Task

QUANTILES = (0.05, 0.5, 0.95)


class SelectionRecord(Record):
    """The search's choice among its trials, repeated on resampled dialogues of dev.

    Args:
        trials: those that a resample chose, the most frequent first.
        shares: of the resamples that chose each of `trials`.
        mean: (n,) or (g, n), of the chosen alpha over the resamples.
        quantiles: (3, n) or (3, g, n), of each weight: 5 %, 50 %, 95 %.
        score: the mean on the dialogues left out, in points.
        over_uniform: the gain over the uniform average.
        over_best_expert: the gain over the expert that dev prefers.
        no_certificate: why there is no certificate; None where there is one.
    """

    trials: tuple[int, ...]
    shares: Array
    mean: Array
    quantiles: Array
    score: float
    over_uniform: CorrectedGain
    over_best_expert: CorrectedGain
    no_certificate: str | None


def selection_record(
    task: Task,
    examples: Sequence[Example],
    result: Result,
    objective: Objective,
    crossed: CrossFitted | None = None,
) -> SelectionRecord | None:
    """The record of a finished search; None where its choice cannot be repeated.

    That is so where fewer than two trials could win, where the initial trials have no answers,
    and on a dev of one dialogue.

    Args:
        task: what measures the answers.
        examples: of dev.
        result: the search's.
        objective: what it chose by.
        crossed: the searches without each fold, where there are any.
    """
    kept = _kept(task, examples, result, objective)
    if kept is None or len(kept.candidates) < 2 or len(kept.counts.sizes) < 2:
        return None
    best = kept.choose(np.ones(len(kept.counts.sizes)), kept.experts)
    drawn = select(
        kept.counts,
        kept.log_likelihoods,
        kept.candidates,
        (kept.uniform, best),
        objective,
        draws=few_draws(task, DRAWS),
    )
    certificates: list[CertificateRecord | None] = [None, None]
    refusal: str | None = None
    try:
        certificates = [*_certificates(kept, task, examples, crossed)]
    except UserError as error:
        refusal = str(error)
    over_uniform, over_best_expert = (
        CorrectedGain(
            trial=kept.trials[baseline].index,
            gain=gain.mean,
            at_least=gain.at_least,
            certificate=certificate,
        )
        for baseline, gain, certificate in zip(
            (kept.uniform, best), drawn.gains, certificates, strict=True
        )
    )
    times = np.bincount(drawn.chosen, minlength=len(kept.trials))
    frequent = np.argsort(-times, kind="stable")[: np.count_nonzero(times)]
    alphas = np.stack([trial.alpha for trial in kept.trials])[drawn.chosen]
    return SelectionRecord(
        trials=tuple(kept.trials[int(place)].index for place in frequent),
        shares=times[frequent] / len(drawn.chosen),
        mean=alphas.mean(axis=0),
        quantiles=np.quantile(alphas, QUANTILES, axis=0),
        score=drawn.score,
        over_uniform=over_uniform,
        over_best_expert=over_best_expert,
        no_certificate=refusal,
    )


@dataclass(frozen=True)
class _Kept:
    """The answers of a search, counted; a position is one in `trials`."""

    trials: Sequence[Trial]
    counts: DialogueCounts
    log_likelihoods: Floats  # (trials, dialogues)
    candidates: Sequence[int]
    experts: Sequence[int]
    uniform: int
    objective: Objective

    def choose(self, weights: Floats, among: Sequence[int]) -> int:
        """The position of the best by dialogues of these weights, (dialogues,)."""
        choice = choose(self.counts, self.log_likelihoods, weights[None], among, self.objective)
        return int(choice[0])


def _kept(
    task: Task, examples: Sequence[Example], result: Result, objective: Objective
) -> _Kept | None:
    """None where an initial trial has no answers, or no likelihood."""
    groups = 1 if result.alpha.ndim == 1 else len(result.alpha)
    n = result.alpha.shape[-1]
    first = {trial.alpha.tobytes(): trial for trial in reversed(result.trials)}
    uniform = first[centroid(n, groups)[0].tobytes()]
    single = [first[alpha.tobytes()] for alpha in experts(n, groups)]
    measured = {trial.index: trial for trial in (*single, uniform, *result.candidates)}
    trials = [trial for _, trial in sorted(measured.items()) if trial.log_likelihood is not None]
    answers = [trial.answers for trial in trials if trial.answers is not None]
    place = {trial.index: position for position, trial in enumerate(trials)}
    if len(answers) < len(trials) or not all(t.index in place for t in (uniform, *single)):
        return None
    likelihoods = np.array([row.log_likelihoods for row in answers])  # (trials, m)
    return _Kept(
        trials,
        count(task, [row.texts for row in answers], examples),
        sum_by_dialogue(likelihoods, dialogue_of(examples)),
        [place[trial.index] for trial in result.candidates if trial.index in place],
        [place[trial.index] for trial in single],
        place[uniform.index],
        objective,
    )


def _certificates(
    kept: _Kept, task: Task, examples: Sequence[Example], crossed: CrossFitted | None
) -> Iterator[CertificateRecord]:
    """Over the uniform average and over the best expert, each chosen without the first fold.

    Raises:
        UserError: no metric is the share of right answers.
    """
    position = accuracy_among(kept.counts.metrics)
    metric = kept.counts.metrics[position]
    fold = np.empty(len(kept.counts.sizes))
    fold[dialogue_of(examples)] = fold_of(
        examples, 2 if crossed is None else len(crossed.searches)
    )
    test = fold == 0
    others = (~test).astype(np.float64)
    sums = kept.counts.sums[position]
    if crossed is None:
        choice = kept.choose(others, kept.candidates)
        alpha, chosen = kept.trials[choice].alpha, sums[choice]
    else:
        alpha = crossed.searches[0].alpha
        chosen = count(task, [crossed.texts], examples).sums[position][0]
    for baseline in (kept.uniform, kept.choose(others, kept.experts)):
        certificate = certify(metric, chosen[test], sums[baseline][test], kept.counts.sizes[test])
        yield CertificateRecord(
            metric=metric.name,
            alpha=alpha,
            exact=crossed is not None,
            holds=certificate.holds,
            **asdict(certificate),
        )
