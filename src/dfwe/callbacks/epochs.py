"""What each epoch came to and cost, and which one is the best."""

import time
from typing import Any

import lightning as L

from dfwe.scoring.scorer import Scores

BEST = "best_epoch"  # the metric that checkpoint and early stopping monitor


class Epochs(L.Callback):
    """The training loss and the seconds of each epoch; a resumed training keeps the earlier rows.

    Attributes:
        epochs: a row per epoch, in order.
        earlier_seconds: of the epochs that an earlier attempt trained.
    """

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.earlier_seconds = 0.0
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.epochs.append(
            {
                "epoch": trainer.current_epoch,
                "train_loss": float(trainer.callback_metrics["train/loss_epoch"]),
                "seconds": time.monotonic() - self._began,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
        self.earlier_seconds = sum(row["seconds"] for row in self.epochs)


class ScoredEpochs(Epochs):
    """The dev scores of each epoch too; the index of the best so far is the metric `best_epoch`.

    The best has the highest score; of equal ones the highest dev likelihood, then the latest.
    """

    @property
    def best(self) -> int:
        """The index of the best epoch so far."""
        keys = [(row["score"], row["log_likelihood"], row["epoch"]) for row in self.epochs]
        return max(keys)[2]

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        scores = pl_module.scores
        assert isinstance(scores, Scores)
        self.epochs[-1] |= {
            "score": scores.score,
            "log_likelihood": scores.log_likelihood,
            "metrics": dict(scores.metrics),
        }
        pl_module.log(BEST, self.best, logger=False, batch_size=1)
