"""The backend for any model that generates, by transformers' forward and `generate`.

It serves BART and its like, and causal language models.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dfwe.data.batches import IGNORED, Batch, padded
from dfwe.scoring.lists import integers
from dfwe.weights.generation import Generation, generate, generation_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

POSITIONS = 4096  # of which the vocabulary is scored at a time: bounds memory

Ids = Sequence[int]


def encode(network: "PreTrainedModel", batch: Batch) -> "Sources":
    """The sources of a batch, as the network reads them."""
    return Sources(network, batch.source, batch.mask)


def token_losses(network: "PreTrainedModel", batch: Batch) -> Tensor:
    """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
    return _losses(network, batch.source, batch.mask, batch.target)


@dataclass(frozen=True)
class Sources:
    """The m sources of a batch: source (m, s) token ids, mask (m, s)."""

    network: "PreTrainedModel"
    source: Tensor
    mask: Tensor

    def log_likelihoods(self, texts: Sequence[Sequence[Ids]]) -> Tensor:
        """log p(text | source) of each row's texts, end tokens included, (m, k)."""
        device, forced = self.source.device, _forced(self.network)
        owner = torch.tensor([i for i, row in enumerate(texts) for _ in row], device=device)
        place = torch.tensor([j for row in texts for j in range(len(row))], device=device)
        target = padded([[*forced, *ids] for row in texts for ids in row], IGNORED).to(device)
        rows = max(1, POSITIONS // (self.source.shape[1] + target.shape[1]))
        parts = zip(torch.split(owner, rows), torch.split(target, rows), strict=True)
        summed = [
            -_losses(self.network, self.source[i], self.mask[i], part)[:, len(forced) :].sum(1)
            for i, part in parts
        ]
        empty = torch.full((len(texts), max(map(len, texts))), -torch.inf, device=device)  # (m, k)
        return empty.index_put((owner, place), torch.cat(summed))

    def greedy(self, max_new_tokens: int, tokenizer: object) -> list[list[int]]:
        """Greedy answers: transformers' `generate` with one beam, each as if it were alone."""
        network, settings = self.network, generation_of(self.network)
        answers: list[list[int]] = [[]] * len(self.source)
        for rows in self._together(settings):
            source, mask = self.source[rows], self.mask[rows]
            width = int(mask.sum(1).max())
            source, mask = source[:, :width], mask[:, :width]
            if not network.config.is_encoder_decoder:  # what is generated stands behind it
                places = torch.arange(width, device=mask.device)
                shift = (mask.sum(1, keepdim=True) + places) % width
                source, mask = source.gather(1, shift), mask.gather(1, shift)
            ids = generate(network, source, mask, max_new_tokens, tokenizer)
            for row, answer in zip(rows, map(integers, ids), strict=True):
                answers[row] = cut(answer, settings.ends)
        return answers

    def _together(self, settings: Generation) -> list[list[int]]:
        """Rows that are generated in one batch: those whose padding no setting can read."""
        lengths = integers(self.mask.sum(1))
        padded = not self.network.config.is_encoder_decoder or settings.reads_source
        if settings.reads_text:
            return [[row] for row in range(len(lengths))]
        if not (padded and settings.changes):
            return [list(range(len(lengths)))]
        return [
            [row for row, length in enumerate(lengths) if length == width]
            for width in sorted(set(lengths))
        ]


def cut(ids: Sequence[int], ends: Collection[int]) -> list[int]:
    """What stands before the first end, which is kept: not every end is a special token."""
    first = next((place for place, token in enumerate(ids) if token in ends), len(ids))
    return list(ids[: first + 1])


def _losses(network: "PreTrainedModel", source: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """-log p of each token of target (m, t), which is padded with IGNORED: 0 there."""
    config = network.config
    if config.is_encoder_decoder:
        start = torch.full_like(target[:, :1], config.decoder_start_token_id)
        inputs = torch.cat([start, target[:, :-1]], 1)
        logits = network(
            input_ids=source,
            attention_mask=mask,
            use_cache=False,
            decoder_input_ids=inputs.masked_fill(inputs == IGNORED, config.pad_token_id),
        ).logits
    else:  # the target follows its source at once; what is padded comes last
        real, lengths = target != IGNORED, mask.sum(1, keepdim=True)
        whole = torch.cat([source, target.masked_fill(~real, 0)], 1)
        present = torch.cat([mask, real.long()], 1)
        order = present.argsort(dim=1, descending=True, stable=True)
        whole, present = whole.gather(1, order), present.gather(1, order)
        logits = network(input_ids=whole, attention_mask=present, use_cache=False).logits
        before = lengths - 1 + torch.arange(target.shape[1], device=target.device)  # (m, t)
        logits = logits[torch.arange(len(target), device=target.device)[:, None], before]
    return cross_entropy(
        logits.float().transpose(1, 2), target, reduction="none", ignore_index=IGNORED
    )


def _forced(network: "PreTrainedModel") -> list[int]:
    """The token that the model opens every answer with (BART's), where there is one."""
    forced = getattr(network.generation_config, "forced_bos_token_id", None)
    return [] if forced is None or not network.config.is_encoder_decoder else [forced]
