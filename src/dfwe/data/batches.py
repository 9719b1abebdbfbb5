"""Batches: length-sorted under a token budget for scoring, optimizer steps for training."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from dfwe.data.tokenization import TokenizedSplit

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
    tokenized: TokenizedSplit, index: Sequence[int], weights: Sequence[float], task: str = ""
) -> Batch:
    """The examples `index` of a split; `weights` (m,) are the weight of each one's tokens."""
    sources = [tokenized.sources[i] for i in index]
    targets = [tokenized.targets[i] for i in index]
    source = padded(sources, tokenized.tokenizer.pad_token_id)
    target = padded(targets, IGNORED)
    per_token = torch.tensor(weights, dtype=torch.float32)[:, None] * (target != IGNORED)
    lengths = torch.tensor([len(ids) for ids in sources])
    mask = (torch.arange(source.shape[1])[None] < lengths[:, None]).long()
    return Batch(torch.tensor(index), source, mask, target, per_token, task)


def evaluation_batches(tokenized: TokenizedSplit, tokens: int = SCORING_TOKENS) -> list[Batch]:
    """The whole split once, longest first, at most `tokens` padded source tokens a batch."""
    lengths = [len(ids) for ids in tokenized.sources]
    groups = _budgeted(range(len(tokenized)), lengths, tokens)
    return [collate(tokenized, group, [1.0] * len(group)) for group in groups]


def scoring_tokens(device: torch.device) -> int:
    """The token budget of `evaluation_batches` where a network scores."""
    return SCORING_TOKENS if device.type == "cpu" else SCORING_TOKENS_ON_DEVICE


def scoring_loader(tokenized: TokenizedSplit, device: torch.device) -> DataLoader:
    """The split's evaluation batches as Lightning wants them, sized for the device."""
    batches: Any = evaluation_batches(tokenized, scoring_tokens(device))
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
