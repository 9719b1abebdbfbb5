"""The LightningModule behind `stage=pretrain`: span corruption from random weights."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import lightning as L
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, IterableDataset
from transformers import Adafactor, get_cosine_with_min_lr_schedule_with_warmup

from dfwe.data.batches import IGNORED, padded
from dfwe.pretraining.span_corruption import Blocks, Pair

if TYPE_CHECKING:
    from transformers import T5ForConditionalGeneration

LOWEST = 0.05  # of the peak, where the cosine ends


class SpanCorruptionModule(L.LightningModule):
    """A fresh network that learns to fill in hidden spans.

    Args:
        network: a T5.
        steps: optimizer steps of the whole run; over them the rate falls along half a cosine.
        peak: the highest rate, relative to the root mean square of each tensor.
        warmup: the steps of linear increase until the peak is reached.
    """

    def __init__(
        self, network: "T5ForConditionalGeneration", steps: int, peak: float, warmup: int
    ) -> None:
        super().__init__()
        self.network = network.eval()  # no dropout, as T5 1.1; Lightning keeps it so
        self.steps = steps
        self.peak = peak
        self.warmup = warmup

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        # A T5 starts with weights of very different size; Adafactor's steps follow each tensor's.
        optimizer = Adafactor(
            self.network.parameters(), lr=self.peak, scale_parameter=True, relative_step=False
        )
        schedule = get_cosine_with_min_lr_schedule_with_warmup(
            optimizer, self.warmup, self.steps, min_lr_rate=LOWEST
        )
        (factor,) = schedule.lr_lambdas
        # The warm-up from step + 1 on: the first step's rate would be zero.
        shifted = LambdaLR(optimizer, lambda step: factor(step + (step < self.warmup)))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": shifted, "interval": "step"},
        }

    def training_step(self, batch: list[Pair], batch_idx: int) -> Tensor:
        """The loss of one step's pairs of source and target."""
        source = padded([source for source, _ in batch], 0).to(self.device)
        target = padded([target for _, target in batch], IGNORED).to(self.device)
        loss = self.network(input_ids=source, attention_mask=source != 0, labels=target).loss
        self.log("train/loss_step", loss, prog_bar=True)
        # `Epochs` logs it, before the epoch's checkpoint.
        self.log(
            "train/loss_epoch", loss, on_step=False, on_epoch=True, logger=False, batch_size=1
        )
        return loss


class Passes(L.LightningDataModule):
    """The blocks of each pass; an epoch is decided by (seed, epoch) alone.

    Args:
        blocks: the text.
        seed: decides the passes.
    """

    def __init__(self, blocks: Blocks, seed: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.seed = seed

    def train_dataloader(self) -> DataLoader[list[Pair]]:
        assert self.trainer is not None
        return DataLoader(
            _Pass(self.blocks, self.seed, self.trainer.current_epoch), batch_size=None
        )


class _Pass(IterableDataset[list[Pair]]):
    """The steps of one pass."""

    def __init__(self, blocks: Blocks, seed: int, epoch: int) -> None:
        self.blocks = blocks
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks.steps

    def __iter__(self) -> Iterator[list[Pair]]:
        return self.blocks.epoch(self.seed, self.epoch)
