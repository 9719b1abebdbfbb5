"""Backends: the forward passes that scoring and training need, for one architecture each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from dfwe.data.batches import Batch


class Backend(Protocol):
    """The functions of a backend's module; m is the number of the batch's examples."""

    def encode_sources(self, network: Any, batch: "Batch") -> Any:
        """What `log_likelihoods` and `greedy` need of a batch's sources."""
        ...

    def token_losses(self, network: Any, batch: "Batch") -> "Tensor":
        """-log p of each target token under teacher forcing (m, t); 0 where there is none."""
        ...

    def log_likelihoods(
        self, network: Any, encoder_cache: Any, texts: Sequence[Sequence[Sequence[int]]]
    ) -> "Tensor":
        """log p(text | source) of each row's texts, end tokens included, (m, k); -inf where fewer.

        Args:
            network: a transformers model.
            encoder_cache: from `encode_sources`.
            texts: (m, up to k, tokens), token ids.
        """
        ...

    def greedy(self, network: Any, encoder_cache: Any, max_new_tokens: int) -> list[list[int]]:
        """Greedy answers as token ids: transformers' `generate` with one beam."""
        ...
