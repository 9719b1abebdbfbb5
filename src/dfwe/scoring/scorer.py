"""The one scoring path: validation, search and test all come through here."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from dfwe.data.batches import Batch
from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit
from dfwe.scoring.decoding import Decoding
from dfwe.tasks.task import Task


@dataclass(frozen=True)
class Scores:
    """A model's result on a split.

    Args:
        score: the mean of the metrics, in points.
        metrics: name -> points.
        log_likelihood: the mean over examples of log p(target | source), in nats.
        texts: the answers, in the order of the examples.
        log_likelihoods: of each example, in that order.
    """

    score: float
    metrics: dict[str, float]
    log_likelihood: float
    texts: tuple[str, ...] = field(repr=False)
    log_likelihoods: tuple[float, ...] = field(repr=False)

    def among(self, chosen: Sequence[int], examples: Sequence[Example], task: Task) -> "Scores":
        """The same answers, scored on some of the split's examples alone.

        Args:
            chosen: their positions in the split.
            examples: all of the split's.
        """
        return _scores(
            [self.texts[i] for i in chosen],
            [self.log_likelihoods[i] for i in chosen],
            [examples[i] for i in chosen],
            task,
        )


@dataclass(frozen=True)
class Predictions:
    """A model's answers to one batch, by position in the split."""

    index: list[int]
    texts: list[str]
    log_likelihoods: list[float]


def predict(
    network: Any, batch: Batch, tokenized: TokenizedSplit, task: Task, decoding: Decoding
) -> list[Predictions]:
    """Answers and gold log-likelihoods of one batch; what a GPU has no memory for is halved."""
    try:
        texts, log_likelihoods = decoding(network, batch, tokenized, task.max_new_tokens)
        return [Predictions(batch.index.tolist(), texts, log_likelihoods)]
    except torch.OutOfMemoryError:
        if len(batch.index) == 1:
            raise
    # Only now has the error let go of what the failed pass held.
    return [
        found
        for half in batch.halves()
        for found in predict(network, half, tokenized, task, decoding)
    ]


def summarise(predictions: Sequence[Predictions], tokenized: TokenizedSplit, task: Task) -> Scores:
    """Scores of a split of which every example was predicted once."""
    texts = {i: t for part in predictions for i, t in zip(part.index, part.texts, strict=True)}
    assert len(texts) == len(tokenized) == sum(len(part.index) for part in predictions)
    log_likelihoods = {
        i: v for part in predictions for i, v in zip(part.index, part.log_likelihoods, strict=True)
    }
    # In the split's order, so that batching does not show in the last digits of a sum.
    ordered = range(len(tokenized))
    return _scores(
        [texts[i] for i in ordered],
        [log_likelihoods[i] for i in ordered],
        tokenized.examples,
        task,
    )


def _scores(
    texts: Sequence[str], log_likelihoods: Sequence[float], examples: Sequence[Example], task: Task
) -> Scores:
    metrics = task.score(texts, examples)
    score = metrics.pop("score")
    return Scores(
        score,
        metrics,
        sum(log_likelihoods) / len(log_likelihoods),
        tuple(texts),
        tuple(log_likelihoods),
    )


def predictions(
    network: Any,
    batches: Iterable[Batch],
    tokenized: TokenizedSplit,
    task: Task,
    decoding: Decoding,
) -> list[Predictions]:
    """What a network answers to batches; its training mode is left as it was."""
    training = network.training
    network.eval()
    found = []
    try:
        with torch.inference_mode():
            for batch in batches:
                found += predict(network, batch, tokenized, task, decoding)
    finally:
        network.train(training)
    return found


def evaluate(
    network: Any,
    batches: Iterable[Batch],
    tokenized: TokenizedSplit,
    task: Task,
    decoding: Decoding,
) -> Scores:
    """Score a network on a split."""
    found = predictions(network, batches, tokenized, task, decoding)
    return summarise(found, tokenized, task)
