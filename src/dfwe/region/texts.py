"""Which texts a linear probe sees."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.tasks.task import Task


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
            index = [i for i, example in enumerate(examples) if not self._is_seen(example)]
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
            index = [index[i] for i in sorted(drawn.tolist())]
        return corpus, index

    def examples(self, task: Task, split: str) -> list[Example]:
        """What is drawn."""
        corpus, index = self.draw(task, split)
        examples = task.examples(corpus, split)
        return [examples[i] for i in index]

    @cached_property
    def _whole(self) -> Corpus:
        return self.corpus.whole()

    def _is_seen(self, example: Example) -> bool:
        return example.dialogue in self._seen or example.context in self._seen

    @cached_property
    def _seen(self) -> frozenset[str]:
        """The dialogues and the texts of all models' training examples."""
        examples = (e for task in self.tasks for e in task.examples(self.corpus, "train"))
        return frozenset(part for e in examples for part in (e.dialogue, e.context))
