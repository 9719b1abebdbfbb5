"""The executor: what is made is skipped, what is missing is named."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.loggers import CSV
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import Store


@dataclass
class Made:
    """A step that counts how often it ran."""

    stage: str
    label: str
    parents: tuple[Any, ...] = ()
    runs: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None

    @property
    def recipe(self):
        return Recipe(self.stage, 1, {"label": self.label}, tuple(p.recipe for p in self.parents))

    def run(self, context):
        self.runs.append(self.label)
        self.meanwhile()
        context.store.commit(self.recipe, lambda folder: None, {})


@pytest.fixture
def context(tmp_path):
    def unused(*args, **settings):
        raise AssertionError("these steps neither train nor log")

    command = "python -m dfwe.run stage={} task=emory".format
    return Context(Store(tmp_path / "store"), unused, CSV(), tmp_path, command)


def test_a_second_call_makes_nothing_again(context):
    expert = Made("experts", "emory")
    tuned = Made("finetune", "emory", (expert,))
    for _ in range(2):
        execute([expert, tuned], Stage("all", ("experts", "finetune")), context)
    assert (expert.runs, tuned.runs) == (["emory"], ["emory"])


def test_the_machine_is_checked_before_the_first_step_and_only_if_there_is_one(context):
    cuda = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    wrong = replace(context, workers=2, trainer=lambda **settings: cuda)
    expert, stage = Made("experts", "emory"), Stage("experts", ("experts",))
    with pytest.raises(UserError, match="leave workers=1"):
        execute([expert], stage, wrong)
    assert expert.runs == []
    execute([expert], stage, context)
    execute([expert], stage, wrong)


def test_equal_steps_are_made_once(context):
    twins = [Made("experts", "emory"), Made("experts", "emory")]
    execute(twins, Stage("experts", ("experts",)), context)
    assert [step.runs for step in twins] in ([["emory"], []], [[], ["emory"]])


def test_a_missing_parent_is_an_error_with_the_command_that_makes_it(context):
    expert = Made("experts", "meld")
    tuned = Made("finetune", "meld", (expert,))
    with pytest.raises(UserError, match=r"python -m dfwe\.run stage=experts task=emory"):
        execute([expert, tuned], Stage("finetune", ("finetune",)), context)
    assert tuned.runs == []


def test_a_stage_makes_only_its_own_steps(context):
    expert = Made("experts", "meld")
    tuned = Made("finetune", "meld", (expert,))
    execute([expert, tuned], Stage("experts", ("experts",)), context)
    assert expert.recipe in context.store
    assert tuned.runs == []


def made_elsewhere(context, step):
    context.store.commit(step.recipe, lambda folder: None, {})


def test_what_another_process_makes_is_left_to_it_while_there_is_else_to_do(context):
    theirs, ours = Made("experts", "emory"), Made("experts", "meld")
    after = Made("finetune", "emory", (theirs,))
    claim = context.store.claim(theirs.recipe)

    def done():
        made_elsewhere(context, theirs)
        claim.__exit__(None, None, None)

    ours.meanwhile = done
    execute([theirs, after, ours], Stage("all", ("experts", "finetune")), context)
    assert (theirs.runs, after.runs, ours.runs) == ([], ["emory"], ["meld"])


def test_what_another_process_leaves_unfinished_is_taken_up(context):
    theirs, ours = Made("experts", "emory"), Made("experts", "meld")
    claim = context.store.claim(theirs.recipe)
    ours.meanwhile = lambda: claim.__exit__(None, None, None)
    execute([theirs, ours], Stage("experts", ("experts",)), context)
    assert (theirs.runs, ours.runs) == (["emory"], ["meld"])


def test_a_process_waits_for_what_only_another_one_is_at(context, monkeypatch, caplog):
    theirs = Made("experts", "emory")
    after = Made("finetune", "emory", (theirs,))
    claim, waits = context.store.claim(theirs.recipe), []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            made_elsewhere(context, theirs)
            claim.__exit__(None, None, None)

    monkeypatch.setattr("dfwe.pipeline.executor.sleep", wait)
    caplog.set_level("INFO")
    execute([theirs, after], Stage("all", ("experts", "finetune")), context)
    assert (theirs.runs, after.runs, len(waits)) == ([], ["emory"], 3)
    assert caplog.text.count("Waiting for the process that is at experts: emory") == 1


def test_a_parent_that_vanishes_meanwhile_ends_the_waiting(context, monkeypatch):
    expert = Made("experts", "meld")
    made_elsewhere(context, expert)
    tuned = Made("finetune", "meld", (expert,))
    claim = context.store.claim(tuned.recipe)
    monkeypatch.setattr(
        "dfwe.pipeline.executor.sleep",
        lambda _: shutil.rmtree(context.store.folder(expert.recipe)),
    )
    with claim, pytest.raises(UserError, match="stage=experts"):
        execute([tuned], Stage("finetune", ("finetune",)), context)
