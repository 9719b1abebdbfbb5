"""Backends: the forward passes that scoring and training need, for one architecture each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from dfwe.data.batches import Batch


class Sources(Protocol):
    """The m sources of a batch, encoded once."""

    def log_likelihoods(self, texts: Sequence[Sequence[Sequence[int]]]) -> "Tensor":
        """log p(text | source) of each row's texts, end tokens included, (m, k); -inf where fewer.

        Args:
            texts: (m, up to k, tokens), token ids.
        """
        ...

    def greedy(self, max_new_tokens: int, tokenizer: object) -> list[list[int]]:
        """Greedy answers as token ids, each up to its end: transformers' `generate` with one beam.

        Args:
            max_new_tokens: the most tokens of an answer, end included.
            tokenizer: the model's, for stop strings.
        """
        ...


class Backend(Protocol):
    """The functions of a backend's module."""

    def encode(self, network: "PreTrainedModel", batch: "Batch") -> Sources:
        """The sources of a batch, as the network reads them."""
        ...

    def token_losses(self, network: "PreTrainedModel", batch: "Batch") -> "Tensor":
        """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
        ...
