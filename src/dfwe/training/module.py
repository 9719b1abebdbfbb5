"""The LightningModule behind the expert and fine-tuning stages and the scoring of a search.

A family of models adds only its token losses (`GenerationModule`, `classifier.py`).
"""

from typing import TYPE_CHECKING

import lightning as L
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from dfwe.data.batches import Batch
from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.pipeline.recipe import digest
from dfwe.scoring.decoding import Decoding, backend_of
from dfwe.scoring.scorer import Predictions, Scorer, Scores
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.freezing import freeze
from dfwe.training.optimizers import optimizer_and_schedule
from dfwe.weights.untyped import seed_all

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class TaskModule(L.LightningModule):
    """A network, trained by `training` and scored on a task's dev split.

    Args:
        network: a transformers model.
        task: how answers are read and measured.
        decoding: how answers are read off the network.
        dev: what validation scores.
        training: how it is trained; None for a module that is only scored.
        seed: with the epoch, decides dropout.
        test: what `trainer.test` scores and `trainer.predict` answers.
    """

    def __init__(
        self,
        network: "PreTrainedModel",
        task: Task,
        decoding: Decoding,
        dev: TokenizedSplit,
        training: TrainingConfig | None = None,
        seed: int = 0,
        test: TokenizedSplit | None = None,
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
        self.test = test
        self.dev_scorer = Scorer(network, dev, task, decoding)
        self._test_scorer = None if test is None else Scorer(network, test, task, decoding)
        self.settings = training
        self.seed = seed
        self.scores: Scores | None = None
        self._predictions: list[Predictions] = []

    def losses(self, batch: Batch) -> Tensor:
        """The loss of each target token, (m, t), in nats; `batch.weight` weighs them."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        assert self.settings is not None
        trained = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer, schedule = optimizer_and_schedule(
            self.settings.optimizer,
            self.settings.schedule,
            trained,
            lr=self.settings.learning_rate,
            warmup=self.settings.warmup,
            steps=lambda: int(self.trainer.estimated_stepping_batches),
        )
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_train_epoch_start(self) -> None:
        # Dropout is a function of (seed, epoch): a resumed epoch is the same epoch.
        number = int(digest([self.seed, self.current_epoch])[:15], 16)
        seed_all(number)

    def training_step(self, batch: list[Batch], batch_idx: int) -> None:
        """One optimizer step over its micro-batches.

        Raises:
            UserError: the loss is not finite.
        """
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        optimizer.zero_grad()
        total, weight = torch.zeros(2, device=self.device)
        for part in batch:
            loss = (self.losses(part) * part.weight).sum()
            self.manual_backward(loss)
            total += loss.detach()
            weight += part.weight.sum()
        if not torch.isfinite(total):
            raise UserError(
                f"The loss became {total.item()} at step {batch_idx} of epoch "
                f"{self.current_epoch}; lower training.learning_rate or set "
                "training.precision=32-true."
            )
        self.log("train/learning_rate", optimizer.param_groups[0]["lr"])
        assert self.settings is not None
        if self.settings.clip is not None:
            # Not Lightning's clip_gradients, which refuses a fused optimizer under autocast.
            norm = nn.utils.clip_grad_norm_(self.parameters(), self.settings.clip)
            self.log("train/gradient_norm", norm)
        optimizer.step()
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LRScheduler)
        assert not isinstance(schedule, ReduceLROnPlateau)  # TrainingConfig.check refuses it
        schedule.step()
        loss = total / weight
        self.log("train/loss_step", loss, prog_bar=True)
        # `Epochs` logs it, before the epoch's checkpoint.
        self.log(
            "train/loss_epoch", loss, on_step=False, on_epoch=True, logger=False, batch_size=1
        )

    def on_validation_epoch_start(self) -> None:
        self._predictions = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Answers of one batch of dev; they are scored together at the end."""
        self._predictions.append(self.dev_scorer.predict(batch))

    def on_validation_epoch_end(self) -> None:
        self.scores = self.dev_scorer.reduce(self._predictions)
        self._log_scores("dev", self.scores)

    def on_test_epoch_start(self) -> None:
        self._predictions = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Answers of one batch of test; they are scored together at the end."""
        self._predictions.append(self.test_scorer.predict(batch))

    def on_test_epoch_end(self) -> None:
        self.scores = self.test_scorer.reduce(self._predictions)
        self._log_scores("test", self.scores)

    def predict_step(self, batch: Batch, batch_idx: int) -> Predictions:
        """Answers of one batch of test, by position in the split."""
        return self.test_scorer.predict(batch)

    @property
    def test_scorer(self) -> Scorer:
        """What scores the test split.

        Raises:
            UserError: the module has none.
        """
        if self._test_scorer is None:
            raise UserError("This module was built without a test split; pass one as test=.")
        return self._test_scorer

    def _log_scores(self, split: str, scores: Scores) -> None:
        self.log(f"{split}/score", _exact(scores.score), prog_bar=True)
        self.log(f"{split}/log_likelihood", _exact(scores.log_likelihood))
        self.log_dict({f"{split}/{name}": _exact(value) for name, value in scores.metrics.items()})


def _exact(value: float) -> Tensor:
    """What Lightning logs with all its digits; it rounds a plain number to float32."""
    return torch.tensor(value, dtype=torch.float64)


class GenerationModule(TaskModule):
    """A sequence-to-sequence or causal model of transformers."""

    def losses(self, batch: Batch) -> Tensor:
        return backend_of(self.network).token_losses(self.network, batch)
