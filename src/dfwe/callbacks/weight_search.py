"""The gradient-free search over the experts' weights, as a Lightning callback (section 4.4)."""

from collections.abc import Callable
from functools import partial
from typing import Protocol, runtime_checkable

import lightning as L
import numpy as np
from lightning.pytorch import LightningModule
from transformers import PreTrainedModel

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


class WeightSearch(L.Callback):
    """Under `trainer.validate(module, dev)`: searches alpha, leaves theta(alpha*) in the module.

    Lightning then scores what the module holds; a score that differs from the ledger's is an
    error, since decoding is deterministic, or noted with `resume="anyway"`.

    Args:
        space: the fine-tuned experts.
        settings: the search's (`conf/search`).
        ledger: records every trial; an unfinished one is resumed. The ledgers of the folds'
            searches are beside it, `fold0.jsonl` and so on.
        on_trial: called after each trial with it, the best so far and, in the search without a
            fold, that fold's number.
        workers: processes that share the dev split, on a CPU.
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
        self.folds: list[Ledger] = []
        self.on_trial = on_trial
        self.workers = workers
        self.result: Result | None = None
        self.cross_fitted: CrossFitted | None = None
        self.shrinkage: float | None = None

    @property
    def remeasured(self) -> tuple[Remeasured, ...]:
        """Trials that a resumed search has found to score otherwise, of all the ledgers."""
        return tuple(row for ledger in (self.ledger, *self.folds) for row in ledger.remeasured)

    def on_validation_start(self, trainer: L.Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, ScoredModule)
        module: ScoredModule = pl_module
        reads_options = self.settings.reads_options(self.space.n)
        scorer = Scorer(
            module.network,
            module.dev,
            module.task,
            module.decoding.with_options() if reads_options else module.decoding,
            space=self.space,
            workers=self.workers,
            precisions=("fp32",) if self.settings.screen is None else ("fp32", "bf16"),
        )
        with scorer:
            if not self.settings.shrinkage:
                self.result = self._search(module, scorer)
            if (k := self.settings.folds) is not None:
                examples = module.dev.examples
                self.cross_fitted = cross_fit(
                    partial(self._search, module), scorer, module.task, examples, k
                )
                if self.settings.shrinkage:
                    self.shrinkage = shrinkage(self.cross_fitted, scorer, module.task, examples)
                    self.result = self._search(module, scorer)
            assert self.result is not None
        self.space.write(self.result.alpha, module.network)  # theta(alpha*), Eq. 2

    def on_validation_end(self, trainer: L.Trainer, pl_module: LightningModule) -> None:
        assert self.result is not None
        assert isinstance(pl_module, ScoredModule)
        scores = pl_module.scores
        assert scores is not None
        self.ledger.confirm(self.result.best, _evaluation(scores, "fp32"))

    def _search(
        self, module: ScoredModule, scores: Callable[[Alpha, str], Scores], fold: int | None = None
    ) -> Result:
        """The search by these scores: on all of dev, or on all but a fold."""
        ledger, on_trial = self.ledger, self.on_trial
        examples = module.dev.examples
        if fold is not None:
            member = fold_of(examples, self.settings.folds or 0)
            examples = [examples[i] for i in np.flatnonzero(member != fold).tolist()]
            ledger = ledger.named(f"fold{fold}")
            self.folds.append(ledger)
            on_trial = on_trial and partial(on_trial, fold=fold)

        def score(alpha: Alpha, precision: str = "fp32") -> Evaluation:
            return _evaluation(scores(alpha, precision), precision)

        screen = self.settings.screen
        return search(
            self.settings(self.space.n, len(self.space.groups), depths(self.space.groups)),
            score,
            screen=None if screen is None else partial(score, precision="bf16"),
            top=screen or 0,
            objective=self.settings.objective,
            ties=self.settings.ties,
            noise=lambda trials: trial_errors(module.task, trials, examples),
            options=ExpectedScore(module.task, examples, self.settings.objective),
            shrinkage=self.shrinkage,
            ledger=ledger,
            labels=self.space.labels,
            on_trial=on_trial,
        )


def _evaluation(scores: Scores, precision: str) -> Evaluation:
    return Evaluation(
        scores.score, scores.log_likelihood, scores.metrics, precision, scores.answers
    )
