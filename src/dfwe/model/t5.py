"""The passes through a T5 that scoring and training need, on transformers' own modules."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from dfwe.model.batches import IGNORED, Batch


def encode_source(network: Any, batch: Batch) -> Tensor:
    """Encoder states (m, s, d)."""
    return network.encoder(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state


def token_losses(network: Any, states: Tensor, mask: Tensor, target: Tensor) -> Tensor:
    """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
    hidden = network.decoder(
        input_ids=_shifted(network, target), encoder_hidden_states=states,
        encoder_attention_mask=mask, use_cache=False,
    ).last_hidden_state  # fmt: skip
    scores = _head(network, hidden).float()  # (m, t, vocabulary)
    return cross_entropy(
        scores.flatten(0, 1), target.flatten(), ignore_index=IGNORED, reduction="none"
    ).view_as(target)


def target_loglik(network: Any, states: Tensor, batch: Batch) -> Tensor:
    """log p(target | source), summed over tokens (m,)."""
    return -token_losses(network, states, batch.mask, batch.target).sum(1)


def greedy(network: Any, states: Tensor, mask: Tensor, max_new_tokens: int) -> list[list[int]]:
    """Greedy answers, end and start tokens left out. Finished rows leave the batch."""
    config = network.config
    rows = states.shape[0]
    answers: list[list[int]] = [[] for _ in range(rows)]
    alive = torch.arange(rows, device=states.device)
    token = torch.full((rows, 1), config.decoder_start_token_id, device=states.device)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    for _ in range(max_new_tokens):
        hidden = network.decoder(
            input_ids=token, encoder_hidden_states=states, encoder_attention_mask=mask,
            past_key_values=cache, use_cache=True,
        ).last_hidden_state  # fmt: skip
        token = _head(network, hidden[:, -1:]).argmax(-1)  # (rows alive, 1)
        going = token[:, 0] != config.eos_token_id
        for row, chosen in zip(alive.tolist(), token[:, 0].tolist(), strict=True):
            if chosen != config.eos_token_id:
                answers[row].append(chosen)
        if not going.all():
            alive, token, states, mask = (part[going] for part in (alive, token, states, mask))
            if len(alive) == 0:
                break
            cache.batch_select_indices(going.nonzero()[:, 0])
    return answers


def option_logliks(
    network: Any, states: Tensor, mask: Tensor, options: Sequence[Sequence[Sequence[int]]]
) -> Tensor:
    """log p(option | source) of every option, (m, k); -inf where an example has fewer.

    An example's options stand one behind the other in one decoder pass and see only themselves;
    T5's relative positions make this exact.
    """
    m, k = len(options), max(len(row) for row in options)
    width = max(sum(len(option) for option in row) for row in options)
    target = torch.full((m, width), IGNORED)
    owner = torch.full((m, width), -1)  # which option a position belongs to
    inputs = torch.full((m, width), network.config.pad_token_id)
    for i, row in enumerate(options):
        at = 0
        for j, option in enumerate(row):
            stop = at + len(option)
            target[i, at:stop] = torch.tensor(option)
            inputs[i, at:stop] = torch.tensor(
                [network.config.decoder_start_token_id, *option[:-1]]
            )
            owner[i, at:stop] = j
            at = stop
    device = states.device
    target, inputs, owner = target.to(device), inputs.to(device), owner.to(device)
    same = owner[:, :, None] == owner[:, None, :]
    causal = torch.ones(width, width, dtype=torch.bool, device=device).tril()
    hidden = network.decoder(
        input_ids=inputs, attention_mask=(same & causal)[:, None], encoder_hidden_states=states,
        encoder_attention_mask=mask, use_cache=False,
    ).last_hidden_state  # fmt: skip
    logp = log_softmax(_head(network, hidden).float(), -1)
    chosen = logp.gather(-1, target.clamp(min=0)[..., None])[..., 0]  # (m, width)
    columns = torch.zeros(m, k + 1, device=device)  # the last column gathers the padding
    columns.scatter_add_(1, owner % (k + 1), chosen)
    present = torch.tensor([[j < len(row) for j in range(k)] for row in options], device=device)
    return columns[:, :k].masked_fill(~present, -torch.inf)


def _head(network: Any, hidden: Tensor) -> Tensor:
    if network.config.scale_decoder_outputs:  # T5 1.0 scales before its tied head; Flan does not
        hidden = hidden * network.config.d_model**-0.5
    return network.lm_head(hidden)


def _shifted(network: Any, target: Tensor) -> Tensor:
    """Decoder inputs: the start token, then the target without its last token."""
    start = torch.full_like(target[:, :1], network.config.decoder_start_token_id)
    inputs = torch.cat([start, target[:, :-1]], 1)
    return inputs.masked_fill(inputs == IGNORED, network.config.pad_token_id)
