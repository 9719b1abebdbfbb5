"""The executor: what is made is skipped, what is missing is named."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from dfwe.errors import UserError
from dfwe.execute import Stage, execute
from dfwe.lab import Lab
from dfwe.recipe import Recipe
from dfwe.store import Store


@dataclass
class Made:
    """A step that counts how often it ran."""

    stage: str
    label: str
    parents: tuple[Any, ...] = ()
    runs: list[str] = field(default_factory=list)

    @property
    def recipe(self):
        return Recipe(self.stage, 1, {"label": self.label}, tuple(p.recipe for p in self.parents))

    def run(self, lab):
        self.runs.append(self.label)
        lab.store.commit(self.recipe, lambda folder: None, {})


@pytest.fixture
def lab(tmp_path):
    def unused(*args, **settings):
        raise AssertionError("these steps neither train nor log")

    command = "python -m dfwe.run stage={} task=emory".format
    return Lab(Store(tmp_path / "store"), unused, unused, tmp_path, command)


def test_a_second_call_makes_nothing_again(lab):
    expert = Made("experts", "emory")
    tuned = Made("finetune", "emory", (expert,))
    for _ in range(2):
        execute([expert, tuned], Stage("all", ("experts", "finetune")), lab)
    assert (expert.runs, tuned.runs) == (["emory"], ["emory"])


def test_equal_steps_are_made_once(lab):
    twins = [Made("experts", "emory"), Made("experts", "emory")]
    execute(twins, Stage("experts", ("experts",)), lab)
    assert [step.runs for step in twins] in ([["emory"], []], [[], ["emory"]])


def test_a_missing_parent_is_an_error_with_the_command_that_makes_it(lab):
    expert = Made("experts", "meld")
    tuned = Made("finetune", "meld", (expert,))
    with pytest.raises(UserError, match=r"python -m dfwe\.run stage=experts task=emory"):
        execute([expert, tuned], Stage("finetune", ("finetune",)), lab)
    assert tuned.runs == []


def test_a_stage_makes_only_its_own_steps(lab):
    expert = Made("experts", "meld")
    tuned = Made("finetune", "meld", (expert,))
    execute([expert, tuned], Stage("experts", ("experts",)), lab)
    assert expert.recipe in lab.store
    assert tuned.runs == []
