"""Stop a training when patience runs out."""

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from dfwe.callbacks.epochs import BEST


class Patience(EarlyStopping):
    """Ends a training after some epochs without a better one, and does not continue an ended one.

    Args:
        epochs: without a better one, as `ScoredEpochs` orders them.
    """

    def __init__(self, epochs: int) -> None:
        super().__init__(BEST, patience=epochs, mode="max", check_on_train_epoch_end=True)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # True for a training that was killed between its last epoch and the store.
        trainer.should_stop = self.wait_count >= self.patience
