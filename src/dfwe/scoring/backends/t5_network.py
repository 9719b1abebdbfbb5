"""What is used of transformers' T5, whose modules have no types."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, cast

from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Map = Callable[[Tensor], Tensor]


class Attention(Protocol):
    n_heads: int
    key_value_proj_dim: int
    q: Map
    k: Map
    v: Map
    o: Map

    def compute_bias(self, query_length: int, key_length: int) -> Tensor: ...


class SelfAttentionLayer(Protocol):
    SelfAttention: Attention
    layer_norm: Map


class CrossAttentionLayer(Protocol):
    EncDecAttention: Attention
    layer_norm: Map


class EncoderBlock(Protocol):
    layer: tuple[SelfAttentionLayer, Map]


class DecoderBlock(Protocol):
    layer: tuple[SelfAttentionLayer, CrossAttentionLayer, Map]


class Output(Protocol):
    last_hidden_state: Tensor


class Encoder(Protocol):
    embed_tokens: Map
    block: Sequence[EncoderBlock]
    final_layer_norm: Map

    def __call__(self, *, input_ids: Tensor, attention_mask: Tensor) -> Output: ...


class Decoder(Protocol):
    embed_tokens: Map
    block: Sequence[DecoderBlock]
    final_layer_norm: Map

    def __call__(
        self,
        *,
        input_ids: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        use_cache: bool,
    ) -> Output: ...


class Config(Protocol):
    decoder_start_token_id: int
    pad_token_id: int
    d_model: int


class T5(Protocol):
    config: Config
    encoder: Encoder
    decoder: Decoder
    lm_head: Map
    training: bool


def as_t5(network: "PreTrainedModel") -> T5:
    """The network with the types of a T5."""
    return cast(T5, network)
