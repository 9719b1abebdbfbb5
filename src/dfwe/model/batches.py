"""Batches: length-sorted under a token budget for scoring, optimizer steps for training."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfwe.model.encode import Encoded
from dfwe.model.fit import Fit

IGNORED = -100  # a target position without a token
SCORING_TOKENS = 4096  # a decoder step reads all weights once a batch: fewer batches
SCORING_TOKENS_ON_DEVICE = 32768  # an accelerator waits for launches, not for arithmetic


@dataclass
class Batch:
    """Examples as padded tensors.

    Args:
        index: (m,) positions in the split.
        source: (m, s) token ids; mask: (m, s), 1 where there is one.
        target: (m, t) token ids, end token included, -100 where there is none.
        weight: (m, t) what a target token's loss counts for.
        task: whose examples they are, in training.
    """

    index: Tensor
    source: Tensor
    mask: Tensor
    target: Tensor
    weight: Tensor
    task: str = ""

    def to(self, device: Any, non_blocking: bool = False) -> "Batch":
        """The same batch on a device."""
        parts = (self.index, self.source, self.mask, self.target, self.weight)
        moved = (part.to(device, non_blocking=non_blocking) for part in parts)
        return Batch(*moved, task=self.task)

    def halves(self) -> list["Batch"]:
        """Its first rows and the rest; needs at least two."""
        parts = (self.index, self.source, self.mask, self.target, self.weight)
        middle = len(self.index) // 2
        return [
            Batch(*(part[rows] for part in parts), task=self.task)
            for rows in (slice(middle), slice(middle, None))
        ]


def collate(
    encoded: Encoded, index: Sequence[int], weights: Sequence[float], task: str = ""
) -> Batch:
    """The examples `index` of a split; `weights` (m,) are the weight of each one's tokens."""
    sources = [encoded.sources[i] for i in index]
    targets = [encoded.targets[i] for i in index]
    source = padded(sources, encoded.tokenizer.pad_token_id)
    target = padded(targets, IGNORED)
    per_token = torch.tensor(weights, dtype=torch.float32)[:, None] * (target != IGNORED)
    lengths = torch.tensor([len(ids) for ids in sources])
    mask = (torch.arange(source.shape[1])[None] < lengths[:, None]).long()
    return Batch(torch.tensor(index), source, mask, target, per_token, task)


def evaluation_batches(encoded: Encoded, tokens: int = SCORING_TOKENS) -> list[Batch]:
    """The whole split once, longest first, at most `tokens` padded source tokens a batch."""
    lengths = [len(ids) for ids in encoded.sources]
    groups = _budgeted(range(len(encoded)), lengths, tokens)
    return [collate(encoded, group, [1.0] * len(group)) for group in groups]


def scoring_tokens(device: torch.device) -> int:
    """The token budget of `evaluation_batches` where a network scores."""
    return SCORING_TOKENS if device.type == "cpu" else SCORING_TOKENS_ON_DEVICE


class TrainingSteps(Dataset):
    """The optimizer steps of an epoch: each a list of micro-batches, decided by (seed, epoch).

    A step is made of `effective_batch / batch` draws of `batch` examples of one task each; tasks
    are drawn in proportion to the draws they have left, which is a random order of all draws
    (TLiDB's mixing). Its loss is the mean over its draws of the token mean inside each draw. The
    draws' examples are then split anew by length into micro-batches, each token keeping its
    weight, so that the gradient is that of the plain way. The last draw of a task and the last
    step of an epoch may be smaller.
    """

    def __init__(self, splits: Mapping[str, Encoded], fit: Fit, seed: int) -> None:
        self.splits = dict(splits)
        self.fit = fit
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the epoch's examples: `draws`, each a task and positions in its split."""
        rng = np.random.default_rng([self.seed, epoch])
        batch = self.fit.batch
        draws: list[tuple[str, list[int]]] = []
        for name, split in self.splits.items():
            order = rng.permutation(len(split)).tolist()
            draws += [(name, order[i : i + batch]) for i in range(0, len(order), batch)]
        self.draws = [draws[i] for i in rng.permutation(len(draws))]

    def __len__(self) -> int:
        return -(-len(self.draws) // (self.fit.effective_batch // self.fit.batch))

    def __getitem__(self, number: int) -> list[Batch]:
        if not 0 <= number < len(self):
            raise IndexError(number)
        size = self.fit.effective_batch // self.fit.batch
        return self._step(self.draws[number * size : (number + 1) * size])

    def _step(self, draws: list[tuple[str, list[int]]]) -> list[Batch]:
        members: dict[str, list[tuple[int, float]]] = {}
        for name, index in draws:
            targets = self.splits[name].targets
            weight = 1.0 / (len(draws) * sum(len(targets[i]) for i in index))
            members.setdefault(name, []).extend((i, weight) for i in index)
        batches = []
        for name, chosen in members.items():
            split = self.splits[name]
            lengths = [len(split.sources[i]) for i, _ in chosen]
            for group in _budgeted(range(len(chosen)), lengths, self.fit.tokens):
                index, weights = zip(*(chosen[k] for k in group), strict=True)
                batches.append(collate(split, index, weights, name))
        return batches


class Data(L.LightningDataModule):
    """Training steps and the dev split's batches."""

    def __init__(self, train: Mapping[str, Encoded], dev: Encoded, fit: Fit, seed: int) -> None:
        super().__init__()
        self.steps = TrainingSteps(train, fit, seed)
        self.dev = dev

    def train_dataloader(self) -> DataLoader:
        # Lightning asks again before each epoch (reload_dataloaders_every_n_epochs=1).
        assert self.trainer is not None
        self.steps.set_epoch(self.trainer.current_epoch)
        # Its own generator: a loader draws a number when it starts, which dropout must not notice.
        return DataLoader(self.steps, batch_size=None, generator=torch.Generator())

    def val_dataloader(self) -> DataLoader:
        assert self.trainer is not None
        return scoring_loader(self.dev, self.trainer.strategy.root_device)


def scoring_loader(encoded: Encoded, device: torch.device) -> DataLoader:
    """The split's evaluation batches as Lightning wants them, sized for the device."""
    batches: Any = evaluation_batches(encoded, scoring_tokens(device))
    return DataLoader(batches, batch_size=None)


def _budgeted(items: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Groups of similar length, longest first, each at most `tokens` when padded."""
    groups: list[list[int]] = []
    longest = 0
    for item in sorted(items, key=lambda i: -lengths[i]):
        if groups and longest * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(item)
        else:
            groups.append([item])
            longest = lengths[item]
    return groups


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Rows of ids as one tensor (m, longest), filled up at the end."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
