"""The LightningModule behind the expert and fine-tuning stages and the scoring of a search.

A family of models says only what its token losses are (`seq2seq.py`, `classifier.py`).
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from dfwe.errors import UserError
from dfwe.model.batches import Batch
from dfwe.model.decoding import Decoding
from dfwe.model.encode import Encoded
from dfwe.model.fit import Fit
from dfwe.model.freeze import freeze
from dfwe.model.scoring import Predictions, Scores, predict, summarise
from dfwe.recipe import digest
from dfwe.tasks.task import Task


class ScoredModule(L.LightningModule):
    """A network, trained by its fit and scored on a task's dev split.

    Args:
        network: a transformers model.
        task, decoding, dev: what validation scores, and how.
        fit: how it is trained; None for a module that is only scored.
        seed: with the epoch, decides dropout.
    """

    def __init__(
        self,
        network: Any,
        task: Task,
        decoding: Decoding,
        dev: Encoded,
        fit: Fit | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is a list of micro-batches
        # from_pretrained leaves a network without dropout, and Lightning keeps it so.
        self.network = network.train(fit is not None)
        if fit is not None:
            freeze(network, fit.parameters)
        self.task = task
        self.decoding = decoding
        self.dev = dev
        self.fit = fit
        self.seed = seed
        self.scores: Scores | None = None
        self._predictions: list[Predictions] = []

    def losses(self, batch: Batch) -> Tensor:
        """The loss of each target token (m, t); what `batch.weight` weighs."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        assert self.fit is not None
        warmup = max(1, self.fit.warmup)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.fit.learning_rate, fused=True)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: min(1.0, (step + 1) / warmup)
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_epoch_start(self) -> None:
        # Dropout is a function of (seed, epoch): a resumed epoch is the same epoch.
        torch.manual_seed(int(digest([self.seed, self.current_epoch])[:15], 16))

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        """One optimizer step over its micro-batches."""
        optimizer: Any = self.optimizers()
        optimizer.zero_grad()
        total = torch.zeros((), device=self.device)
        for part in batch:
            loss = (self.losses(part) * part.weight).sum()
            self.manual_backward(loss)
            total += loss.detach()
        if not torch.isfinite(total):
            raise UserError(
                f"The loss became {total.item()} at step {batch_idx} of epoch "
                f"{self.current_epoch}; lower fit.learning_rate or set fit.precision=32-true."
            )
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        optimizer.step()
        self.lr_schedulers().step()  # type: ignore[union-attr]
        self.log("train/loss", total, on_step=True, on_epoch=True, prog_bar=True, batch_size=1)

    def on_validation_epoch_start(self) -> None:
        self._predictions = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Answers of one batch; they are scored together at the end."""
        # In float32 whatever training does: the search scores the same weights the same way.
        with torch.autocast(self.device.type, enabled=False):
            self._predictions += predict(self.network, batch, self.dev, self.task, self.decoding)

    def on_validation_epoch_end(self) -> None:
        self.scores = summarise(self._predictions, self.dev, self.task)
        self.log("dev/score", self.scores.score, prog_bar=True)
        self.log("dev/loglik", self.scores.loglik)
        self.log_dict({f"dev/{name}": value for name, value in self.scores.metrics.items()})
