"""A task: how to read it, how to read an answer, what to measure."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from typing import Any

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Dialogue, Example
from dfwe.errors import UserError
from dfwe.tasks.answers import Answer, Compatibility
from dfwe.tasks.metrics import Metric

Reader = Callable[[Sequence[Dialogue], str, Sequence[str]], list[Example]]


@dataclass(frozen=True, eq=False)
class Task:
    """A target or a source, as `conf/task/*.yaml` declares it.

    Args:
        name: what the command line calls it.
        title: what the corpus calls it.
        read: dialogues, title, labels -> examples.
        answer: how a model's text is read.
        metrics: what is measured; the score is their mean.
        max_new_tokens: how long an answer may get.
        labels: the label set; None takes the corpus's declaration.
        compatibility: `tlidb` scores as the original does, its defects included; the YAML hands
            it to `answer` and `metrics`.
    """

    name: str
    title: str
    read: Reader
    answer: Answer
    metrics: Sequence[Metric]
    max_new_tokens: int
    labels: Sequence[str] | None = None
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        given = self.labels
        listed = isinstance(given, Sequence) and not isinstance(given, str)
        if given is not None and not (listed and all(isinstance(label, str) for label in given)):
            raise UserError(
                f"task={self.name} has labels={given}, which are not a list of texts "
                '(YAML reads yes, no and 1 otherwise); quote each: ["yes", "no"].'
            )

    def examples(self, corpus: Corpus, split: str) -> tuple[Example, ...]:
        """The split's examples, in the corpus's order.

        Raises:
            UserError: the split is empty, an annotation is missing, a label is unknown.
        """
        return _examples(self, corpus, split)

    def score(self, texts: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """Metric name -> points, and `score`, their mean: TLiDB's score of a task."""
        answers, golds = self.read_answers(texts, examples)
        values = {metric.name: metric(answers, golds) for metric in self.metrics}
        return {**values, "score": sum(values.values()) / len(values)}

    def read_answers(
        self, texts: Sequence[str], examples: Sequence[Example]
    ) -> tuple[list[Any], list[Any]]:
        """A model's answers and the gold ones, as the metrics compare them."""
        answers = [self.answer(text, e) for text, e in zip(texts, examples, strict=True)]
        return answers, [self.answer.gold(example) for example in examples]

    def settings(self) -> dict[str, Any]:
        """What decides a score, besides the examples: how answers are read and measured."""
        return {
            "answer": _described(self.answer),
            "metrics": [_described(metric) for metric in self.metrics],
            "max_new_tokens": self.max_new_tokens,
        }


@lru_cache
def _examples(task: Task, corpus: Corpus, split: str) -> tuple[Example, ...]:
    labels = corpus.labels(task.title) if task.labels is None else task.labels
    dialogues = corpus.dialogues(split, task.title)
    try:
        found = task.read(dialogues, task.title, labels)
    except (KeyError, IndexError):
        raise _unreadable(task, dialogues, labels) from None
    if not found:
        raise UserError(
            f"The {split} split of corpus={corpus.name} has no example of task={task.name}; "
            "choose another task, or corpus.shots=full."
        )
    return tuple(found)


def _unreadable(task: Task, dialogues: Sequence[Dialogue], labels: Sequence[str]) -> UserError:
    """What to say of the first dialogue whose annotation lacks a field."""
    for dialogue in dialogues:
        try:
            task.read([dialogue], task.title, labels)
        except (KeyError, IndexError) as error:
            return UserError(
                f"Dialogue '{dialogue.id}' cannot be read as task={task.name}: its annotation "
                f"has no {error}; mend it or leave the dialogue out of the split, or name in the "
                "task what there is."
            )
    raise AssertionError("a reader takes each dialogue by itself")


def _described(part: Any) -> dict[str, Any]:
    assert is_dataclass(part)
    assert not isinstance(part, type)
    return {"name": type(part).__name__, **asdict(part)}
