"""Addresses of steps: an edited or another part is another result, a moved or reworded one not."""

import importlib
import sys
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.nelder_mead import nelder_mead
from dfwe.stages.merge import average
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1, Accuracy, Share

METRIC = '''
from dataclasses import dataclass

import numpy as np

from dfwe.tasks.metrics import Share

@dataclass(frozen=True)
class Lengths(Share):
    """Points for many answers."""

    name: str = "accuracy"

    def counts(self, answers, golds):
        return np.full((len(answers), 2), 100.0 * len(answers))  # all of them
'''


@pytest.fixture
def addresses(make_study):
    """Changes of the target task -> the addresses of a training, a search, a merge and a test."""

    def read(**changes):
        study = make_study(controls={"fusing": controls.fusing})
        plan = Plan(replace(study, task=replace(study.task, **changes)))
        fusing = next(method.step for method in plan.methods if method.name == "fusing")
        steps = (plan.experts[0], plan.interpolation, fusing.start, plan.evaluation)
        return [step.recipe.address for step in steps]

    return read


@pytest.fixture
def lengths(tmp_path, monkeypatch):
    """Source -> the metric of a person's module."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text):
        (tmp_path / "own_lengths.py").write_text(text)
        sys.modules.pop("own_lengths", None)
        importlib.invalidate_caches()
        return importlib.import_module("own_lengths").Lengths()

    yield write
    sys.modules.pop("own_lengths", None)


def differ(one, other):
    return all(a != b for a, b in zip(one, other, strict=True))


def test_an_edited_metric_is_another_recipe_and_an_edited_comment_is_not(addresses, lengths):
    first = addresses(metrics=[lengths(METRIC)])
    worded = METRIC.replace("all of them", "every one").replace("Points for", "The points of")
    assert worded != METRIC
    assert addresses(metrics=[lengths(worded)]) == first
    edited = METRIC.replace("100.0 *", "1.0 *")
    assert differ(addresses(metrics=[lengths(edited)]), first)
    assert addresses(metrics=[lengths(METRIC)]) == first


def test_metrics_of_one_name_and_two_classes_are_two_recipes(addresses, lengths):
    @dataclass(frozen=True)
    class Right(Accuracy):
        pass

    ours, theirs, derived = Accuracy(), lengths(METRIC), Right()
    assert ours.name == theirs.name == derived.name
    recipes = [addresses(metrics=[metric]) for metric in (ours, theirs, derived)]
    assert differ(recipes[0], recipes[1])
    assert differ(recipes[1], recipes[2])
    assert differ(recipes[2], recipes[0])


@pytest.mark.parametrize("part", [F1, Label, nelder_mead, average])
def test_a_part_of_ours_may_move_and_its_version_counts(part, addresses, monkeypatch):
    first = addresses()
    monkeypatch.setattr(part, "__module__", "dfwe.elsewhere.and_deeper")
    assert addresses() == first
    monkeypatch.setattr(part, "version", 2, raising=False)
    changed = addresses()
    assert changed != first
    if part is F1:
        assert differ(changed, first)


def test_a_reader_of_a_task_is_part_of_its_recipe(addresses, make_study):
    read = make_study().task.read
    renamed = partial(read.func, prompt="other:")
    assert differ(addresses(read=renamed), addresses())


class Plain(Share):
    """A metric of a class that is no dataclass."""

    name = "plain"

    def __init__(self, factor):
        self.factor = factor

    def counts(self, answers, golds):
        return np.full((len(answers), 2), self.factor)


def test_a_metric_that_does_not_say_what_decides_it_is_refused(addresses):
    with pytest.raises(UserError, match=r"Plain is no dataclass, .* @dataclass\(frozen=True\)"):
        addresses(metrics=[Plain(2.0)])


def test_a_part_without_a_source_file_is_refused(addresses, lengths):
    metric = lengths(METRIC)
    del sys.modules["own_lengths"].__file__
    with pytest.raises(UserError, match=r"own_lengths\.Lengths has no source file"):
        addresses(metrics=[metric])
