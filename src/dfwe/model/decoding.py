"""From a batch to answers: greedy generation, the exact likelihood of every option, or a head.

A decoding gives, for each example, its answer and the gold target's log-likelihood (summed over
tokens, end token included), which breaks ties between equal scores. It is the one place of scoring
that knows the network's family.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from dfwe.model.encode import Encoded

if TYPE_CHECKING:
    from dfwe.model.batches import Batch

Answers = tuple[list[str], list[float]]


class Decoding(Protocol):
    """How answers are read off a network; deterministic."""

    families: ClassVar[tuple[str, ...]]  # of models that can be read so

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> Answers:
        """Answers and the gold targets' log-likelihoods, one of each for every row."""
        ...

    def settings(self) -> dict[str, Any]: ...


def passes_of(network: Any) -> Any:
    """The module whose passes fit the network: T5's own, or transformers' for all others."""
    from dfwe.model import plain, t5

    return t5 if network.config.model_type in t5.KINDS else plain


@dataclass(frozen=True)
class Greedy:
    """The most likely token at each step: transformers' `generate` with one beam."""

    families: ClassVar[tuple[str, ...]] = ("seq2seq", "causal")

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> Answers:
        passes = passes_of(network)
        memory = passes.memory_of(network, batch)
        targets = [[encoded.targets[i]] for i in batch.index.tolist()]
        gold = passes.logliks(network, memory, targets)[:, 0]
        answers = passes.greedy(network, memory, max_new_tokens)
        return encoded.tokenizer.batch_decode(answers, skip_special_tokens=True), gold.tolist()

    def settings(self) -> dict[str, Any]:
        return {"name": "greedy"}


@dataclass(frozen=True)
class Likelihood:
    """The option with the highest log p(option | source), end token included.

    Never an invalid answer. A batch with a free-text example is answered greedily.
    """

    families: ClassVar[tuple[str, ...]] = ("seq2seq", "causal")

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> Answers:
        index = batch.index.tolist()
        if not all(encoded.options[i] for i in index):
            return Greedy()(network, batch, encoded, max_new_tokens)
        passes = passes_of(network)
        memory = passes.memory_of(network, batch)
        texts = [[encoded.targets[i], *encoded.options[i]] for i in index]
        found = passes.logliks(
            network, memory, texts
        )  # (m, 1 + k): the gold target, then the options
        best = found[:, 1:].argmax(1).tolist()
        answers = [encoded.examples[i].options[k] for i, k in zip(index, best, strict=True)]
        return answers, found[:, 0].tolist()

    def settings(self) -> dict[str, Any]:
        return {"name": "likelihood"}


@dataclass(frozen=True)
class Classify:
    """The label that an encoder's head finds most likely.

    Of a multi-label task every label that is more likely than not, and at least the likeliest.
    """

    families: ClassVar[tuple[str, ...]] = ("encoder",)

    def __call__(
        self, network: Any, batch: "Batch", encoded: Encoded, max_new_tokens: int
    ) -> Answers:
        from dfwe.model.classifier import label_losses

        logits = network(input_ids=batch.source, attention_mask=batch.mask).logits  # (m, k)
        gold = -label_losses(logits, batch.target).sum(1)
        best = logits.argmax(1, keepdim=True)
        said = best.new_zeros(logits.shape).bool().scatter(1, best, True)
        if batch.target.shape[1] > 1:
            said |= logits > 0
        answers = [
            " and ".join(o for o, yes in zip(encoded.examples[i].options, row, strict=True) if yes)
            for i, row in zip(batch.index.tolist(), said.tolist(), strict=True)
        ]
        return answers, gold.tolist()

    def settings(self) -> dict[str, Any]:
        return {"name": "classify"}
