"""What each epoch came to and cost, and which one is the best."""

import time
from dataclasses import dataclass, replace

import lightning as L
from lightning.pytorch.utilities.types import STEP_OUTPUT
from pydantic import TypeAdapter

from dfwe.errors import UserError
from dfwe.pipeline.record import SplitScores
from dfwe.scoring.scorer import Scores

BEST = "best_epoch"  # the metric that checkpoint and early stopping monitor


@dataclass(frozen=True)
class Epoch:
    """What an epoch came to.

    Args:
        epoch: its number, from 1.
        train_loss: the mean over its steps.
        seconds: what it took.
        dev: its scores on dev; None of a training that is not scored.
    """

    epoch: int
    train_loss: float
    seconds: float
    dev: SplitScores | None = None


_EPOCHS = TypeAdapter(list[Epoch])


class Epochs(L.Callback):
    """The training loss and the seconds of each epoch; a resumed training keeps the earlier rows.

    Attributes:
        epochs: a row per epoch, in order.
        earlier_seconds: of the epochs that an earlier attempt trained.
    """

    def __init__(self) -> None:
        self.epochs: list[Epoch] = []
        self.earlier_seconds = 0.0
        self._began = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        _log_epoch(trainer, pl_module)
        # An epoch that max_steps ends is scored too.
        trainer.should_stop |= trainer.global_step == trainer.max_steps

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _log_epoch(trainer, pl_module)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        loss = float(trainer.callback_metrics["train/loss_epoch"])
        number, seconds = trainer.current_epoch + 1, time.monotonic() - self._began
        self.epochs.append(Epoch(number, loss, seconds))
        # Now: Lightning would log it after the checkpoint, and a kill between the two lose it.
        row = {"epoch": float(number), "train/loss_epoch": loss}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=trainer.global_step - 1)

    @property
    def note(self) -> str:
        """How the training goes, in a few words."""
        return f"loss {self.epochs[-1].train_loss:.3f}" if self.epochs else ""

    def state_dict(self) -> dict[str, object]:
        return {"epochs": _EPOCHS.dump_json(self.epochs).decode()}

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        self.epochs = _EPOCHS.validate_json(str(state_dict["epochs"]))
        self.earlier_seconds = sum(epoch.seconds for epoch in self.epochs)


def _log_epoch(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """The epoch's number as people count, from 1; Lightning would log it from 0."""
    pl_module.log("epoch", float(trainer.current_epoch + 1), batch_size=1)


class ScoredEpochs(Epochs):
    """The dev scores of each epoch too; the number of the best so far is the metric `best_epoch`.

    The best has the highest score; of equal ones the highest dev likelihood, then the latest.
    """

    @property
    def best(self) -> int:
        """The number of the best epoch so far, from 1."""
        keys = [
            (epoch.dev.score, epoch.dev.log_likelihood, epoch.epoch)
            for epoch in self.epochs
            if epoch.dev is not None
        ]
        return max(keys)[2]

    @property
    def note(self) -> str:
        if not self.epochs:
            return ""
        dev = self.epochs[self.best - 1].dev
        assert dev is not None
        return f"best {dev.score:.2f} (epoch {self.best} of {len(self.epochs)})"

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        scores = pl_module.scores
        if not isinstance(scores, Scores):
            raise UserError(
                "No batch of dev was scored, so that no epoch can be selected; set "
                "trainer.limit_val_batches=1 or more."
            )
        dev = SplitScores(
            score=scores.score,
            metrics=dict(scores.metrics),
            log_likelihood=scores.log_likelihood,
        )
        self.epochs[-1] = replace(self.epochs[-1], dev=dev)
        pl_module.log(BEST, self.best, logger=False, batch_size=1)
