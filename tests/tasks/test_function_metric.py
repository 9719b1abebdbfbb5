"""A metric of one's own, as a function or a class: called, told from what is none, hashed."""

import sys
from dataclasses import dataclass
from functools import partial

import pytest
from hydra.errors import InstantiationException

from dfwe.config import build_task
from dfwe.data.dialogue import Example
from dfwe.errors import ScoreError, UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.tasks.answers import FreeText
from dfwe.tasks.function_metric import FunctionMetric
from dfwe.tasks.metrics import Accuracy, ExactMatch, Share
from dfwe.tasks.task import Task

EXAMPLES = tuple(
    Example(f"q{n}", f"q{n}", "", "", texts[0], texts)
    for n, texts in enumerate([("the dog", "dog"), ("cat",), ("a cow", "cow")])
)


class Questions:
    """A corpus that the tasks below do not read."""

    name = "questions"

    def dialogues(self, split, title=None):
        return ()

    def labels(self, title):
        return ()


def ask(*metrics, examples=EXAMPLES):
    return Task("ask", "ask", lambda *_: list(examples), FreeText(), metrics, 5)


def contains(predictions, references):
    """The share of answers that contain an accepted one."""
    pairs = zip(predictions, references, strict=True)
    return 100 * sum(any(r in p for r in rs) for p, rs in pairs) / len(references)


def equal(predictions: list[str], references: list[str]) -> float:
    pairs = zip(predictions, references, strict=True)
    return 100 * sum(p == r for p, r in pairs) / len(references)


def test_a_function_gets_the_texts_and_all_accepted_answers():
    task = ask(contains, ExactMatch())
    scores = task.score(["one dog", "dog", "cow"], EXAMPLES)
    assert scores["contains"] == pytest.approx(200 / 3)
    assert scores["score"] == (scores["contains"] + scores["exact_match"]) / 2
    task.check_metrics(Questions())


def test_references_annotated_as_texts_are_one_each():
    single = [example for example in EXAMPLES if len(example.references) == 1]
    task = ask(equal, examples=single)
    task.check_metrics(Questions())
    assert task.score(["cat"], single)["equal"] == 100
    with pytest.raises(
        UserError, match=r"q0 has several accepted answers, but the metric equal t"
    ):
        ask(equal).score(["x"] * 3, EXAMPLES)


def sloppy(predictions, references, points=100.0):
    return points * sum(p == r for p, r in zip(predictions, references, strict=True))


def errors(predictions, references):
    return 100 - contains(predictions, references)


def share(predictions, references):
    return contains(predictions, references) / 100


def divided(predictions, references):
    return 100 / predictions.count("")


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (sloppy, "sloppy gives the gold answers 0 and empty ones 0; .* lists of accepted answers"),
        (errors, "errors gives the gold answers 0 and empty ones 100; higher has to be better"),
        (share, "share gives the gold answers 1; a metric is in points, 0 to 100: return 100"),
        (
            divided,
            r"The metric divided fails \(ZeroDivisionError: division by zero\); it is called",
        ),
        (len, r"The metric len fails \(TypeError: len\(\) takes exactly one argument \(2 given\)"),
        (lambda p, r: float("nan"), "The metric <lambda> gives nan where a number is needed"),
        (lambda p, r: "good", r"fails \(TypeError: it returned 'good'\)"),
        (partial(contains, strict=1), r"task.metrics.contains.strict= is not known"),
    ],
)
def test_a_wrong_function_is_refused_on_a_few_examples(metric, sentence):
    with pytest.raises(UserError, match=sentence):
        ask(metric).check_metrics(Questions())


@dataclass(frozen=True)
class Ratio(Share):
    """One that divides by what its field says, instead of by the number of answers."""

    name: str = "ratio"
    by: float = 1.0

    def counts(self, answers, golds):
        return ExactMatch().counts(answers, golds) * [1.0, self.by]


@dataclass(frozen=True)
class Flat(Ratio):
    def counts(self, answers, golds):
        return super().counts(answers, golds)[:, 0]


@dataclass(frozen=True)
class Scalar(Ratio):
    def points(self, totals):
        return totals.sum()


@dataclass(frozen=True)
class Other(Ratio):
    def __call__(self, answers, golds):
        return 3.0


