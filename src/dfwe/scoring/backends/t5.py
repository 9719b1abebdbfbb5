"""The backend for T5 and its like, on transformers' weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dfwe.data.batches import IGNORED, Batch, padded
from dfwe.scoring.backends.t5_decoder import (
    EncoderCache,
    cross_attention_cache,
    decode,
    empty_cache,
    position_bias,
)
from dfwe.scoring.backends.t5_encoder import encode_packed
from dfwe.scoring.lists import integers

KINDS = ("t5", "mt5")  # transformers' model types of this architecture
POSITIONS = 512  # of which the head scores the vocabulary at a time: bounds its memory

Ids = Sequence[int]


def encoder_states(network: Any, batch: Batch) -> Tensor:
    """The sources after the encoder, (m, s, d).

    When a CPU scores, padding is left out; a GPU would wait for the many small launches.
    """
    scoring = not (torch.is_grad_enabled() or network.training)
    if scoring and batch.source.device.type == "cpu":
        return encode_packed(network.encoder, batch.source, batch.mask)
    return network.encoder(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state


def encode_sources(network: Any, batch: Batch) -> EncoderCache:
    """What `log_likelihoods` and `greedy` need of a batch's sources."""
    return cross_attention_cache(network.decoder, encoder_states(network, batch), batch.mask)


def token_losses(network: Any, batch: Batch) -> Tensor:
    """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
    states = encoder_states(network, batch)
    target = batch.target
    start = torch.full_like(target[:, :1], network.config.decoder_start_token_id)
    inputs = torch.cat([start, target[:, :-1]], 1)
    hidden = network.decoder(
        input_ids=inputs.masked_fill(inputs == IGNORED, network.config.pad_token_id),
        encoder_hidden_states=states,
        encoder_attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    real = target != IGNORED
    scores = _head(network, hidden[real]).float()  # (tokens, vocabulary)
    losses = cross_entropy(scores, target[real], reduction="none")
    return torch.zeros(target.shape, device=target.device).masked_scatter(real, losses)


def log_likelihoods(
    network: Any, encoder_cache: EncoderCache, texts: Sequence[Sequence[Ids]]
) -> Tensor:
    """log p(text | source) of each row's texts, end tokens included, (m, k); -inf where fewer.

    A row's texts stand one behind the other in one decoder pass, and no text attends to another;
    T5's positions are relative, which makes this exact.
    """
    device, k = encoder_cache.cross.device, max(map(len, texts))
    start = network.config.decoder_start_token_id
    inputs = padded([[t for ids in row for t in (start, *ids[:-1])] for row in texts], start)
    target = padded([[t for ids in row for t in ids] for row in texts], IGNORED).to(device)
    owner = padded([[j for j, ids in enumerate(row) for _ in ids] for row in texts], k).to(device)
    visible = (owner[:, :, None] == owner[:, None, :]).tril()[:, None]  # (m, 1, width, width)
    width = visible.shape[-1]
    bias = position_bias(network.decoder, width).masked_fill(~visible, -torch.inf)
    cache = empty_cache(network.decoder, encoder_cache, width)
    hidden = decode(network.decoder, inputs.to(device), bias, encoder_cache, cache)
    real = target != IGNORED
    states, tokens = torch.split(hidden[real], POSITIONS), torch.split(target[real], POSITIONS)
    pairs = zip(states, tokens, strict=True)
    losses = torch.cat(
        [cross_entropy(_head(network, h).float(), t, reduction="none") for h, t in pairs]
    )
    summed = torch.zeros(len(texts), k, device=device)  # (m, k)
    summed.index_put_((real.nonzero()[:, 0], owner[real]), -losses, accumulate=True)
    present = torch.arange(k)[None] < torch.tensor([len(row) for row in texts])[:, None]
    return summed.masked_fill(~present.to(device), -torch.inf)


def greedy(network: Any, encoder_cache: EncoderCache, max_new_tokens: int) -> list[list[int]]:
    """Greedy answers, end tokens left out: transformers' `generate` with one beam.

    Once half of the rows are finished, they leave the batch and its cache.
    """
    config, decoder, device = network.config, network.decoder, encoder_cache.cross.device
    answers: list[list[int]] = [[] for _ in range(len(encoder_cache))]
    finished: set[int] = set()
    rows = list(range(len(answers)))  # whose answer a row of the batch is
    token = torch.full((len(rows), 1), config.decoder_start_token_id, device=device)
    bias = position_bias(decoder, max_new_tokens)
    cache = empty_cache(decoder, encoder_cache, max_new_tokens)
    for step in range(max_new_tokens):
        around = bias[:, :, step : step + 1, : step + 1]
        hidden = decode(decoder, token, around, encoder_cache, cache, step)
        token = _head(network, hidden).argmax(-1)  # (rows, 1)
        for row, chosen in zip(rows, integers(token[:, 0]), strict=True):
            if chosen == config.eos_token_id:
                finished.add(row)
            elif row not in finished:
                answers[row].append(chosen)
        going = [k for k, row in enumerate(rows) if row not in finished]
        if not going:
            break
        if 2 * len(going) <= len(rows):
            kept = torch.tensor(going, device=device)
            token, encoder_cache, cache = token[kept], encoder_cache.rows(kept), cache[:, :, kept]
            rows = [rows[k] for k in going]
    return answers


def _head(network: Any, hidden: Tensor) -> Tensor:
    # T5 1.0 scales before its tied head; Flan does not, and mT5 has no such setting.
    if getattr(network.config, "scale_decoder_outputs", False):
        hidden = hidden * network.config.d_model**-0.5
    return network.lm_head(hidden)
