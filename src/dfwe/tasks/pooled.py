"""Several tasks with the same label names as one."""

from collections.abc import Sequence
from dataclasses import fields, replace

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.settings import settings
from dfwe.tasks.task import Task


@settings("task", eq=False)
class PooledTask(Task):
    """A task that trains on the examples of others too, as if they were its own.

    Args:
        others: tasks with the same label names, in any order and case.
    """

    others: Sequence[Task] = ()

    @classmethod
    def of(cls, task: Task, others: Sequence[Task]) -> "PooledTask":
        """`task`, with the training splits of `others`."""
        return cls(
            **{field.name: getattr(task, field.name) for field in fields(task)}, others=others
        )

    def examples(self, corpus: Corpus, split: str) -> tuple[Example, ...]:
        """The task's examples; of `train` then those of the others, with its labels and prompt."""
        examples = Task.examples(self, corpus, split)
        if split != "train":
            return examples
        labels = {label.lower(): label for label in examples[0].options}
        prompts = {example.prompt for example in examples}
        prompt = prompts.pop() if len(prompts) == 1 else None
        borrowed = [
            replace(
                example,
                id=f"{other.name}/{example.id}",
                prompt=example.prompt if prompt is None else prompt,
                target=labels[example.target.lower()],
                references=tuple(labels[text.lower()] for text in example.references),
                options=examples[0].options,
            )
            for other in self.others
            for example in other.examples(corpus, split)
        ]
        return (*examples, *borrowed)


def label_names(task: Task, corpus: Corpus) -> frozenset[str]:
    """The names of a task's labels in lower case; empty for free text, or where each example
    offers options of its own."""
    options = {example.options for example in task.examples(corpus, "train")}
    return frozenset(map(str.lower, options.pop())) if len(options) == 1 else frozenset()
