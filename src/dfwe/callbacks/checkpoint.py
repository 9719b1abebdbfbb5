"""The best epoch's weights and the last epoch's checkpoint, in the recipe's unfinished work."""

import logging
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dfwe.callbacks.epochs import BEST
from dfwe.errors import UserError
from dfwe.pipeline.files import in_umask_mode, written_aside
from dfwe.pipeline.manifest import Manifest, entry_of, first_fault

log = logging.getLogger(__name__)
RESUME = "resume.json"


class _EpochFile(ModelCheckpoint):
    """A file written at the end of an epoch: first aside, then renamed.

    Args:
        folder: the recipe's unfinished work.
        name: the file's, without its ending; `{epoch}` in it is the epoch's number, from 1
            (`Epochs` logs it).
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

    def state_dict(self) -> dict[str, object]:
        state = super().state_dict()
        del state["dirpath"]  # a store that was moved is the same store
        return state

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        with written_aside(Path(filepath)) as temporary:
            self._write(trainer, temporary)

    def _remove_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Not yet: what is on disk to resume from still needs it."""

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        raise NotImplementedError


class BestEpoch(_EpochFile):
    """The weights of the best epoch so far, in `folder/best-<epoch>.safetensors`.

    What the best one is, `ScoredEpochs` says.

    Args:
        folder: the recipe's unfinished work.
        copies: keep a copy of the weights while they are validated: other callbacks may change
            them before the epoch ends (averaging does), and the weights kept are those scored.
    """

    FILE_EXTENSION = ".safetensors"

    def __init__(self, folder: Path, copies: bool = False) -> None:
        super().__init__(folder, "best-{epoch}", monitor=BEST)
        self.copies = copies
        self._scored: dict[str, Tensor] = {}

    @property
    def weights(self) -> Path:
        return self.folder / Path(self.best_model_path).name

    def restore(self, network: nn.Module) -> None:
        """Puts the best epoch's weights into the network.

        Raises:
            UserError: their file is not as it was written.
        """
        try:
            files = Manifest.read(self.folder / RESUME).files
            fault = first_fault(self.folder, {self.weights.name: files[self.weights.name]})
        except (UserError, KeyError):
            fault = f"{RESUME} is damaged"
        if fault is not None:
            raise UserError(
                f"The best epoch in {self.folder} is damaged ({fault}); the same command trains "
                "it again."
            )
        best = load_file(self.weights)
        for name, parameter in network.named_parameters():
            parameter.data.copy_(best[name])

    def on_validation_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: object,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self.copies and batch_idx == 0:
            parameters = _network(trainer).named_parameters()
            self._scored = {name: value.detach().clone() for name, value in parameters}

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        with in_umask_mode(path):
            save_file(self._scored or dict(_network(trainer).named_parameters()), path)


def _network(trainer: L.Trainer) -> nn.Module:
    network = trainer.lightning_module.network
    assert isinstance(network, nn.Module)
    return network


class EpochCheckpoint(_EpochFile):
    """Everything needed to resume after the last finished epoch, in `folder/resume-<epoch>.ckpt`.

    `folder/resume.json`, written last, has its digest and that of the best epoch's weights: the
    files that it names belong together, whenever a run is killed. Older ones are then removed.
    Stands last in the list of callbacks, so that it saves the others as they are after the epoch.

    Args:
        folder: the recipe's unfinished work.
        best: the best epoch of the same training; None where the last one counts.
    """

    def __init__(self, folder: Path, best: BestEpoch | None = None) -> None:
        super().__init__(folder, "resume-{epoch}")
        self.best = best

    @property
    def resumable(self) -> Path | None:
        """The checkpoint to resume from, if it and the best epoch's weights are as written."""
        path = self.folder / RESUME
        if not path.exists():
            return None
        try:
            files = Manifest.read(path).files
            fault = first_fault(self.folder, files)
        except UserError:
            files, fault = {}, f"{RESUME} cannot be read"
        names = [name for name in files if name.endswith(self.FILE_EXTENSION)]
        if fault is None and len(names) == 1:
            return self.folder / names[0]
        log.warning(
            "What %s has to resume from is damaged (%s): this training starts from the beginning.",
            self.folder,
            fault or f"{RESUME} names no checkpoint",
        )
        return None

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        super()._save_checkpoint(trainer, filepath)
        kept = [Path(filepath)] if self.best is None else [Path(filepath), self.best.weights]
        manifest = Manifest(files={path.name: entry_of(path) for path in kept})
        with written_aside(self.folder / RESUME) as temporary:
            manifest.write(temporary)
        for pattern in (f"resume-*{self.FILE_EXTENSION}", f"best-*{BestEpoch.FILE_EXTENSION}"):
            for path in self.folder.glob(pattern):
                if path.name not in manifest.files:
                    path.unlink(missing_ok=True)

    def _write(self, trainer: L.Trainer, path: Path) -> None:
        trainer.save_checkpoint(path)
