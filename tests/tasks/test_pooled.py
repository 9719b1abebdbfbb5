"""Tasks with the same label names, trained as one."""

from dataclasses import replace

import pytest

from dfwe.data.dialogue import Example
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.pooled import PooledTask, label_names
from dfwe.tasks.task import Task


class Corpus:
    name = "toy"

    def labels(self, title):
        return ()

    def dialogues(self, split, title=None):
        return (split,)


def task(name, options, targets):
    def read(dialogues, title, labels):
        return [
            Example(f"{name}-{i}", f"{name}-{i}", f"text {i}", f"{name}:", t, (t,), options)
            for i, t in enumerate(targets)
        ]

    return Task(name, name, read, Label(), (Accuracy(),), 4)


TARGET = task("film", ("bad", "good"), ["bad", "good"])
SOURCE = task("shop", ("Good", "Bad"), ["Good", "Good", "Bad"])


def test_examples_of_the_others_get_the_labels_and_the_prompt_of_the_task():
    pooled, corpus = PooledTask.of(TARGET, [SOURCE]), Corpus()
    examples = pooled.examples(corpus, "train")
    assert examples[:2] == TARGET.examples(corpus, "train")
    assert [example.target for example in examples[2:]] == ["good", "good", "bad"]
    assert {example.options for example in examples} == {("bad", "good")}
    assert {example.prompt for example in examples} == {"film:"}
    assert [pooled.answer.gold(example) for example in examples] == [0, 1, 1, 1, 0]
    assert pooled.name == "film"


@pytest.mark.parametrize("split", ["dev", "test"])
def test_no_other_split_is_pooled(split):
    assert PooledTask.of(TARGET, [SOURCE]).examples(Corpus(), split) == TARGET.examples(
        Corpus(), split
    )


def test_label_names_have_no_order_and_no_case():
    corpus = Corpus()
    assert label_names(TARGET, corpus) == label_names(SOURCE, corpus) == {"bad", "good"}
    assert label_names(task("x", (), ["free"]), corpus) == frozenset()


def test_a_pooled_task_is_measured_as_the_task():
    pooled = PooledTask.of(TARGET, [SOURCE])
    assert pooled.settings() == replace(TARGET).settings()
