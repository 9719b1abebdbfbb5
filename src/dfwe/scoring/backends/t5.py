"""The backend for T5 and its like, on transformers' weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from dfwe.data.batches import IGNORED, Batch, padded
from dfwe.scoring.backends import generic
from dfwe.scoring.backends.t5_decoder import (
    EncoderCache,
    cross_attention_cache,
    decode,
    empty_cache,
    position_bias,
)
from dfwe.scoring.backends.t5_encoder import encode_packed
from dfwe.scoring.backends.t5_network import T5, as_t5
from dfwe.scoring.lists import integers
from dfwe.weights.generation import Generation, generation_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

KINDS = ("t5", "mt5")  # transformers' model types of this architecture
POSITIONS = 512  # of which the head scores the vocabulary at a time: bounds its memory

Ids = Sequence[int]


def encoder_states(network: T5, batch: Batch) -> Tensor:
    """The sources after the encoder, (m, s, d).

    When a CPU scores, padding is left out; a GPU would wait for the many small launches.
    """
    scoring = not (torch.is_grad_enabled() or network.training)
    if scoring and batch.source.device.type == "cpu":
        return encode_packed(network.encoder, batch.source, batch.mask)
    return network.encoder(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state


def encode(network: "PreTrainedModel", batch: Batch) -> "Sources":
    """The sources of a batch, as the network reads them."""
    t5, generation = as_t5(network), generation_of(network)
    cache = cross_attention_cache(t5.decoder, encoder_states(t5, batch), batch.mask)
    plain = generation.start is not None and not generation.changes
    return Sources(t5, cache, generation, None if plain else generic.encode(network, batch))


def token_losses(network: "PreTrainedModel", batch: Batch) -> Tensor:
    """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
    t5 = as_t5(network)
    states = encoder_states(t5, batch)
    target = batch.target
    start = torch.full_like(target[:, :1], t5.config.decoder_start_token_id)
    inputs = torch.cat([start, target[:, :-1]], 1)
    hidden = t5.decoder(
        input_ids=inputs.masked_fill(inputs == IGNORED, t5.config.pad_token_id),
        encoder_hidden_states=states,
        encoder_attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    real = target != IGNORED
    scores = _head(t5, hidden[real]).float()  # (tokens, vocabulary)
    losses = cross_entropy(scores, target[real], reduction="none")
    return torch.zeros(target.shape, device=target.device).masked_scatter(real, losses)


@dataclass(frozen=True)
class Sources:
    """The m sources of a batch after the encoder, as the decoder attends to them.

    Args:
        network: the model.
        cache: what its decoder attends to.
        generation: its generation settings.
        generating: the sources for `generate`, where the settings change which token is the best.
    """

    network: T5
    cache: EncoderCache
    generation: Generation
    generating: generic.Sources | None

    def log_likelihoods(self, texts: Sequence[Sequence[Ids]]) -> Tensor:
        """log p(text | source) of each row's texts, end tokens included, (m, k); -inf where fewer.

        A row's texts stand one behind the other in one decoder pass, and no text attends to
        another; T5's positions are relative, which makes this exact.
        """
        network, sources = self.network, self.cache
        device, k = sources.cross.device, max(map(len, texts))
        start = network.config.decoder_start_token_id
        inputs = padded([[t for ids in row for t in (start, *ids[:-1])] for row in texts], start)
        target = padded([[t for ids in row for t in ids] for row in texts], IGNORED).to(device)
        owners = [[j for j, ids in enumerate(row) for _ in ids] for row in texts]
        owner = padded(owners, k).to(device)
        visible = (owner[:, :, None] == owner[:, None, :]).tril()[:, None]  # (m, 1, width, width)
        width = visible.shape[-1]
        bias = position_bias(network.decoder, width).masked_fill(~visible, -torch.inf)
        cache = empty_cache(network.decoder, sources, width)
        hidden = decode(network.decoder, inputs.to(device), bias, sources, cache)
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

    def greedy(self, max_new_tokens: int, tokenizer: object) -> list[list[int]]:
        """Greedy answers: transformers' `generate` with one beam.

        Once half of the rows are finished, they leave the batch and its cache.
        """
        if self.generating is not None:
            return self.generating.greedy(max_new_tokens, tokenizer)
        network, sources = self.network, self.cache
        start, ends = self.generation.start, self.generation.ends
        assert start is not None
        decoder, device = network.decoder, sources.cross.device
        answers: list[list[int]] = [[] for _ in range(len(sources))]
        finished: set[int] = set()
        rows = list(range(len(answers)))  # whose answer a row of the batch is
        token = torch.full((len(rows), 1), start, device=device)
        bias = position_bias(decoder, max_new_tokens)
        cache = empty_cache(decoder, sources, max_new_tokens)
        for step in range(max_new_tokens):
            around = bias[:, :, step : step + 1, : step + 1]
            hidden = decode(decoder, token, around, sources, cache, step)
            token = _head(network, hidden).argmax(-1)  # (rows, 1)
            for row, chosen in zip(rows, integers(token[:, 0]), strict=True):
                if row not in finished:
                    answers[row].append(chosen)
                if chosen in ends:
                    finished.add(row)
            going = [k for k, row in enumerate(rows) if row not in finished]
            if not going:
                break
            if 2 * len(going) <= len(rows):
                kept = torch.tensor(going, device=device)
                token, sources, cache = token[kept], sources.rows(kept), cache[:, :, kept]
                rows = [rows[k] for k in going]
        return answers


def _head(network: T5, hidden: Tensor) -> Tensor:
    # T5 1.0 scales before its tied head; Flan does not, and mT5 has no such setting.
    if getattr(network.config, "scale_decoder_outputs", False):
        hidden = hidden * network.config.d_model**-0.5
    return network.lm_head(hidden)
