"""The LightningModule behind `stage=pretrain`: span corruption from nothing."""

from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader, IterableDataset
from transformers import Adafactor

from dfwe.data.batches import IGNORED, padded
from dfwe.pretraining.span_corruption import Blocks, learning_rate

Pairs = list[tuple[list[int], list[int]]]


class SpanCorruptionModule(L.LightningModule):
    """A fresh network learning to fill in hidden spans.

    Args:
        steps: optimizer steps of the whole run, for the learning rate's schedule.
        peak, warmup: the schedule's highest rate, relative to the root mean square of each tensor,
            and the steps until it is reached.
    """

    def __init__(self, network: Any, steps: int, peak: float, warmup: int) -> None:
        super().__init__()
        self.network = network.eval()  # no dropout, as T5 1.1; Lightning keeps it so
        self.steps = steps
        self.peak = peak
        self.warmup = warmup

    def configure_optimizers(self) -> Any:
        # A T5 starts with weights of very different size; Adafactor's steps follow each tensor's.
        optimizer = Adafactor(
            self.network.parameters(), lr=1.0, scale_parameter=True, relative_step=False
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate(step, self.steps, self.peak, self.warmup)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def training_step(self, batch: Pairs, batch_idx: int) -> Any:
        source = padded([source for source, _ in batch], 0).to(self.device)
        target = padded([target for _, target in batch], IGNORED).to(self.device)
        loss = self.network(input_ids=source, attention_mask=source != 0, labels=target).loss
        self.log("train/loss", loss, on_step=True, on_epoch=True, prog_bar=True, batch_size=1)
        return loss


class Passes(L.LightningDataModule):
    """The blocks of each pass; an epoch is decided by (seed, epoch) alone."""

    def __init__(self, blocks: Blocks, seed: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.seed = seed

    def train_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        return DataLoader(
            _Pass(self.blocks, self.seed, self.trainer.current_epoch), batch_size=None
        )


class _Pass(IterableDataset):
    def __init__(self, blocks: Blocks, seed: int, epoch: int) -> None:
        self.blocks = blocks
        self.seed = seed
        self.epoch = epoch

    def __len__(self) -> int:
        return self.blocks.steps

    def __iter__(self) -> Any:
        return self.blocks.epoch(self.seed, self.epoch)
