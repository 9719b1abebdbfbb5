"""From a batch to answers: greedy generation, or the exact likelihood of every option.

A decoding gives, for each example, the ids of its answer and the gold target's log-likelihood
(summed over tokens, end token included), which breaks ties between equal scores.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from dfwe.model.encode import Encoded

if TYPE_CHECKING:
    from torch import Tensor

    from dfwe.model.batches import Batch


class Decoding(Protocol):
    """How answers are read off a sequence-to-sequence model; deterministic."""

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> tuple[list[list[int]], "Tensor"]:
        """Answers (m lists of ids, without special tokens at the end) and log-likelihoods (m,)."""
        ...

    def settings(self) -> dict[str, Any]: ...


@dataclass(frozen=True)
class Greedy:
    """The most likely token at each step: transformers' `generate` with one beam."""

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> tuple[list[list[int]], "Tensor"]:
        from dfwe.model.t5 import encode_source, greedy, target_loglik

        states = encode_source(network, batch)
        answers = greedy(network, states, batch.mask, max_new_tokens)
        return answers, target_loglik(network, states, batch)

    def settings(self) -> dict[str, Any]:
        return {"name": "greedy"}


@dataclass(frozen=True)
class Likelihood:
    """The option with the highest log p(option | source), end token included; ties to the first.

    Examples without options are answered greedily.
    """

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> tuple[list[list[int]], "Tensor"]:
        from dfwe.model.t5 import encode_source, greedy, option_logliks, target_loglik

        options = [encoded.options[i] for i in batch.index.tolist()]
        states = encode_source(network, batch)
        if not all(options):
            answers = greedy(network, states, batch.mask, max_new_tokens)
        else:
            logliks = option_logliks(network, states, batch.mask, options)
            answers = [
                list(o[k]) for o, k in zip(options, logliks.argmax(1).tolist(), strict=True)
            ]
        return answers, target_loglik(network, states, batch)

    def settings(self) -> dict[str, Any]:
        return {"name": "likelihood"}
