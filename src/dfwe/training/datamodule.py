"""Training steps and dev batches as a data module of Lightning."""

from collections.abc import Mapping
from math import sqrt

import lightning as L
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from dfwe.data.batches import Batch, collate, group_by_length, scoring_loader
from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.training.config import TrainingConfig

Draw = tuple[str, list[int]]  # a task's name and positions in its split


class TrainingSteps(Dataset[list[Batch]]):
    """The optimizer steps of an epoch: each a list of micro-batches, decided by (seed, epoch).

    A step consists of `effective_batch / batch` draws of `batch` examples of one task each; tasks
    are drawn in proportion to the draws they have left, which is a random order of all draws
    (TLiDB's mixing). The last draw of a task may be smaller. Its loss is a sum over its draws of
    the token mean inside each draw, weighted as `TrainingConfig.accumulation` says. The draws'
    examples are then regrouped by length into micro-batches, each token keeping its weight, so
    that the gradient is the same as without regrouping.

    Args:
        splits: task name -> its training split.
        training: sizes of draws, steps and micro-batches.
        seed: decides the draws, with the epoch.

    Raises:
        UserError: an epoch has no whole step.
    """

    def __init__(
        self, splits: Mapping[str, TokenizedSplit], training: TrainingConfig, seed: int
    ) -> None:
        training.check_size({name: len(split) for name, split in splits.items()})
        self.splits = dict(splits)
        self.training = training
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's examples into `steps`: each a list of tasks and positions."""
        size, draws = self.training.batches, self.draws(epoch)
        self.steps = [draws[i : i + size] for i in range(0, len(draws), size)]
        if self.training.accumulation == "tlidb":
            whole = len(draws) // size
            carried = self.draws(epoch - 1)[whole * size :] if epoch else []
            self.steps = [carried + self.steps[0], *self.steps[1:whole]]

    def draws(self, epoch: int) -> list[Draw]:
        """The draws of an epoch: every example once."""
        rng = np.random.default_rng([self.seed, epoch])
        batch = self.training.batch
        draws: list[Draw] = []
        for name, split in self.splits.items():
            order = rng.permutation(len(split)).tolist()
            draws += [(name, order[i : i + batch]) for i in range(0, len(order), batch)]
        return [draws[i] for i in rng.permutation(len(draws))]

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, number: int) -> list[Batch]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        draws = self.steps[number]
        members: dict[str, list[tuple[int, float]]] = {}
        for name, index in draws:
            targets = self.splits[name].targets
            weight = self._weight(name, len(draws)) / sum(len(targets[i]) for i in index)
            members.setdefault(name, []).extend((i, weight) for i in index)
        batches: list[Batch] = []
        for name, chosen in members.items():
            split = self.splits[name]
            lengths = [len(split.sources[i]) for i, _ in chosen]
            for group in group_by_length(range(len(chosen)), lengths, self.training.tokens):
                index, weights = zip(*(chosen[k] for k in group), strict=True)
                batches.append(collate(split, index, weights, name))
        return batches

    def _weight(self, name: str, draws: int) -> float:
        """The weight of a draw's loss in a step of so many draws."""
        if self.training.accumulation == "mean":
            return 1 / draws
        # TLiDB's imbalanced_task_weighting, for several tasks only.
        batches = self.training.batches_of(len(self.splits[name])) if len(self.splits) > 1 else 1
        return 1 / (self.training.batches * sqrt(batches))


class TaskDataModule(L.LightningDataModule):
    """Training steps, and the batches of dev and test.

    Args:
        train: task name -> its training split; empty for data that is only scored.
        dev: what validation scores.
        training: sizes of draws, steps and micro-batches.
        seed: decides the draws, with the epoch.
        test: what `trainer.test` scores.
    """

    def __init__(
        self,
        train: Mapping[str, TokenizedSplit],
        dev: TokenizedSplit,
        training: TrainingConfig,
        seed: int,
        test: TokenizedSplit | None = None,
    ) -> None:
        super().__init__()
        self.steps = TrainingSteps(train, training, seed) if train else None
        self.dev = dev
        self.test = test

    def train_dataloader(self) -> DataLoader[list[Batch]]:
        # Lightning asks again before each epoch (reload_dataloaders_every_n_epochs=1).
        assert self.trainer is not None
        if self.steps is None:
            raise UserError("This data has no training split; pass one as train=.")
        same = bool(getattr(self.trainer, "overfit_batches", 0))  # the same batches again
        self.steps.set_epoch(0 if same else self.trainer.current_epoch)
        # A loader draws a number when it starts; a separate generator keeps dropout's draws.
        return DataLoader(self.steps, batch_size=None, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        return scoring_loader(self.dev, self.trainer.strategy.root_device)

    def test_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        if self.test is None:
            raise UserError("This data has no test split; pass one as test=.")
        return scoring_loader(self.test, self.trainer.strategy.root_device)

    def predict_dataloader(self) -> DataLoader[Batch]:
        return self.test_dataloader()
