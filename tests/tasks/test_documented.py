"""docs/tasks.md lists every reader, answer and metric, and its examples work."""

import inspect
import re
from pathlib import Path

import pytest

from dfwe.data import friends, table
from dfwe.data.dialogue import Example
from dfwe.tasks import answers, metrics
from dfwe.tasks.answers import FreeText
from dfwe.tasks.task import Task

PAGE = (Path(__file__).parents[2] / "docs/tasks.md").read_text()
GIVEN = {  # what the task gives each kind itself
    "reader": {"dialogues", "title", "labels"},
    "answer": {"self"},
    "metric": {"self"},
}


def is_reader(part):
    return inspect.isfunction(part) and "dialogues" in inspect.signature(part).parameters


def is_metric(part):
    return inspect.isclass(part) and hasattr(part, "counts") and part is not metrics.Metric


def is_answer(part):
    return inspect.isclass(part) and hasattr(part, "gold") and part is not answers.Answer


KINDS = (
    ("reader", table, is_reader),
    ("reader", friends, is_reader),
    ("answer", answers, is_answer),
    ("metric", metrics, is_metric),
)


def row(kind, module, part):
    """A line of the table: name, keywords, what it does."""
    keys = [name for name in inspect.signature(part).parameters if name not in GIVEN[kind]]
    says = inspect.getdoc(part).partition("\n\n")[0].replace("\n", " ")
    keywords = ", ".join(f"`{key}`" for key in keys)
    return f"| {kind} | `{module.__name__}.{part.__name__}` | {keywords} | {says} |"


def test_the_table_has_every_part_as_the_code_describes_it():
    lines = [
        row(kind, module, part)
        for kind, module, wanted in KINDS
        for name, part in vars(module).items()
        if not name.startswith("_") and wanted(part) and part.__module__ == module.__name__
    ]
    text = "\n".join(["| kind | `_target_` | keys | what |", "|---|---|---|---|", *lines])
    assert f"<!-- parts: begin -->\n{text}\n<!-- parts: end -->" in PAGE, text


@pytest.mark.parametrize("name", ["contains", "Contains"])
def test_the_metrics_of_the_page_measure_what_they_say(name):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL))
    parts = {"__name__": __name__}
    exec(code, parts)
    metric = parts[name] if name == "contains" else parts[name]()
    texts = (("a dog", "dog"), ("cat",))
    examples = [Example(f"e{n}", f"e{n}", "", "", t[0], t) for n, t in enumerate(texts)]
    task = Task("ask", "ask", lambda *_: examples, FreeText(), [metric], 5)
    assert task.score(["the dog!", "cow"], examples)["contains"] == 50
