"""What models' answers add to a task's metrics, summed by dialogue: any resample is a product.

Instances of one dialogue stand or fall together, so a resample weighs dialogues; the score of
weighted dialogues follows from their weighted counts (`dfwe.tasks.metrics.Metric`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Example
from dfwe.tasks.metrics import Metric
from dfwe.tasks.task import Task

BLOCK = 200  # draws at a time: what many labels need of memory
MODELS = 100  # at a time: what many models need of memory

Floats = NDArray[np.float64]
Indices = NDArray[np.intp]


@dataclass(frozen=True)
class DialogueCounts:
    """The counts of several models on the same examples.

    Args:
        metrics: the task's, whose mean is the score.
        sums: of each metric, (models, dialogues, k).
        sizes: (dialogues,), the instances of each.
    """

    metrics: tuple[Metric, ...]
    sums: tuple[Floats, ...]
    sizes: Floats

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
        return np.mean(points, axis=0)

    def scores(self, models: Sequence[int], weights: Floats) -> Floats:
        """Several models' scores at once: weights (draws, dialogues) -> (draws, models)."""
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
    for metric in task.metrics:
        counts = metric.counts(answers, golds)  # (distinct, k)
        parts = np.array_split(rows, 1 + len(rows) // MODELS)
        sums.append(np.concatenate([sum_by_dialogue(counts[part], member) for part in parts]))
    return DialogueCounts(tuple(task.metrics), tuple(sums), np.bincount(member).astype(np.float64))


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
