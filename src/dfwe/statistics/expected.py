"""The expected score of answers that are drawn from their options, as a search predicts them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.search.loop import Objective
from dfwe.tasks.function_metric import FunctionMetric
from dfwe.tasks.metrics import Metric
from dfwe.tasks.task import Task

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ExpectedScore:
    """What options' log-likelihoods come to on a split (`dfwe.search.evaluation.OptionScore`).

    Args:
        task: what measures answers, by metrics with counts; each answer names one option.
        examples: of the split.
        objective: `score`, or `log_likelihood`, the gold answers' among the options.
    """

    task: Task
    examples: Sequence[Example]
    objective: Objective = "score"

    def chosen(self, texts: Sequence[str]) -> NDArray[np.intp]:
        """The number of the option that each answer names, (examples,); -1 for none."""
        answers, _ = self.task.read_answers(texts, self.examples)
        return np.array(answers, dtype=np.intp)

    def smoothed(self, logits: Floats, temperature: float) -> Floats:
        """The points of the expected counts, metric by metric, or the mean log-likelihood.

        Args:
            logits: (c, examples, options); -inf where an example has fewer options.
            temperature: what they are divided by where answers are drawn.

        Returns:
            (c,), in points or nats.
        """
        if self.objective == "log_likelihood":
            return self._log_likelihood(logits)
        shares = np.exp(_log_softmax(logits / temperature)).reshape(len(logits), -1)
        points = [
            metric.points(shares @ counts)
            for metric, counts in zip(self._metrics, self._counts, strict=True)
        ]
        return np.mean(points, axis=0)

    def _log_likelihood(self, logits: Floats) -> Floats:
        rows = np.arange(len(self.examples))
        return _log_softmax(logits)[:, rows, self._gold].mean(axis=1)

    @cached_property
    def _gold(self) -> NDArray[np.intp]:
        return np.array([self.task.answer.gold(example) for example in self.examples], np.intp)

    @property
    def _metrics(self) -> list[Metric]:
        metrics = [x for x in self.task.metrics if not isinstance(x, FunctionMetric)]
        assert len(metrics) == len(self.task.metrics)
        return metrics

    @cached_property
    def _counts(self) -> list[Floats]:
        """Of each metric, what answering each option adds, (examples * options, k)."""
        options = max(len(example.options) for example in self.examples)
        cells = [
            (row * options + column, example, option)
            for row, example in enumerate(self.examples)
            for column, option in enumerate(example.options)
        ]
        places = [place for place, _, _ in cells]
        answers, golds = self.task.read_answers(
            [option for _, _, option in cells], [example for _, example, _ in cells]
        )
        tables: list[Floats] = []
        for metric in self._metrics:
            counts = metric.counts(answers, golds)
            table = np.zeros((len(self.examples) * options, counts.shape[1]))
            table[places] = counts
            tables.append(table)
        return tables


def _log_softmax(logits: Floats) -> Floats:
    """Over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
