"""Batches: length-sorted under a token budget for scoring, optimizer steps for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dfwe.data.tokenization import TokenizedSplit

IGNORED = -100  # a target position without a token
SCORING_TOKENS = 4096  # a decoder step reads all weights once per batch: fewer batches
SCORING_TOKENS_ON_DEVICE = 32768  # an accelerator waits for launches, not for arithmetic


@dataclass
class Batch:
    """Examples as padded tensors.

    Args:
        index: (m,) positions of the examples in the split.
        source: (m, s) token ids of the inputs.
        mask: (m, s), 1 where `source` has a token, 0 where it is padded.
        target: (m, t) token ids, end token included, -100 where there is none.
        weight: (m, t), the weight of each target token's loss.
        task: the task that the examples belong to, in training.
    """

    index: Tensor
    source: Tensor
    mask: Tensor
    target: Tensor
    weight: Tensor
    task: str = ""

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        """The same batch on a device."""
        parts = (self.index, self.source, self.mask, self.target, self.weight)
        moved = (part.to(device, non_blocking=non_blocking) for part in parts)
        return Batch(*moved, task=self.task)

    def halves(self) -> list["Batch"]:
        """The first half of the rows and the rest; it needs at least two rows."""
        parts = (self.index, self.source, self.mask, self.target, self.weight)
        middle = len(self.index) // 2
        return [
            Batch(*(part[rows] for part in parts), task=self.task)
            for rows in (slice(middle), slice(middle, None))
        ]


def collate(
    tokenized: TokenizedSplit, index: Sequence[int], weights: Sequence[float], task: str = ""
) -> Batch:
    """Some examples of a split as one batch.

    Args:
        tokenized: the split.
        index: positions of m examples in the split.
        weights: (m,), the loss weight of every target token of each example.
        task: the task that the examples belong to, in training.
    """
    sources = [tokenized.sources[i] for i in index]
    targets = [tokenized.targets[i] for i in index]
    source = padded(sources, tokenized.tokenizer.pad_token_id)
    target = padded(targets, IGNORED)
    per_token = torch.tensor(weights, dtype=torch.float32)[:, None] * (target != IGNORED)
    lengths = torch.tensor([len(ids) for ids in sources])
    mask = (torch.arange(source.shape[1])[None] < lengths[:, None]).long()
    return Batch(torch.tensor(index), source, mask, target, per_token, task)


class EvaluationBatches(Sequence[Batch]):
    """Batches of a split, each made when it is asked for: a large split has many times its size
    in tensors.

    Args:
        tokenized: the split.
        groups: the positions of each batch's examples.
    """

    def __init__(self, tokenized: TokenizedSplit, groups: Sequence[Sequence[int]]) -> None:
        self.tokenized = tokenized
        self.groups = groups

    def __len__(self) -> int:
        return len(self.groups)

    @overload
    def __getitem__(self, index: int) -> Batch: ...

    @overload
    def __getitem__(self, index: slice) -> "EvaluationBatches": ...

    def __getitem__(self, index: int | slice) -> "Batch | EvaluationBatches":
        if isinstance(index, slice):
            return EvaluationBatches(self.tokenized, self.groups[index])
        group = self.groups[index]
        return collate(self.tokenized, group, [1.0] * len(group))


def evaluation_batches(
    tokenized: TokenizedSplit, tokens: int = SCORING_TOKENS
) -> EvaluationBatches:
    """The whole split once, longest first, at most `tokens` padded source tokens per batch."""
    lengths = [len(ids) for ids in tokenized.sources]
    return EvaluationBatches(tokenized, group_by_length(range(len(tokenized)), lengths, tokens))


def scoring_tokens(device: torch.device) -> int:
    """The token budget of `evaluation_batches` for a network on `device`."""
    return SCORING_TOKENS if device.type == "cpu" else SCORING_TOKENS_ON_DEVICE


class _Batches(Dataset[Batch]):
    """Batches as a data loader takes them."""

    def __init__(self, batches: Sequence[Batch]) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        return self.batches[index]


def scoring_loader(tokenized: TokenizedSplit, device: torch.device) -> DataLoader[Batch]:
    """The split's evaluation batches as a loader for Lightning, sized for the device."""
    batches = _Batches(evaluation_batches(tokenized, scoring_tokens(device)))
    return DataLoader(batches, batch_size=None)


def group_by_length(items: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Items in groups of similar length, longest first.

    Args:
        items: numbers of the items.
        lengths: length by item number, in tokens.
        tokens: the most that a group may have once padded; an item longer than that is alone.
    """
    groups: list[list[int]] = []
    longest = 0  # of the last group, whose first item is its longest
    for item in sorted(items, key=lambda i: -lengths[i]):
        if groups and longest * (len(groups[-1]) + 1) <= tokens:
            groups[-1].append(item)
        else:
            groups.append([item])
            longest = lengths[item]
    return groups


def padded(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Rows of ids as one tensor (m, longest), filled up at the end with `filler`."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*row, *[filler] * (width - len(row))] for row in rows])
