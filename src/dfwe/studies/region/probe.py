"""Linear probes: which texts they read, what a frozen backbone gives, and the loss."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from dfwe.data.batches import Batch, evaluation_batches
from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.scoring.lists import integers
from dfwe.statistics.logistic_regression import FOLDS, fit
from dfwe.tasks.task import Task
from dfwe.weights.readout import Readout, mean_of_tokens
from dfwe.weights.untyped import encoder_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class ProbeTexts:
    """A sub-sample of each dataset's train and dev splits.

    Args:
        tasks: the datasets that the study's models are fine-tuned on.
        corpus: what they are fine-tuned on.
        size: texts of each split; None draws all.
        unseen: train's come from those that no model was fine-tuned on.
    """

    tasks: Sequence[Task]
    corpus: Corpus
    size: int | None
    unseen: bool

    def draw(self, task: Task, split: str) -> tuple[Corpus, list[int]]:
        """The corpus to read the split from, and which of its examples.

        Raises:
            UserError: too few training texts are unseen.
        """
        if self.unseen and split == "train":
            corpus = self._whole
            examples = task.examples(corpus, split)
            index = [i for i, example in enumerate(examples) if not self._is_trained_on(example)]
            if len(index) < (self.size or 1):
                raise UserError(
                    f"A probe wants {self.size or 1} training texts of {task.name} that no model "
                    f"was fine-tuned on, and {len(index)} are left: lower corpus.limit or "
                    "region.texts, or set region.unseen=false."
                )
        else:
            corpus = self.corpus
            index = list(range(len(task.examples(corpus, split))))
        if self.size is not None and self.size < len(index):
            drawn = np.random.default_rng(0).choice(len(index), self.size, replace=False)
            index = [index[int(i)] for i in np.sort(drawn)]
        return corpus, index

    def examples(self, task: Task, split: str) -> list[Example]:
        """What is drawn."""
        corpus, index = self.draw(task, split)
        examples = task.examples(corpus, split)
        return [examples[i] for i in index]

    @cached_property
    def _whole(self) -> Corpus:
        return self.corpus.whole()

    def _is_trained_on(self, example: Example) -> bool:
        return example.dialogue in self._trained_on or example.context in self._trained_on

    @cached_property
    def _trained_on(self) -> frozenset[str]:
        """The dialogues and the texts of all models' training examples."""
        examples = (e for task in self.tasks for e in task.examples(self.corpus, "train"))
        return frozenset(part for e in examples for part in (e.dialogue, e.context))


@dataclass(frozen=True)
class Texts:
    """A split as batches, with each example's label number (m,)."""

    batches: tuple[Batch, ...]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, tokenized: TokenizedSplit, labels: Sequence[int]) -> "Texts":
        return cls(tuple(evaluation_batches(tokenized)), np.asarray(labels))


@dataclass(frozen=True)
class Probe:
    """A dataset for linear probing.

    Args:
        name: the dataset's.
        train: where a probe is trained.
        dev: where its loss is taken.
        readouts: where probes read, one each.

    Raises:
        UserError: the training texts are too few for a cross-validated penalty.
    """

    name: str
    train: Texts
    dev: Texts
    readouts: tuple[Readout, ...]

    def __post_init__(self) -> None:
        texts = len(self.train.labels)
        if texts < FOLDS:
            raise UserError(
                f"A probe of {self.name} would learn from {texts} texts and needs {FOLDS} or "
                "more; raise region.texts."
            )

    def __call__(self, backbone: "PreTrainedModel") -> dict[Readout, tuple[float, float]]:
        """(generalised loss in nats, accuracy 0..1) of a frozen backbone; inf if it overflows."""
        train, dev = (features(backbone, part, self.readouts) for part in (self.train, self.dev))
        return {readout: self._loss(train[readout], dev[readout]) for readout in self.readouts}

    def _loss(self, train: NDArray[np.float64], dev: NDArray[np.float64]) -> tuple[float, float]:
        if not (np.isfinite(train).all() and np.isfinite(dev).all()):
            return float("inf"), 0.0
        classes = 1 + max(self.train.labels.max(), self.dev.labels.max())
        return fit(train, self.train.labels, classes).evaluate(dev, self.dev.labels)


def features(
    backbone: "PreTrainedModel", texts: Texts, readouts: Sequence[Readout]
) -> dict[Readout, NDArray[np.float64]]:
    """What heads would read (m, d) at each of these places of the last states.

    Of a sequence-to-sequence model they are its encoder's.
    """
    backbone.eval()
    encoder = encoder_of(backbone)
    rows: dict[Readout, dict[int, NDArray[np.float64]]] = {readout: {} for readout in readouts}
    with torch.inference_mode():
        for batch in (batch.to(backbone.device) for batch in texts.batches):
            states = encoder(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state
            for readout in readouts:
                read = states[:, 0] if readout == "first" else mean_of_tokens(states, batch.mask)
                values = read.cpu().double().numpy()
                for position, row in zip(integers(batch.index), values, strict=True):
                    rows[readout][position] = row
    order = range(len(texts.labels))
    return {readout: np.stack([part[i] for i in order]) for readout, part in rows.items()}
