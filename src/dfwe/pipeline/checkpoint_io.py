"""How Lightning writes a training's checkpoint; imported only when a trainer is built."""

from pathlib import Path

import torch
from lightning.pytorch.plugins import TorchCheckpointIO


class PlainCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint where it is told: Lightning's own writes the system's temporary folder
    first."""

    def save_checkpoint(
        self, checkpoint: dict[str, object], path: str | Path, storage_options: object = None
    ) -> None:
        torch.save(checkpoint, path)