@pytest.mark.parametrize(
    ("metric", "sentence"),
    [
        (Flat(), r"Flat gives counts of the shape \(3,\) for 3 answers"),
        (Scalar(), r"Scalar gives points of the shape \(\) for two sums of counts, \(2, k\)"),
        (Other(), "Other gives 3 for gold answers whose counts come to 100; the two have to be"),
        (Ratio(by="x"), r"The metric Ratio fails on 3 gold answers \(.*Error: .*\); correct it"),
        (
            Accuracy(),
            "A metric of labels got the answer 'the dog' and the gold answer",
        ),
    ],
)
def test_a_wrong_class_is_refused_on_a_few_examples(metric, sentence):
    with pytest.raises(UserError, match=sentence):
        ask(metric).check_metrics(Questions())


class Bare:
    """No metric."""


class Plain:
    """Can be called, but nothing says what decides its result."""

    def __call__(self, predictions, references):
        return contains(predictions, references)


@dataclass(frozen=True)
class Named:
    """Commit 60dbe5b: the whole search runs before its lack of `counts` is seen."""

    name: str = "named"

    def __call__(self, predictions, references):
        return contains(predictions, references)


def test_what_is_no_metric_is_refused_where_it_is_named():
    with pytest.raises(UserError, match=r"names Bare, which is no metric \(it lacks name, counts"):
        ask(Bare())
    with pytest.raises(
        UserError, match="names the class ExactMatch, which is no metric; give a f"
    ):
        ask(ExactMatch)
    with pytest.raises(UserError, match=r"\['ratio', 'ratio'\]: 'ratio' is there twice; give one"):
        ask(Ratio(), Ratio(by=2.0))
    with pytest.raises(UserError, match="'score' is what their mean is called"):
        ask(Ratio("score"))
    with pytest.raises(UserError, match="Plain is no dataclass, so nothing says what decides"):
        ask(Plain()).check_metrics(Questions())
    ask(Named()).check_metrics(Questions())


OWN = """
from dataclasses import dataclass

def contains(predictions, references, points=100.0):
    return points * sum(map(any, ([r in p for r in rs] for p, rs in zip(predictions, references))))

@dataclass(frozen=True)
class Contains:
    name: str = "contains"
    def counts(self, answers, golds):
        return np.array([[1.0 * (answer in gold), 1.0] for answer, gold in zip(answers, golds)])
    def points(self, totals):
        return 100 * totals[..., 0] / totals[..., 1]
    def __call__(self, answers, golds):
        return float(self.points(self.counts(answers, golds).sum(axis=0)))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """(text, name) -> a configured task whose metric is `name` of a module with that text."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def configured(text, name, **arguments):
        (tmp_path / "my_metrics.py").write_text("import numpy as np\n" + text)
        sys.modules.pop("my_metrics", None)
        Deferred.resolve.__globals__["_resolved"].cache_clear()
        return build_task(
            {
                "_target_": "dfwe.tasks.task.Task",
                "name": "ask",
                "title": "ask",
                "read": {"_target_": "dfwe.data.table.text", "_partial_": True},
                "answer": {"_target_": "dfwe.tasks.answers.FreeText"},
                "max_new_tokens": 5,
                "metrics": [{"_target_": f"my_metrics.{name}", **arguments}],
            }
        )

    yield configured
    sys.modules.pop("my_metrics", None)


@pytest.mark.parametrize("name", ["contains", "Contains"])
def test_an_edited_metric_is_another_task_score(own, name):
    """Commit 60dbe5b: the class, which has a field `name`, keeps its address and old scores."""
    task = own(OWN, name)
    assert [metric.name for metric in task.metrics] == ["contains"]
    first = task.settings()
    edited = OWN.replace("any", "all").replace("1.0 *", "0.1 *")
    assert own(edited, name).settings() != first
    assert own(f"{OWN}# a comment\n", name).settings() == first


def test_a_function_and_a_class_of_one_name_differ(own):
    function = own(OWN, "contains").settings()
    assert own(OWN, "Contains").settings() != function


def test_a_configured_metric_gets_its_keywords_checked(own):
    task = own(OWN, "contains", points=10.0)
    assert task.score(["one dog", "dog", "cow"], EXAMPLES)["score"] == 20
    with pytest.raises(
        InstantiationException, match=r"my_metrics.Contains cannot be called .*'label'"
    ):
        own(OWN, "Contains", label="x")


def test_a_metric_that_fails_on_answers_is_told_in_a_sentence():
    with pytest.raises(ScoreError, match=r"The metric divided fails \(ZeroDivisionError"):
        FunctionMetric(divided)(["dog"], EXAMPLES[:1])
