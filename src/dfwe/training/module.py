"""The LightningModule behind the expert and fine-tuning stages and the scoring of a search.

A family of models says only what its token losses are (`seq2seq.py`, `classifier.py`).
"""

from typing import Any

import lightning as L
import torch
from torch import Tensor

from dfwe.data.batches import Batch
from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.pipeline.recipe import digest
from dfwe.scoring.decoding import Decoding, backend_of
from dfwe.scoring.scorer import Predictions, Scores, predict, summarise
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.freezing import freeze


class TaskModule(L.LightningModule):
    """A network, trained by `training` and scored on a task's dev split.

    Args:
        network: a transformers model.
        task, decoding, dev: what validation scores, and how.
        training: how it is trained; None for a module that is only scored.
        seed: with the epoch, decides dropout.
    """

    def __init__(
        self,
        network: Any,
        task: Task,
        decoding: Decoding,
        dev: TokenizedSplit,
        training: TrainingConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # a step is a list of micro-batches
        # from_pretrained leaves a network without dropout, and Lightning keeps it so.
        self.network = network.train(training is not None)
        if training is not None:
            freeze(network, training.parameters)
        self.task = task
        self.decoding = decoding
        self.dev = dev
        self.settings = training
        self.seed = seed
        self.scores: Scores | None = None
        self._predictions: list[Predictions] = []

    def losses(self, batch: Batch) -> Tensor:
        """The loss of each target token (m, t); what `batch.weight` weighs."""
        raise NotImplementedError

    def configure_optimizers(self) -> Any:
        assert self.settings is not None
        warmup = max(1, self.settings.warmup)
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=self.settings.learning_rate, fused=True)
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
                f"{self.current_epoch}; lower training.learning_rate or set "
                "training.precision=32-true."
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
        self.log("dev/log_likelihood", self.scores.log_likelihood)
        self.log_dict({f"dev/{name}": value for name, value in self.scores.metrics.items()})


class GenerationModule(TaskModule):
    """A sequence-to-sequence or causal model of transformers."""

    def losses(self, batch: Batch) -> Tensor:
        return backend_of(self.network).token_losses(self.network, batch)
