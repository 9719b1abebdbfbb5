"""The gradient-free search over the experts' weights, as a Lightning callback (section 4.4)."""

import logging
from collections.abc import Callable, Sequence
from typing import Any

import lightning as L
from numpy.typing import NDArray

from dfwe.errors import UserError
from dfwe.model.batches import Batch
from dfwe.model.scoring import evaluate
from dfwe.proposals.ledger import Ledger
from dfwe.proposals.loop import Measure, Result, Search, Trial, search
from dfwe.weights.space import WeightSpace

log = logging.getLogger(__name__)


class Interpolate(L.Callback):
    """Under `trainer.validate(module, dev)`: searches alpha, leaves theta(alpha*) in the module.

    Lightning then scores what the module holds; a score that differs from the ledger's is an
    error, since decoding is deterministic.

    Args:
        space: the fine-tuned experts.
        proposals: the search's settings (`conf/search`).
        ledger: where every trial is noted; an unfinished one is gone on with.
        on_trial: called after each trial with it and the best so far.
    """

    def __init__(
        self,
        space: WeightSpace,
        proposals: Search,
        ledger: Ledger,
        on_trial: Callable[[Trial, Trial], None] | None = None,
    ) -> None:
        self.space = space
        self.proposals = proposals
        self.ledger = ledger
        self.on_trial = on_trial
        self.result: Result | None = None

    def on_validation_start(self, trainer: L.Trainer, pl_module: Any) -> None:
        loader: Sequence[Batch] = trainer.val_dataloaders  # type: ignore[assignment]
        batches = [batch.to(pl_module.device) for batch in loader]

        def score(alpha: NDArray[Any]) -> Measure:
            self.space.write(alpha, pl_module.network)
            scores = evaluate(
                pl_module.network, batches, pl_module.dev, pl_module.task, pl_module.decoding
            )
            return Measure(scores.score, scores.loglik, scores.metrics)

        self.result = search(
            self.proposals(self.space.n, len(self.space.groups)), score, ledger=self.ledger,
            on_trial=self.on_trial,
        )  # fmt: skip
        self.space.write(self.result.alpha, pl_module.network)  # theta(alpha*), Eq. 2

    def on_validation_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        assert self.result is not None
        seen, noted = pl_module.scores.score, self.result.score
        if abs(seen - noted) > 1e-6:
            raise UserError(
                f"theta(alpha*) scores {seen:.4f} on dev, but its ledger says {noted:.4f}: the "
                "ledger was written on another machine or by other code; delete "
                f"{self.ledger.path.parent} and search again."
            )
