"""A task: how to read it, how to read an answer, what to measure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Annotated

from pydantic import BeforeValidator, ValidationError

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Dialogue, Example
from dfwe.errors import UserError, schema_fault
from dfwe.pipeline.deferred import check_part, describe
from dfwe.plain import Plain
from dfwe.settings import Compatibility, Count, Name, settings
from dfwe.tasks.answers import Answer, FreeText, Value
from dfwe.tasks.function_metric import AnyMetric, FunctionMetric, metrics_of
from dfwe.tasks.metrics import check_counts

SAMPLE = 8  # examples that metrics are tried on
# dialogues, title, labels -> examples
Reader = Callable[[Sequence[Dialogue], str, Sequence[str]], list[Example]]


@settings("task", eq=False)
class Task:
    """A target or a source, as `conf/task/*.yaml` declares it.

    Args:
        name: its name on the command line.
        title: its name in the corpus.
        read: dialogues, title, labels -> examples. A LookupError or pydantic's ValidationError
            stands for an annotation that cannot be read.
        answer: how a model's text is read.
        metrics: what is measured; the score is their mean. Each is an object like those of
            `dfwe.tasks.metrics`, or a plain function (`dfwe.tasks.function_metric`).
        max_new_tokens: the most tokens of an answer.
        labels: the label set; None takes the corpus's declaration, and none of answers in free
            text.
        compatibility: `tlidb` scores and shortens as the original does, its defects included; the
            YAML passes it to `read`, `answer` and `metrics`.

    Raises:
        UserError: a field is of another type or out of its range.
    """

    name: Name
    title: str
    read: Reader
    answer: Answer
    metrics: Annotated[Sequence[AnyMetric], BeforeValidator(metrics_of)]
    max_new_tokens: Count
    labels: Sequence[str] | None = None
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        check_part("task.read", self.read)

    def examples(self, corpus: Corpus, split: str) -> tuple[Example, ...]:
        """The split's examples, in the corpus's order.

        Raises:
            UserError: the split is empty, an annotation is missing or malformed, or a label is
                unknown.
        """
        return _examples(self, corpus, split)

    def score(self, texts: Sequence[str], examples: Sequence[Example]) -> dict[str, float]:
        """The score of a model's texts, in points (0 to 100).

        Args:
            texts: a model's, in the order of the examples.
            examples: those it answered.

        Returns:
            Metric name -> points, and `score`, their mean: TLiDB's score of a task.
        """
        read = self.read_answers(texts, examples)
        values: dict[str, float] = {}
        for metric in self.metrics:
            function = isinstance(metric, FunctionMetric)
            values[metric.name] = metric(texts, examples) if function else metric(*read)
        return {**values, "score": sum(values.values()) / len(values)}

    def read_answers(
        self, texts: Sequence[str], examples: Sequence[Example]
    ) -> tuple[list[Value], list[Value]]:
        """A model's answers and the gold ones, as the metrics compare them."""
        answers = [self.answer(text, e) for text, e in zip(texts, examples, strict=True)]
        return answers, [self.answer.gold(example) for example in examples]

    def check_metrics(self, corpus: Corpus) -> None:
        """Measure a few examples of dev, gold answers and empty ones, by each metric.

        Raises:
            UserError: a metric does not compare such answers as this task's, or one of a person's
                own cannot be called so, or is no score.
        """
        examples = self.examples(corpus, "dev")[:SAMPLE]
        golds = self.read_answers([example.target for example in examples], examples)
        for metric in self.metrics:
            describe(metric)
            if isinstance(metric, FunctionMetric):
                metric.check(examples)
            else:
                check_counts(metric, *golds)

    def settings(self) -> Mapping[str, Plain]:
        """What decides a score, besides the examples: how answers are read and measured."""
        return {
            "reader": describe(self.read),
            "answer": describe(self.answer),
            "metrics": [describe(metric) for metric in self.metrics],
            "max_new_tokens": self.max_new_tokens,
        }


@lru_cache
def _examples(task: Task, corpus: Corpus, split: str) -> tuple[Example, ...]:
    labels = task.labels
    if labels is None:
        labels = () if isinstance(task.answer, FreeText) else corpus.labels(task.title)
    dialogues = corpus.dialogues(split, task.title)
    try:
        examples = task.read(dialogues, task.title, labels)
    except (LookupError, ValidationError):
        raise _unreadable(task, dialogues, labels) from None
    if not examples:
        raise UserError(
            f"The {split} split of corpus={corpus.name} has no example of task={task.name}; "
            "choose another task, or corpus.shots=full."
        )
    for example in examples:
        if len(example.references) > 1:
            task.answer.gold(example)  # refuses them where it reads one answer alone
    for example in {example.options: example for example in examples}.values():
        _check_options(task, example)
    return tuple(examples)


def _check_options(task: Task, example: Example) -> None:
    """Raise UserError if an option of an example cannot be told from another one.

    What TLiDB reads is not checked: it finds an option inside another one.
    """
    options = example.options
    for option in options:
        if options.count(option) > 1:
            raise UserError(
                f"task={task.name} has the label '{option}' twice (in {example.id}); leave it "
                "there once."
            )
        chosen = replace(example, target=option, references=(option,))
        gold = task.answer.gold(chosen)
        if isinstance(gold, tuple):  # texts, of which none has a number
            return
        exact = task.compatibility is not None or task.answer(option, chosen) == gold
        split = f"{option} and {option}".split(" and ") == [option, option]  # not so of `x and`
        if not exact or (isinstance(gold, list) and not (split and sum(gold) == 1)):
            raise UserError(
                f"The label '{option}' of task={task.name} (in {example.id}) is not read as "
                "itself: labels have to differ in more than case, must not begin or end with a "
                "blank, and ' and ' stands between several; rename it."
            )


def _unreadable(task: Task, dialogues: Sequence[Dialogue], labels: Sequence[str]) -> UserError:
    """The error about the first dialogue whose annotation the task's reader refuses."""
    for dialogue in dialogues:
        try:
            task.read([dialogue], task.title, labels)
        except (LookupError, ValidationError) as error:
            return UserError(
                f"Dialogue '{dialogue.id}' cannot be read as task={task.name}: its annotation "
                f"{_fault(error)}; fix it or leave the dialogue out of the split, or name in the "
                "task what there is."
            )
    raise AssertionError("a reader takes each dialogue by itself")


def _fault(error: LookupError | ValidationError) -> str:
    """What is wrong with an annotation."""
    if isinstance(error, ValidationError):
        return schema_fault(error)
    if isinstance(error, KeyError):
        return f"has no {error}"
    return f"refers to what is not there ({error})"
