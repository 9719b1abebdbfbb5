"""T5's decoder for scoring: transformers' weights, caches laid out once, few small operations.

The sources' keys and values are computed for real tokens alone, once a batch; every later pass
reads them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dfwe.scoring.backends.t5_network import Attention, Decoder


@dataclass
class EncoderCache:
    """What the decoder attends to of a batch's sources.

    Args:
        cross: (layers, 2, m, heads, s, dk), keys and values; 0 where there is no token.
        bias: (m, 1, 1, s), what is added to the scores: -inf where there is no token.
    """

    cross: Tensor
    bias: Tensor

    def __len__(self) -> int:
        return self.cross.shape[2]

    def rows(self, kept: Tensor) -> "EncoderCache":
        """The cache of some of the sources."""
        return EncoderCache(self.cross[:, :, kept], self.bias[kept])


def cross_attention_cache(decoder: Decoder, states: Tensor, mask: Tensor) -> EncoderCache:
    """Keys and values of the encoder's states (m, s, d) in every layer; mask (m, s)."""
    row, column = mask.nonzero(as_tuple=True)
    tokens = states[row, column]  # (tokens, d)
    m, s = mask.shape
    cross = states.new_zeros(len(decoder.block), 2, m, *_heads(decoder, s))
    for block, place in zip(decoder.block, cross, strict=True):
        attention = block.layer[1].EncDecAttention
        for project, part in zip((attention.k, attention.v), place, strict=True):
            part[row, :, column] = project(tokens).view(-1, part.shape[1], part.shape[3])
    bias = torch.zeros_like(mask, dtype=states.dtype).masked_fill(mask == 0, -torch.inf)
    return EncoderCache(cross, bias[:, None, None])


def empty_cache(decoder: Decoder, encoder_cache: EncoderCache, longest: int) -> Tensor:
    """Room for keys and values of target tokens, (layers, 2, m, heads, longest, dk)."""
    layers, two, m = encoder_cache.cross.shape[:3]
    return encoder_cache.cross.new_empty(layers, two, m, *_heads(decoder, longest))


def position_bias(decoder: Decoder, length: int) -> Tensor:
    """(1, heads, length, length): what relative positions add to the scores."""
    return decoder.block[0].layer[0].SelfAttention.compute_bias(length, length)


def decode(
    decoder: Decoder,
    ids: Tensor,
    bias: Tensor,
    encoder_cache: EncoderCache,
    cache: Tensor,
    filled: int = 0,
) -> Tensor:
    """States (m, t, d) of the target tokens `ids` (m, t); puts their keys and values in `cache`.

    Args:
        bias: (m or 1, heads, t, filled + t), what is added to the self-attention's scores.
        cache: from `empty_cache`.
        filled: how many tokens earlier passes have put into `cache`.
    """
    stop = filled + ids.shape[1]
    hidden = decoder.embed_tokens(ids)
    for block, pair, cross in zip(decoder.block, cache, encoder_cache.cross, strict=True):
        around, across, feed_forward = block.layer
        attention, normed = around.SelfAttention, around.layer_norm(hidden)
        pair[0, :, :, filled:stop] = _split(attention.k(normed), pair)
        pair[1, :, :, filled:stop] = _split(attention.v(normed), pair)
        hidden = hidden + _attend(attention, normed, pair[:, :, :, :stop], bias)
        normed = across.layer_norm(hidden)
        hidden = hidden + _attend(across.EncDecAttention, normed, cross, encoder_cache.bias)
        hidden = feed_forward(hidden)
    return decoder.final_layer_norm(hidden)


def _attend(attention: Attention, normed: Tensor, pair: Tensor, bias: Tensor) -> Tensor:
    """What the tokens (m, t, d) take from keys and values `pair` (2, m, heads, s, dk)."""
    query, (key, value) = _split(attention.q(normed), pair), pair
    read = scaled_dot_product_attention(query, key, value, attn_mask=bias, scale=1.0)
    return attention.o(read.transpose(1, 2).flatten(2))


def _split(projected: Tensor, pair: Tensor) -> Tensor:
    """(m, t, heads dk) -> (m, heads, t, dk)."""
    return torch.unflatten(projected, 2, (pair.shape[2], pair.shape[4])).transpose(1, 2)


def _heads(decoder: Decoder, length: int) -> tuple[int, int, int]:
    attention = decoder.block[0].layer[0].SelfAttention
    return attention.n_heads, length, attention.key_value_proj_dim
