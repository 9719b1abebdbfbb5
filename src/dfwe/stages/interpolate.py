"""Stage `interpolate`: search the fine-tuned experts' mixture on dev (section 4.4, Eq. 2)."""

import logging
import shutil
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import about_tokens
from dfwe.errors import UserError
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import device_name
from dfwe.pipeline.deferred import parts
from dfwe.pipeline.record import Array, Cost, Record, SplitScores
from dfwe.pipeline.step import Run, Settings, Size, Step
from dfwe.reporting.results import Named
from dfwe.scoring.decoding import Decoding
from dfwe.search.config import Search
from dfwe.search.evaluation import Alpha, Trial
from dfwe.search.ledger import Ledger, Remeasured, recorded_seconds
from dfwe.search.loop import Result, likeliest, nearest_centroid
from dfwe.search.simplex import centroid, experts
from dfwe.stages.mixing import export_into, space_of
from dfwe.stages.selection import SelectionRecord, selection_record
from dfwe.statistics.bootstrap import errors_from, resolution
from dfwe.statistics.cross_fitting import CrossFitted
from dfwe.tasks.function_metric import FunctionMetric
from dfwe.tasks.task import Task
from dfwe.weights.groups import block
from dfwe.weights.loading import load
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.callbacks.weight_search import Searched
    from dfwe.data.tokenization import TokenizedSplit
    from dfwe.weights.space import WeightSpace

log = logging.getLogger(__name__)
TRIALS = "trials.jsonl"


class Choice(Record):
    """A trial that a rule chose.

    Args:
        trial: its index in the ledger.
        alpha: (n,) or (g, n).
        dev: its scores.
        standard_error: of its difference from the best trial's dev score, in points; 0 where it
            is the best.
    """

    trial: int
    alpha: Array
    dev: SplitScores
    standard_error: float


class CrossFittedRecord(Record):
    """What the search is worth on dialogues that it has not read.

    Args:
        score: on all of dev, each dialogue answered by the alpha searched without it, in points.
        metrics: name -> points.
        alphas: (k, n) or (k, g, n), one per fold.
        optimism: how far dev's score of the result is above `score`, in points.
        evaluations: that the folds' searches added to the search's.
        failed: trials of theirs that could not be scored and counted as the worst.
    """

    score: float
    metrics: dict[str, float]
    alphas: Array
    optimism: float
    evaluations: int
    failed: int = 0


class SearchRecord(Record):
    """A search over a mixture.

    Args:
        members: positions in the recipe's parents that alpha speaks of.
        alpha: (n,) or (g, n), in the order of `members`.
        groups: names of the parameter groups; empty without groups.
        best: index of the winning trial.
        dev: the mixture's scores.
        experts: of each member, in the same order.
        uniform: of the uniform average; None where it could not be scored.
        one_standard_error: of the mixtures that dev cannot tell from the best, by the paired
            standard error, the nearest to the average; None for a search by another objective
            than the score, or by a person's own score.
        likeliest: of the same mixtures, the one with the highest log-likelihood.
        cross_fitted: of the search without shrinkage; None without folds.
        shrinkage: the share of the average that cross-fitting chose; None where it was not asked.
        selection: the choice among the trials, repeated on resampled dialogues; None where it
            cannot be (`selection_record`), and for a person's own score, which has no answers.
        iterations: what the strategy counted as such.
        repeats: proposals answered from earlier trials.
        cost: evaluations and the tokens that they read.
        failed: indexes of the trials that could not be scored and counted as the worst.
        remeasured: trials of an earlier process, of another machine say, that the one that
            resumed it has scored otherwise (`resume=anyway`), those of the folds' searches too.
        remark: the strategy's, on how the search went.
    """

    members: tuple[int, ...]
    alpha: Array
    groups: tuple[str, ...]
    best: int
    dev: SplitScores
    experts: tuple[SplitScores, ...]
    uniform: SplitScores | None
    one_standard_error: Choice | None
    likeliest: Choice | None
    cross_fitted: CrossFittedRecord | None
    shrinkage: float | None
    selection: SelectionRecord | None
    iterations: int
    repeats: int
    cost: Cost
    failed: tuple[int, ...] = ()
    remeasured: tuple[Remeasured, ...] = ()
    remark: str | None = None

    @property
    def all_failed(self) -> int:
        """How many trials could not be scored, those of the folds' searches too."""
        return len(self.failed) + (0 if self.cross_fitted is None else self.cross_fitted.failed)


