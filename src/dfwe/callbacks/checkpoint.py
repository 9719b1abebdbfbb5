"""The best epoch's weights and the last epoch's checkpoint, in the recipe's unfinished work."""

import logging
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import nn

from dfwe.callbacks.epochs import BEST

log = logging.getLogger(__name__)


class _EpochFile(ModelCheckpoint):
    """A file written at the end of an epoch: first aside, then renamed.

    Args:
        folder: the recipe's unfinished work.
        name: the file's, without its ending; `{epoch}` in it is the epoch's number.
        monitor: the metric that must rise for the file to be written; None writes it always.
    """

    best_model_path: str

    def __init__(self, folder: Path, name: str, monitor: str | None = None) -> None:
        super().__init__(
            folder,
            name,
            monitor=monitor,
            mode="max",
            auto_insert_metric_name=False,
            save_on_train_epoch_end=True,
            enable_version_counter=False,
        )
        self.folder = folder

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Nothing: Lightning would look for a folder and warn of one that is not empty."""

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        del state["dirpath"]  # a store that was moved is the same store
        return state

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        temporary = Path(filepath).with_suffix(".part")
        self._write(trainer, temporary)
        temporary.replace(filepath)

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        raise NotImplementedError


class BestEpoch(_EpochFile):
    """The weights of the best epoch so far, in `folder/best-<epoch>.safetensors`.

    Older ones go when the next epoch starts, so that a killed run has the weights that its
    checkpoint speaks of. What the best one is, `ScoredEpochs` says.
    """

    FILE_EXTENSION = ".safetensors"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "best-{epoch}", monitor=BEST)

    @property
    def weights(self) -> Path:
        return self.folder / Path(self.best_model_path).name

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        for path in self.folder.glob("best-*.safetensors"):
            if path != self.weights:
                path.unlink()

    def restore(self, network: nn.Module) -> None:
        """Put the best epoch's weights into the network."""
        best = load_file(self.weights)
        for name, parameter in network.named_parameters():
            parameter.data.copy_(best[name])

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        network = trainer.lightning_module.network
        assert isinstance(network, nn.Module)
        save_file(dict(network.named_parameters()), path)

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Not yet: the checkpoint on disk still speaks of it."""


class EpochCheckpoint(_EpochFile):
    """Everything needed to go on after the last finished epoch, in `folder/resume.ckpt`.

    Stands last in the list of callbacks, so that it saves the others as they are after the epoch.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "resume")
        self.path = folder / "resume.ckpt"

    @property
    def resumable(self) -> Path | None:
        """The checkpoint to go on from, if there is a whole one."""
        if not self.path.exists():
            return None
        if not is_zipfile(self.path):
            log.warning("%s is damaged: this training starts anew.", self.path)
            return None
        return self.path

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        trainer.save_checkpoint(path)
