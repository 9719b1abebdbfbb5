"""Note the epochs, keep the one with the best dev score, stop when patience runs out."""

import logging
import time
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning as L
from safetensors.torch import load_file, save_file

log = logging.getLogger(__name__)


class Epochs(L.Callback):
    """What each epoch came to and cost, in `epochs`; a resumed training keeps the earlier rows."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, Any]] = []
        self.earlier_seconds = 0.0  # of the epochs that an earlier attempt trained
        self._began = time.monotonic()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = time.monotonic()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        self.epochs.append(
            {
                "epoch": trainer.current_epoch,
                "steps": trainer.global_step,
                "train_loss": float(trainer.callback_metrics["train/loss_epoch"]),
                "seconds": time.monotonic() - self._began,
            }
        )

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = list(state_dict["epochs"])
        self.earlier_seconds = sum(row["seconds"] for row in self.epochs)


class BestEpoch(Epochs):
    """Best-dev-epoch selection: by score, ties by the dev likelihood, then the later epoch.

    The best weights so far lie in `folder/best-<epoch>.safetensors`; older ones go when the next
    epoch starts, so that a killed run finds the weights its checkpoint speaks of.

    Args:
        folder: the recipe's unfinished work.
        patience: epochs without a better one before training stops; None trains them all.
        steps_at_least: optimizer steps before which it does not stop.
    """

    def __init__(self, folder: Path, patience: int | None, steps_at_least: int = 0) -> None:
        super().__init__()
        self.folder = folder
        self.patience = patience
        self.steps_at_least = steps_at_least

    @property
    def best(self) -> int:
        """The index of the best epoch so far."""
        keys = [(row["score"], row["log_likelihood"], row["epoch"]) for row in self.epochs]
        return max(keys)[2]

    @property
    def weights(self) -> Path:
        return self.folder / f"best-{self.best}.safetensors"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop(trainer)  # killed between its last epoch and the store

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_start(trainer, pl_module)
        for old in self.folder.glob("best-*.safetensors"):
            if not self.epochs or old != self.weights:
                old.unlink()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: Any) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        scores = pl_module.scores
        self.epochs[-1] |= {
            "score": scores.score,
            "log_likelihood": scores.log_likelihood,
            "metrics": dict(scores.metrics),
        }
        if self.best == trainer.current_epoch:
            temporary = self.folder / "best.part"
            save_file(dict(pl_module.network.named_parameters()), temporary)
            temporary.replace(self.weights)
        self._stop(trainer)

    def _stop(self, trainer: L.Trainer) -> None:
        """Let the training end if patience has run out."""
        if self.patience is not None and self.epochs:
            last = self.epochs[-1]
            waited = last["epoch"] - self.best >= self.patience
            trainer.should_stop = waited and last["steps"] >= self.steps_at_least

    def restore(self, network: Any) -> None:
        """Put the best epoch's weights into the network."""
        best = load_file(self.weights)
        for name, parameter in network.named_parameters():
            parameter.data.copy_(best[name])


class EpochCheckpoint(L.Callback):
    """Everything needed to go on after the last finished epoch, in one file.

    Stands last in the list of callbacks, so that it saves what the others have just noted.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "resume.ckpt"

    @property
    def found(self) -> Path | None:
        """The checkpoint to go on from, if there is a whole one."""
        if not self.path.exists():
            return None
        if not is_zipfile(self.path):
            log.warning("%s is damaged: this training starts anew.", self.path)
            return None
        return self.path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        temporary = self.path.with_suffix(".part")
        trainer.save_checkpoint(temporary)
        temporary.replace(self.path)
