"""The gradient-free search over the experts' weights, as a Lightning callback (section 4.4)."""

import logging
from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import lightning as L
import torch
from numpy.typing import NDArray

from dfwe.data.batches import Batch
from dfwe.errors import UserError
from dfwe.scoring.scorer import Scores, predictions, summarise
from dfwe.scoring.workers import ParallelScorer
from dfwe.search.config import Search
from dfwe.search.ledger import Ledger
from dfwe.search.loop import Evaluation, Result, search
from dfwe.statistics.cross_fitting import Answers, CrossFitted, cross_fit
from dfwe.weights.space import WeightSpace

log = logging.getLogger(__name__)


class WeightSearch(L.Callback):
    """Under `trainer.validate(module, dev)`: searches alpha, leaves theta(alpha*) in the module.

    Lightning then scores what the module holds; a score that differs from the ledger's is an
    error, since decoding is deterministic.

    Args:
        space: the fine-tuned experts.
        settings: the search's settings (`conf/search`).
        ledger: where every trial is noted; an unfinished one is gone on with. A fold's search
            has its own beside it, `fold0.jsonl` and so on.
        on_trial: called after each trial with it, the best so far and, in the search without a
            fold, that fold's number.
        workers: processes that share the dev split, on a CPU.
        on_scores: called with each alpha scored here and its answers.
    """

    def __init__(
        self,
        space: WeightSpace,
        settings: Search,
        ledger: Ledger,
        on_trial: Callable[..., None] | None = None,
        workers: int = 1,
        on_scores: Callable[[NDArray[Any], Scores], None] | None = None,
    ) -> None:
        self.space = space
        self.settings = settings
        self.ledger = ledger
        self.on_trial = on_trial
        self.workers = workers
        self.on_scores = on_scores
        self.result: Result | None = None
        self.cross_fitted: CrossFitted | None = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        loader: Sequence[Batch] = trainer.val_dataloaders  # type: ignore[assignment]
        batches = [batch.to(pl_module.device) for batch in loader]

        network = pl_module.network
        networks = {"fp32": network}
        if self.settings.screen is not None:
            networks["bf16"] = deepcopy(network).to(torch.bfloat16)
        dev, task = pl_module.dev, pl_module.task

        def predict(part: Sequence[Batch], precision: str, alpha: NDArray[Any]) -> Any:
            self.space.write(alpha, networks[precision])
            return predictions(networks[precision], part, dev, task, pl_module.decoding)

        with ParallelScorer(predict, batches, self.workers) as parallel:
            known: dict[tuple[bytes, str], Scores] = {}  # a fold's search need not score it again

            def answers(alpha: NDArray[Any], precision: str) -> Scores:
                key = alpha.tobytes(), precision
                if key not in known:
                    known[key] = summarise(parallel(precision, alpha), dev, task)
                    if self.on_scores is not None:
                        self.on_scores(alpha, known[key])
                return known[key]

            self.result = self._search(answers)
            if (k := self.settings.folds) is not None:
                self.cross_fitted = cross_fit(self._search, answers, task, dev.examples, k)
        self.space.write(self.result.alpha, network)  # theta(alpha*), Eq. 2

    def _search(self, answers: Answers, fold: int | None = None) -> Result:
        """The search by the answers' score: on all of dev, or on all but a fold."""
        ledger, follow = self.ledger, self.on_trial
        if fold is not None:
            ledger = Ledger(ledger.path.with_name(f"fold{fold}.jsonl"))
            follow = follow and partial(follow, fold=fold)

        def score(alpha: NDArray[Any], precision: str = "fp32") -> Evaluation:
            found = answers(alpha, precision)
            return Evaluation(found.score, found.log_likelihood, found.metrics, precision)

        screen = self.settings.screen
        return search(
            self.settings(self.space.n, len(self.space.groups)),
            score,
            screen=None if screen is None else partial(score, precision="bf16"),
            top=screen or 0,
            objective=self.settings.objective,
            ledger=ledger,
            on_trial=follow,
        )

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        assert self.result is not None
        seen, noted = pl_module.scores.score, self.result.score
        if abs(seen - noted) > 1e-6:
            raise UserError(
                f"theta(alpha*) scores {seen:.4f} on dev, but its ledger says {noted:.4f}: the "
                "ledger was written on another machine or by other code; delete "
                f"{self.ledger.path.parent} and search again."
            )