@dataclass(frozen=True, eq=False)
class Interpolate(Step):
    """alpha* = argmax over the simplex of the target's dev score of theta(alpha)."""

    label: str
    group: str
    experts: tuple[Step, ...]
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding
    search: Search

    kind: ClassVar[str] = "interpolate"
    record: ClassVar[type[Record]] = SearchRecord
    stage: str = field(default="interpolate", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.experts

    @property
    def counts_as_cost(self) -> bool:
        return not self.search.is_uniform

    def settings(self) -> Settings:
        read = self.model.scoring(self.task, self.corpus, "dev", self.decoding)
        return {**read, "search": self.search.settings()}

    @property
    def size(self) -> Size:
        """At most: a search may converge, and its folds' searches share what they score."""
        n, examples = len(self.experts), self.task.examples(self.corpus, "dev")
        evaluations = (self.search.evaluations(n) or n + 1) * (1 + (self.search.folds or 0))
        return Size(
            examples=evaluations * len(examples),
            tokens=evaluations * about_tokens(examples, self.model.input_limit),
            parameters=self.experts[0].size.parameters,
            unfinished=1,
        )

    def check(self) -> None:
        """Refuse before any training what the search would refuse after it.

        Raises:
            UserError: a metric is none; the strategy refuses its settings, or reads options that
                the task lacks.
        """
        self.check_search()
        self.task.check_metrics(self.corpus)
        if not self.search.reads_options(len(self.experts)):
            return
        examples = self.task.examples(self.corpus, "dev")
        if not all(example.options for example in examples):
            lacking = "is answered in free text"
        elif isinstance(self.task.answer.gold(examples[0]), list):
            lacking = "may have several labels an example"
        elif any(isinstance(metric, FunctionMetric) for metric in self.task.metrics):
            lacking = "has a metric that is a function, whose expectation is not known"
        else:
            return
        raise UserError(
            f"This search predicts which option is the answer, but task={self.task.name} "
            f"{lacking}; set search=gaussian_process or another that reads scores alone."
        )

    def check_search(self) -> None:
        """Refuse what no score can be searched with.

        Raises:
            UserError: the strategy refuses its settings.
        """
        self.search.check(len(self.experts))
        if self.search.is_sloped and parts(self.search.groups or block)[0] is not block:
            raise UserError(
                "search.strategy.slope=true is over the depth of transformer blocks; set "
                "search/groups=block."
            )

    def run(self, run: Run) -> SearchRecord:
        """Searches, or resumes an unfinished ledger, and exports theta(alpha*)."""
        run.earlier_seconds = recorded_seconds(run.work)
        space = self._space(run, self.experts)
        labels = space.labels
        searched, tokens = self._searched(run, space, *load(run.weights(self.experts[0])))
        result, crossed = searched.result, searched.cross_fitted
        cross_fitted = None if crossed is None else _cross_fitted(crossed, result)
        self._log(run, result, cross_fitted, labels, space.groups)
        export_into(run, space, result.alpha)
        for path in run.work.glob("*.jsonl"):  # copied: a commit may be killed
            shutil.copy(path, run.output)
        by_alpha = {trial.alpha.tobytes(): trial for trial in reversed(result.trials)}
        n, groups = space.n, len(space.groups)
        rows = [by_alpha[alpha.tobytes()] for alpha in experts(n, groups)]
        uniform = by_alpha[centroid(n, groups)[0].tobytes()]
        plainest, likely = self._choices(result)
        added = 0 if cross_fitted is None else cross_fitted.evaluations
        return SearchRecord(
            members=tuple(range(len(self.experts))),
            alpha=result.alpha,
            groups=space.groups if self.search.groups is not None else (),
            best=result.best.index,
            dev=_dev(result.best),
            experts=tuple(_dev(trial) for trial in rows),
            uniform=None if uniform.score is None else _dev(uniform),
            one_standard_error=plainest,
            likeliest=likely,
            cross_fitted=cross_fitted,
            shrinkage=searched.shrinkage,
            selection=self._selection(result, crossed),
            iterations=result.iterations,
            repeats=result.repeats,
            cost=Cost(
                tokens=tokens and (result.evaluations + added) * tokens,
                parameters=space.size,
                evaluations=result.evaluations,
            ),
            failed=result.failed,
            remeasured=searched.remeasured,
            remark=result.remark,
        )

    def _searched(
        self,
        run: Run,
        space: "WeightSpace",
        network: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
    ) -> "tuple[Searched, int | None]":
        """The search, with folds also without each; Lightning then scores theta(alpha*).

        Returns:
            What was found, and how many tokens an evaluation reads, if that is known.
        """
        from dfwe.callbacks.weight_search import WeightSearch
        from dfwe.data.batches import scoring_loader
        from dfwe.weights.layout import flatten

        dev = self._tokenized(run, tokenizer)
        module = self.model.module(network, self.task, self.decoding, dev)
        device, workers = run.context.device, run.context.workers
        with self._followed(run, space.n) as follow:
            callback = WeightSearch(space, self.search, self._ledger(run), follow, workers)
            trainer = run.trainer(logger=False, callbacks=[callback])
            place(network, device)
            flatten(network)
            trainer.validate(module, scoring_loader(dev, device), verbose=False)
        assert callback.searched is not None
        return callback.searched, dev.tokens

    def _tokenized(self, run: Run, tokenizer: "PreTrainedTokenizerBase") -> "TokenizedSplit":
        return self.model.tokenize(self.task, self.corpus, "dev", tokenizer, run.context.tokens)

    def _space(self, run: Run, steps: Sequence[Step]) -> "WeightSpace":
        """What alpha mixes: these steps' weights, one row each."""
        space = space_of(run, steps)
        return space if self.search.groups is None else space.grouped(self.search.groups)

    def _ledger(self, run: Run) -> Ledger:
        import torch

        workers = run.context.workers
        return Ledger(
            run.work / TRIALS,
            resume=run.context.resume,
            device=device_name(run.context.device),
            threads=torch.get_num_threads() if workers == 1 else workers,
        )

    @contextmanager
    def _followed(self, run: Run, n: int) -> Generator[Callable[..., None]]:
        """What the bar and the log show of each trial, and of the opening's n single experts."""
        from dfwe.callbacks.progress import search_bar

        opening: list[Trial] = []
        with search_bar(f"search {self.label}", self.search.evaluations(n)) as bar:

            def follow(trial: Trial, best: Trial, fold: int | None = None) -> None:
                if fold is not None:
                    return bar(trial, best, f"without fold {fold}")
                if len(opening) < n:
                    opening.append(trial)
                    if len(opening) == n:
                        self._say_resolution(opening)
                bar(trial, best)
                run.log.metrics(
                    {"search/score": trial.score, "search/best": best.score}, step=trial.index
                )

            yield follow

    def _say_resolution(self, trials: Sequence[Trial]) -> None:
        """What dev can resolve between these experts, as a line of the log."""
        answers = [trial.answers.texts for trial in trials if trial.answers is not None]
        sentence = resolution(self.task, answers, self.task.examples(self.corpus, "dev"))
        if sentence is not None:
            log.info(sentence)

    def _log(
        self,
        run: Run,
        result: Result,
        cross_fitted: CrossFittedRecord | None,
        labels: Sequence[str],
        groups: Sequence[str],
    ) -> None:
        """Pictures into the result, pictures, trials and final values into the log."""
        from dfwe.reporting.plots import alpha_bars, search_trajectory

        trajectory, bars = run.output / "search.png", run.output / "alpha.png"
        pictures = {
            "search/trajectory": search_trajectory(
                result.trials, labels, result.best.index, trajectory
            ),
            "search/alpha": alpha_bars(result.alpha, labels, groups, bars),
        }
        run.log.images(pictures)
        run.log.table("search/trials", *_table(result, labels, groups))
        crossed = (
            {}
            if cross_fitted is None
            else {
                "dev/cross_fitted/score": cross_fitted.score,
                "dev/cross_fitted/optimism": cross_fitted.optimism,
            }
        )
        counts = {"evaluations": result.evaluations, "iterations": result.iterations}
        alpha = alpha_scalars(named(result.alpha, labels, groups))
        run.log.summary({"dev/score": result.score, **counts, **crossed, **alpha})

    def _selection(self, result: Result, crossed: CrossFitted | None) -> SelectionRecord | None:
        examples = self.task.examples(self.corpus, "dev")
        return selection_record(self.task, examples, result, self.search.objective, crossed)

    def _choices(self, result: Result) -> tuple[Choice | None, Choice | None]:
        """The plainest and the likeliest of the mixtures that dev cannot tell from the best.

        None of a search by another objective than the score, and of one dialogue alone, which has
        no standard error.
        """
        examples = self.task.examples(self.corpus, "dev")
        if self.search.objective != "score" or len({e.dialogue for e in examples}) < 2:
            return None, None
        paired = errors_from(self.task, result.trials, examples, result.best.index)
        errors: list[float] = paired.tolist()
        close = result.within(errors)

        def choice(trial: Trial) -> Choice:
            error = errors[trial.index]
            dev = _dev(trial)
            return Choice(trial=trial.index, alpha=trial.alpha, dev=dev, standard_error=error)

        return choice(nearest_centroid(close)), choice(likeliest(close))


def named(alpha: Alpha, labels: Sequence[str], groups: Sequence[str]) -> Named:
    """What a person reads: expert -> weight; with groups, group -> expert -> weight."""
    if alpha.ndim == 1:
        return dict(zip(labels, alpha.tolist(), strict=True))
    return {
        group: dict(zip(labels, row.tolist(), strict=True))
        for group, row in zip(groups, alpha, strict=True)
    }


def alpha_scalars(alpha: Named) -> dict[str, float]:
    """Weights by expert, or by group and expert, as a log's scalars: `alpha/...`."""
    values: dict[str, float] = {}
    for name, weight in alpha.items():
        if isinstance(weight, dict):
            values |= {f"alpha/{name}/{label}": part for label, part in weight.items()}
        else:
            values[f"alpha/{name}"] = weight
    return values


def _dev(trial: Trial) -> SplitScores:
    return SplitScores(
        score=trial.value, metrics=dict(trial.metrics), log_likelihood=trial.log_likelihood
    )


def _cross_fitted(crossed: CrossFitted, result: Result) -> CrossFittedRecord:
    """The cross-fitted score, and how far dev's score of the result is above it."""
    scored = {(trial.alpha.tobytes(), trial.precision) for trial in result.trials}
    added = {
        (trial.alpha.tobytes(), trial.precision)
        for search in crossed.searches
        for trial in search.trials
    }
    return CrossFittedRecord(
        score=crossed.score,
        metrics=crossed.metrics,
        alphas=np.stack([search.alpha for search in crossed.searches]),
        optimism=result.score - crossed.score,
        evaluations=len(added - scored),
        failed=sum(len(search.failed) for search in crossed.searches),
    )


def _table(
    result: Result, labels: Sequence[str], groups: Sequence[str]
) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    weights = [f"{group}/{label}" for group in groups for label in labels]
    columns = [
        "index",
        *(labels if len(groups) == 1 else weights),
        "score",
        "log_likelihood",
    ]
    rows = [[t.index, *t.alpha.ravel().tolist(), t.score, t.log_likelihood] for t in result.trials]
    return columns, rows
