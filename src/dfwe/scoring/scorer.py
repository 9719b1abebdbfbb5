"""The one way from weights to scores: validation, search and test all come through here.

`Scorer.predict` answers one batch, `Scorer.reduce` scores the examples that were answered; a
Lightning step and a worker process use these two halves, a call does both on the whole split.
"""

from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import torch

from dfwe.data.batches import Batch, evaluation_batches, scoring_tokens
from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit
from dfwe.scoring.decoding import Decoding
from dfwe.scoring.lists import integers
from dfwe.scoring.workers import Workers
from dfwe.search.evaluation import Alpha, Answers
from dfwe.tasks.task import Task
from dfwe.weights.space import WeightSpace

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class Scores:
    """A model's result on a split.

    Args:
        score: the mean of the metrics, in points.
        metrics: name -> points.
        log_likelihood: the mean over examples of log p(gold answer | source), in nats.
        answers: what the scores rest on, in the order of the examples.
    """

    score: float
    metrics: dict[str, float]
    log_likelihood: float
    answers: Answers

    @property
    def texts(self) -> tuple[str, ...]:
        return self.answers.texts

    def subset(
        self, positions: Sequence[int], examples: Sequence[Example], task: Task
    ) -> "Scores":
        """The same answers, scored on some of the split's examples alone.

        Args:
            positions: of the examples in the split.
            examples: all of the split's.
            task: what measures them.
        """
        return scores_of(self.answers.subset(positions), [examples[i] for i in positions], task)


@dataclass(frozen=True)
class Predictions:
    """A model's answers to some examples.

    Args:
        index: the examples' positions in the split.
        answers: to them, in the order of `index`.
    """

    index: tuple[int, ...]
    answers: Answers

    @classmethod
    def join(cls, parts: Iterable["Predictions"]) -> "Predictions":
        """The predictions of several batches, one behind the other."""
        rows = list(parts)
        return cls(
            tuple(i for part in rows for i in part.index),
            Answers.join([part.answers for part in rows]),
        )

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Predictions":
        """Themselves: Lightning moves what a predict step returns, and these are no tensors."""
        return self


class Scorer:
    """Scores a model, or theta(alpha) of a weight space, on a tokenised split.

    Used in a `with` where it has several workers: they start after the space is mapped, and end
    with it. Every alpha of the space is scored once.

    Args:
        model: a transformers model on its device, which theta(alpha) is written into.
        split: what is scored.
        task: how answers are read and measured.
        decoding: how answers are read off the model.
        space: whose alphas are scored; None scores the model as it is.
        workers: processes of one thread each that share the split, on a CPU.
        precisions: "fp32", and "bf16" for a copy of the model that screens.
    """

    def __init__(
        self,
        model: "PreTrainedModel",
        split: TokenizedSplit,
        task: Task,
        decoding: Decoding,
        *,
        space: WeightSpace | None = None,
        workers: int = 1,
        precisions: Sequence[str] = ("fp32",),
    ) -> None:
        self.models = {"fp32": model}
        if "bf16" in precisions:
            self.models["bf16"] = deepcopy(model).bfloat16()
        self.split = split
        self.task = task
        self.decoding = decoding
        self.space = space
        self._workers = Workers(self._predict_part, workers)
        self._scores: dict[tuple[bytes, str], Scores] = {}

    def __enter__(self) -> Self:
        self._workers.start(self._batches())
        return self

    def __exit__(self, *unused: object) -> None:
        self._workers.stop()

    def predict(self, batch: Batch, precision: str = "fp32") -> Predictions:
        """Answers and gold log-likelihoods of one batch, by the weights that the model holds.

        What a GPU has no memory for is halved.
        """
        model = self.models[precision]
        training = model.training
        model.eval()
        try:
            # In float32 whatever training does: the search scores the same weights the same way.
            with torch.inference_mode(), torch.autocast(batch.source.device.type, enabled=False):
                return self._halved(model, batch)
        finally:
            model.train(training)

    def reduce(self, predictions: Iterable[Predictions]) -> Scores:
        """Scores of the examples that were predicted, each once: all, but in a shortened run.

        Answers are put in the split's order, so that batching does not show in the last digits
        of a sum.
        """
        rows = Predictions.join(predictions)
        assert len(set(rows.index)) == len(rows.index)
        order = sorted(range(len(rows.index)), key=rows.index.__getitem__)
        examples = [self.split.examples[rows.index[i]] for i in order]
        return scores_of(rows.answers.subset(order), examples, self.task)

    def __call__(self, alpha: Alpha | None = None, precision: str = "fp32") -> Scores:
        """Scores of theta(alpha); of the model as it is where there is no space.

        Raises:
            UserError: a worker process has ended.
        """
        if alpha is None:
            return self._measure(None, precision)
        key = alpha.tobytes(), precision
        if key not in self._scores:
            self._scores[key] = self._measure(alpha, precision)
        return self._scores[key]

    def _measure(self, alpha: Alpha | None, precision: str) -> Scores:
        if not self._workers.started:  # without a `with`: this process alone
            parts = self._predict_part(self._batches(), alpha, precision)
        else:
            parts = self._workers(alpha, precision)
        scores = self.reduce(parts)
        assert len(scores.texts) == len(self.split)
        return scores

    def _predict_part(
        self, batches: Sequence[Batch], alpha: Alpha | None, precision: str
    ) -> list[Predictions]:
        if alpha is not None:
            assert self.space is not None
            self.space.write(alpha, self.models[precision])
        device = next(self.models[precision].parameters()).device
        return [self.predict(batch.to(device), precision) for batch in batches]

    def _halved(self, model: "PreTrainedModel", batch: Batch) -> Predictions:
        try:
            answers = self.decoding(model, batch, self.split, self.task.max_new_tokens)
            return Predictions(tuple(integers(batch.index)), answers)
        except torch.OutOfMemoryError:
            if len(batch.index) == 1:
                raise
        # Only now has the error released what the failed pass used.
        return Predictions.join(self._halved(model, half) for half in batch.halves())

    def _batches(self) -> Sequence[Batch]:
        device = next(self.models["fp32"].parameters()).device
        return evaluation_batches(self.split, scoring_tokens(device))


def scores_of(answers: Answers, examples: Sequence[Example], task: Task) -> Scores:
    """The scores that answers to these examples come to."""
    metrics = task.score(answers.texts, examples)
    score = metrics.pop("score")
    likelihoods = answers.log_likelihoods
    return Scores(score, metrics, sum(likelihoods) / len(likelihoods), answers)
