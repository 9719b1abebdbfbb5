"""T5's encoder without padding, for scoring on a CPU: the same states, only real tokens computed.

Everything but attention looks at one token at a time, so it runs on the tokens of many sources
laid end to end; attention runs source by source and needs no mask.
"""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from dfwe.scoring.backends.t5_network import Encoder
from dfwe.scoring.lists import integers

TOKENS = 2048  # laid end to end at a time: more leave the cache


def encode_packed(encoder: Encoder, source: Tensor, mask: Tensor) -> Tensor:
    """States (m, s, d) of a transformers T5 encoder; 0 where there is no token. No dropout.

    Args:
        source: (m, s) token ids; mask: (m, s), 1 where there is one.
    """
    width = source.shape[1]
    # The first block's bias, which depends on distance alone, serves all blocks and sources.
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(width, width)
    rows = max(1, TOKENS // width)
    parts = zip(torch.split(source, rows), torch.split(mask, rows), strict=True)
    return torch.cat([_encode(encoder, ids, present, bias) for ids, present in parts])


def _encode(encoder: Encoder, source: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
    lengths, real = integers(mask.sum(1)), mask.bool()
    hidden = encoder.embed_tokens(source[real])  # (tokens, d)
    for block in encoder.block:
        around, feed_forward = block.layer
        attention, normed = around.SelfAttention, around.layer_norm(hidden)
        shape = (-1, attention.n_heads, attention.key_value_proj_dim)
        projected = (
            torch.split(project(normed).view(shape).transpose(0, 1), lengths, 1)  # (heads, t, dk)
            for project in (attention.q, attention.k, attention.v)
        )
        read = [
            scaled_dot_product_attention(
                q[None], k[None], v[None], attn_mask=bias[..., :length, :length], scale=1.0
            )[0]
            .transpose(0, 1)
            .flatten(1)
            for length, q, k, v in zip(lengths, *projected, strict=True)
        ]
        hidden = feed_forward(hidden + attention.o(torch.cat(read)))
    states = hidden.new_zeros(*source.shape, hidden.shape[-1])
    states[real] = encoder.final_layer_norm(hidden)
    return states
