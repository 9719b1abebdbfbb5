"""What models' answers add to a task's metrics, summed by dialogue: any resample is a product.

Instances from one dialogue are correlated, so a resample weighs dialogues; the score of
weighted dialogues follows from their weighted counts (`dfwe.tasks.metrics.Metric`). A metric that
is a plain function has no counts: it is called on the texts of each resample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.errors import ScoreError
from dfwe.tasks.function_metric import FunctionMetric
from dfwe.tasks.metrics import Metric
from dfwe.tasks.task import Task

BLOCK = 200  # draws at a time: what many labels need of memory
MODELS = 100  # at a time: what many models need of memory
FEW_DRAWS = 200  # of many models, where a metric is a function, which is called for each

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Resampled:
    """A metric that is a function, called on the texts of weighted dialogues.

    Args:
        metric: the function.
        texts: (models, m), of each model.
        examples: (m,), those they answered.
        member: (m,), the dialogue of each.
    """

    metric: FunctionMetric
    texts: Sequence[Sequence[str]]
    examples: Sequence[Example]
    member: Indices

    def points(self, model: int, weights: Floats) -> Floats:
        """Dialogue d stands there weights[..., d] times, a whole number: (...), in points.

        What the function fails on is worth 0, as a candidate that cannot be scored is the worst.
        """
        rows = weights.reshape(-1, weights.shape[-1])
        values = np.array([self._called(model, row) for row in rows])
        return values.reshape(weights.shape[:-1])

    def _called(self, model: int, row: Floats) -> float:
        times = row[self.member].astype(np.intp)
        positions = np.repeat(np.arange(len(times)), times).tolist()
        texts = [self.texts[model][i] for i in positions]
        try:
            return self.metric(texts, [self.examples[i] for i in positions])
        except ScoreError:
            return 0.0


@dataclass(frozen=True)
class DialogueCounts:
    """The counts of several models on the same examples.

    The mean of all metrics, with counts or without, is the score.

    Args:
        metrics: the task's that have counts.
        sums: of each of them, (models, dialogues, k).
        sizes: (dialogues,), the instances of each.
        functions: the task's metrics that are functions.
    """

    metrics: tuple[Metric, ...]
    sums: tuple[Floats, ...]
    sizes: Floats
    functions: tuple[Resampled, ...] = ()

    def score(self, model: int, weights: Floats) -> Floats:
        """A model's score with dialogue d counted weights[..., d] times.

        Args:
            model: its position.
            weights: (..., dialogues), not all 0 in a row.

        Returns:
            (...), in points.
        """
        points = [
            metric.points(weights @ sums[model])
            for metric, sums in zip(self.metrics, self.sums, strict=True)
        ]
        points += [function.points(model, weights) for function in self.functions]
        return np.mean(points, axis=0)

    def scores(self, models: Sequence[int], weights: Floats) -> Floats:
        """Several models' scores at once: weights (draws, dialogues) -> (draws, models)."""
        if self.functions:
            return np.stack([self.score(model, weights) for model in models], axis=-1)
        blocks: list[Floats] = []
        for start in range(0, len(weights), BLOCK):
            rows = weights[start : start + BLOCK]
            points = [
                metric.points(np.tensordot(rows, sums[list(models)], axes=(1, 1)))
                for metric, sums in zip(self.metrics, self.sums, strict=True)
            ]
            blocks.append(np.mean(points, axis=0))
        return np.concatenate(blocks)


def count(
    task: Task, models: Sequence[Sequence[str]], examples: Sequence[Example]
) -> DialogueCounts:
    """The counts of models' answers; dialogues stand in the order of their first examples.

    Args:
        task: how answers are read and measured.
        models: (models, m), the texts of each in the order of the examples.
        examples: those they answered.
    """
    member = dialogue_of(examples)
    functions = [metric for metric in task.metrics if isinstance(metric, FunctionMetric)]
    counted = [metric for metric in task.metrics if not isinstance(metric, FunctionMetric)]
    distinct: dict[tuple[int, str], int] = {}  # models often agree: an answer is read once
    rows = np.array(
        [
            [distinct.setdefault((i, text), len(distinct)) for i, text in enumerate(texts)]
            for texts in models
        ]
    )  # (models, m)
    answers, golds = task.read_answers(
        [text for _, text in distinct], [examples[i] for i, _ in distinct]
    )
    sums: list[Floats] = []
    for metric in counted:
        counts = metric.counts(answers, golds)  # (distinct, k)
        parts = np.array_split(rows, 1 + len(rows) // MODELS)
        sums.append(np.concatenate([sum_by_dialogue(counts[part], member) for part in parts]))
    sizes = np.bincount(member).astype(np.float64)
    resampled = [Resampled(metric, models, examples, member) for metric in functions]
    return DialogueCounts(tuple(counted), tuple(sums), sizes, tuple(resampled))


def few_draws(task: Task, draws: int) -> int:
    """How many draws the models of a search are worth: fewer where a metric is a function."""
    functions = any(isinstance(metric, FunctionMetric) for metric in task.metrics)
    return min(draws, FEW_DRAWS) if functions else draws


def dialogue_of(examples: Sequence[Example]) -> Indices:
    """The number of each example's dialogue, (m,), in the order of first examples."""
    names = dict.fromkeys(example.dialogue for example in examples)
    number = {name: k for k, name in enumerate(names)}
    return np.array([number[example.dialogue] for example in examples])


def sum_by_dialogue(values: Floats, member: Indices) -> Floats:
    """Sums over the examples of each dialogue: (models, m, ...) -> (models, dialogues, ...)."""
    models, _, *rest = values.shape
    sums = np.zeros((models, member.max() + 1, *rest))
    for example, dialogue in enumerate(member.tolist()):
        sums[:, dialogue] += values[:, example]
    return sums


@lru_cache(maxsize=4)
def draw_dialogues(dialogues: int, draws: int, seed: int = 0) -> Floats:
    """How often each dialogue is in each of `draws` samples with replacement, (draws, dialogues).

    Args:
        dialogues: how many there are, and how many a sample has.
        draws: how many samples.
        seed: one seed and number of dialogues give every model the same samples.
    """
    even = np.full(dialogues, 1.0 / dialogues)
    drawn = np.random.default_rng(seed).multinomial(dialogues, even, size=draws)
    drawn = drawn.astype(np.float64)
    drawn.setflags(write=False)  # one array for all who ask
    return drawn
