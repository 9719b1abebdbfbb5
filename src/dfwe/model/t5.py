"""The passes through a T5 that scoring and training need, on transformers' own modules."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from dfwe.model.batches import IGNORED, Batch, padded
from dfwe.model.packed import encode_packed

POSITIONS = 512  # of which the head scores the vocabulary at a time: bounds its memory

Ids = Sequence[int]


@dataclass
class Memory:
    """What the decoder sees of a batch's sources.

    Args:
        states: (m, s, d) after the encoder; mask: (m, s).
        cross: keys and values of each decoder layer, kept by the first pass for the later ones.
    """

    states: Tensor
    mask: Tensor
    cross: DynamicCache


def encode_source(network: Any, batch: Batch) -> Memory:
    """The sources after the encoder.

    When a CPU scores, padding is left out; a GPU would wait for the many small launches.
    """
    scoring = not (torch.is_grad_enabled() or network.training)
    if scoring and batch.source.device.type == "cpu":
        states = encode_packed(network.encoder, batch.source, batch.mask)
    else:
        encoded = network.encoder(input_ids=batch.source, attention_mask=batch.mask)
        states = encoded.last_hidden_state
    return Memory(states, batch.mask, DynamicCache())


def token_losses(network: Any, batch: Batch) -> Tensor:
    """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
    memory = encode_source(network, batch)
    target = batch.target
    start = torch.full_like(target[:, :1], network.config.decoder_start_token_id)
    inputs = torch.cat([start, target[:, :-1]], 1)
    hidden = network.decoder(
        input_ids=inputs.masked_fill(inputs == IGNORED, network.config.pad_token_id),
        encoder_hidden_states=memory.states, encoder_attention_mask=memory.mask, use_cache=False,
    ).last_hidden_state  # fmt: skip
    real = target != IGNORED
    scores = _head(network, hidden[real]).float()  # (tokens, vocabulary)
    losses = cross_entropy(scores, target[real], reduction="none")
    return torch.zeros(target.shape, device=target.device).masked_scatter(real, losses)


def logliks(network: Any, memory: Memory, texts: Sequence[Sequence[Ids]]) -> Tensor:
    """log p(text | source) of each row's texts, end tokens included, (m, k); -inf where fewer.

    A row's texts stand one behind the other in one decoder pass and see only themselves; T5's
    positions are relative, which makes this exact.
    """
    device, k = memory.states.device, max(map(len, texts))
    start = network.config.decoder_start_token_id
    inputs = padded([[t for ids in row for t in (start, *ids[:-1])] for row in texts], start)
    target = padded([[t for ids in row for t in ids] for row in texts], IGNORED).to(device)
    owner = padded([[j for j, ids in enumerate(row) for _ in ids] for row in texts], k).to(device)
    same = owner[:, :, None] == owner[:, None, :]  # (m, width, width)
    hidden = network.decoder(
        input_ids=inputs.to(device), attention_mask=same.tril()[:, None],
        encoder_hidden_states=memory.states, encoder_attention_mask=memory.mask,
        past_key_values=EncoderDecoderCache(DynamicCache(), memory.cross), use_cache=True,
    ).last_hidden_state  # fmt: skip
    real = target != IGNORED
    pairs = zip(hidden[real].split(POSITIONS), target[real].split(POSITIONS), strict=True)
    losses = torch.cat(
        [cross_entropy(_head(network, h).float(), t, reduction="none") for h, t in pairs]
    )
    summed = torch.zeros(len(texts), k, device=device)  # (m, k)
    summed.index_put_((real.nonzero()[:, 0], owner[real]), -losses, accumulate=True)
    present = torch.arange(k)[None] < torch.tensor([len(row) for row in texts])[:, None]
    return summed.masked_fill(~present.to(device), -torch.inf)


def greedy(network: Any, memory: Memory, max_new_tokens: int) -> list[list[int]]:
    """Greedy answers, end tokens left out: transformers' `generate` with one beam.

    Uses `memory` up: once half of the rows are finished, they leave the batch and its cache.
    """
    config, states, mask = network.config, memory.states, memory.mask
    answers: list[list[int]] = [[] for _ in states]
    finished: set[int] = set()
    rows = list(range(len(answers)))  # whose answer a row of the batch is
    token = torch.full((len(rows), 1), config.decoder_start_token_id, device=states.device)
    cache = EncoderDecoderCache(DynamicCache(), memory.cross)
    for _ in range(max_new_tokens):
        hidden = network.decoder(
            input_ids=token, encoder_hidden_states=states, encoder_attention_mask=mask,
            past_key_values=cache, use_cache=True,
        ).last_hidden_state  # fmt: skip
        token = _head(network, hidden).argmax(-1)  # (rows, 1)
        for row, chosen in zip(rows, token[:, 0].tolist(), strict=True):
            if chosen == config.eos_token_id:
                finished.add(row)
            elif row not in finished:
                answers[row].append(chosen)
        going = [k for k, row in enumerate(rows) if row not in finished]
        if not going:
            break
        if 2 * len(going) <= len(rows):
            kept = torch.tensor(going, device=states.device)
            token, states, mask = token[kept], states[kept], mask[kept]
            cache.batch_select_indices(kept)
            rows = [rows[k] for k in going]
    return answers


def _head(network: Any, hidden: Tensor) -> Tensor:
    if network.config.scale_decoder_outputs:  # T5 1.0 scales before its tied head; Flan does not
        hidden = hidden * network.config.d_model**-0.5
    return network.lm_head(hidden)
