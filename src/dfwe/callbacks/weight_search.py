"""The gradient-free search over the experts' weights, as a Lightning callback (section 4.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, runtime_checkable

import lightning as L
import numpy as np
from lightning.pytorch import LightningModule
from transformers import PreTrainedModel

from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit
from dfwe.scoring.decoding import Decoding
from dfwe.scoring.scorer import Scorer, Scores
from dfwe.search.config import Search
from dfwe.search.evaluation import Alpha, Evaluation
from dfwe.search.ledger import Ledger, Remeasured
from dfwe.search.loop import Result, search
from dfwe.statistics.bootstrap import trial_errors
from dfwe.statistics.cross_fitting import CrossFitted, cross_fit, fold_of, shrinkage
from dfwe.statistics.expected import ExpectedScore
from dfwe.tasks.task import Task
from dfwe.weights.groups import depths
from dfwe.weights.space import WeightSpace


@runtime_checkable
class ScoredModule(Protocol):
    """What the search needs of a module: `dfwe.training.module.TaskModule`."""

    network: PreTrainedModel
    task: Task
    decoding: Decoding
    dev: TokenizedSplit
    scores: Scores | None


@dataclass(frozen=True)
class Searched:
    """What a search has found.

    Args:
        result: of the search on all examples.
        cross_fitted: of those without each fold; None without folds.
        shrinkage: the share of the average that cross-fitting chose; None where it was not asked.
        ledgers: the search's, then those of the folds' searches.
    """

    result: Result
    cross_fitted: CrossFitted | None
    shrinkage: float | None
    ledgers: tuple[Ledger, ...]

    @property
    def remeasured(self) -> tuple[Remeasured, ...]:
        """Trials that a resumed search has found to score otherwise, of all the ledgers."""
        return tuple(row for ledger in self.ledgers for row in ledger.remeasured)


@dataclass(frozen=True)
class AnswersSearch:
    """The configured search for the alpha whose answers score best.

    Args:
        settings: the search's (`conf/search`).
        space: what is mixed.
        task: what measures answers.
        examples: that are answered.
        ledger: records every trial; an unfinished one is resumed. The ledgers of the folds'
            searches are beside it, `fold0.jsonl` and so on.
        on_trial: called after each trial with it, the best so far and, in the search without a
            fold, that fold's number.
    """

    settings: Search
    space: WeightSpace
    task: Task
    examples: Sequence[Example]
    ledger: Ledger
    on_trial: Callable[..., None] | None = None

    def __call__(self, scores: Callable[[Alpha, str], Scores]) -> Searched:
        """Searches, with folds also without each.

        Args:
            scores: alpha and precision -> scores of its answers to all examples.
        """
        k, task, examples = self.settings.folds, self.task, self.examples
        folds = {fold: self.ledger.named(f"fold{fold}") for fold in range(k or 0)}

        def find(scores: Callable[[Alpha, str], Scores], fold: int) -> Result:
            member = fold_of(examples, len(folds))
            others = [examples[i] for i in np.flatnonzero(member != fold).tolist()]
            on_trial = self.on_trial and partial(self.on_trial, fold=fold)
            search = replace(self, examples=others, ledger=folds[fold], on_trial=on_trial)
            return search.find(scores)

        result = None if self.settings.shrinkage else self.find(scores)
        crossed = None if k is None else cross_fit(find, scores, task, examples, k)
        share: float | None = None
        if result is None:
            assert crossed is not None  # `Search` refuses shrinkage without folds
            share = shrinkage(crossed, scores, task, examples)
            result = self.find(scores, share)
        return Searched(result, crossed, share, (self.ledger, *folds.values()))

    def find(
        self, scores: Callable[[Alpha, str], Scores], shrinkage: float | None = None
    ) -> Result:
        """The search on all examples alone.

        Args:
            scores: alpha and precision -> scores of its answers.
            shrinkage: the share of the average by which the best alpha is drawn toward it.
        """
        settings, space = self.settings, self.space

        def score(alpha: Alpha, precision: str = "fp32") -> Evaluation:
            return _evaluation(scores(alpha, precision), precision)

        return search(
            settings(space.n, len(space.groups), depths(space.groups)),
            score,
            screen=None if settings.screen is None else partial(score, precision="bf16"),
            top=settings.screen or 0,
            objective=settings.objective,
            ties=settings.ties,
            noise=lambda trials: trial_errors(self.task, trials, self.examples),
            options=ExpectedScore(self.task, self.examples, settings.objective),
            shrinkage=shrinkage,
            ledger=self.ledger,
            labels=space.labels,
            on_trial=self.on_trial,
        )


class WeightSearch(L.Callback):
    """Under `trainer.validate(module, dev)`: searches alpha, leaves theta(alpha*) in the module.

    Lightning then scores what the module holds; a score that differs from the ledger's is an
    error, since decoding is deterministic, or noted with `resume="anyway"`.

    Args:
        space: the fine-tuned experts.
        settings: the search's (`conf/search`).
        ledger: records every trial, as in `AnswersSearch`.
        on_trial: as in `AnswersSearch`.
        workers: processes that share the dev split, on a CPU.

    Attributes:
        searched: what was found; None before.
    """

    def __init__(
        self,
        space: WeightSpace,
        settings: Search,
        ledger: Ledger,
        on_trial: Callable[..., None] | None = None,
        workers: int = 1,
    ) -> None:
        self.space = space
        self.settings = settings
        self.ledger = ledger
        self.on_trial = on_trial
        self.workers = workers
        self.searched: Searched | None = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ScoredModule)
        module: ScoredModule = pl_module
        settings, dev = self.settings, module.dev
        scorer = Scorer(
            module.network,
            dev,
            module.task,
            decoding_of(settings, module.decoding, self.space.n),
            space=self.space,
            workers=self.workers,
            precisions=settings.precisions,
        )
        search = AnswersSearch(
            settings, self.space, module.task, dev.examples, self.ledger, self.on_trial
        )
        with scorer:
            self.searched = search(scorer)
        self.space.write(self.searched.result.alpha, module.network)  # theta(alpha*), Eq. 2

    def on_validation_end(self, trainer: L.Trainer, pl_module: LightningModule) -> None:
        assert self.searched is not None
        assert isinstance(pl_module, ScoredModule)
        scores = pl_module.scores
        assert scores is not None
        self.ledger.confirm(self.searched.result.best, _evaluation(scores, "fp32"))


def decoding_of(settings: Search, decoding: Decoding, n: int) -> Decoding:
    """The decoding as a search over n experts needs it: with every option where it reads them."""
    return decoding.with_options() if settings.reads_options(n) else decoding


def _evaluation(scores: Scores, precision: str) -> Evaluation:
    return Evaluation(
        scores.score, scores.log_likelihood, scores.metrics, precision, scores.answers
    )
