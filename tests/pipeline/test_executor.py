"""The executor: what is stored is skipped, what is missing is named."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest
import torch
from lightning.pytorch.loggers.logger import DummyLogger

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage, compute, execute, lineage
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Step
from dfwe.pipeline.store import WEIGHTS


class Count(Record):
    number: int


@dataclass(frozen=True, eq=False)
class Counted(Step):
    """A step that counts how often it ran."""

    stage: str
    label: str
    before: tuple[Step, ...] = ()
    runs: list[str] = field(default_factory=list)
    meanwhile: Callable[[], None] = lambda: None
    earlier: float = 0.0
    group: str = "toy"

    kind: ClassVar[str] = "counted"
    record: ClassVar[type[Record]] = Count

    @property
    def parents(self):
        return self.before

    def settings(self):
        return {"stage": self.stage, "label": self.label}

    def run(self, run):
        self.runs.append(self.label)
        (run.output / WEIGHTS).write_text(self.label)
        run.earlier_seconds = self.earlier
        self.meanwhile()
        return Count(number=len(self.runs))


class Summary(Counted):
    """A step without weights that needs its parents' records alone."""

    has_weights: ClassVar[bool] = False
    reads_weights: ClassVar[bool] = False  # type: ignore[misc]


class EndLogger(DummyLogger):
    """A logger that records how each run ended."""

    ended: ClassVar[list[str]] = []

    def finalize(self, status):
        self.ended.append(status)


ALL = Stage("all", ("experts", "finetune"))
EXPERTS = Stage("experts", ("experts",))


@pytest.fixture
def context(context):
    command = "python -m dfwe.run stage={} task=emory".format
    return replace(context, loggers=(), command=command)


def store_elsewhere(context, step):
    (context.store.output(step.recipe) / WEIGHTS).write_text(step.label)
    context.store.commit(step.recipe, Count(number=0), provenance("", 0.0, "cpu"))


def test_a_second_call_computes_nothing_again(context):
    expert = Counted("experts", "emory")
    tuned = Counted("finetune", "emory", (expert,))
    for _ in range(2):
        execute([expert, tuned], ALL, context)
    assert (expert.runs, tuned.runs) == (["emory"], ["emory"])


def test_a_stored_result_has_record_seconds_and_label(context):
    expert = Counted("experts", "emory", earlier=100.0)
    execute([expert], EXPERTS, context)
    assert context.store.record(expert.recipe, Count) == Count(number=1)
    where = context.store.provenance(expert.recipe)
    assert 100 < where.seconds < 110
    assert (where.label, where.device) == ("emory", "cpu")


def test_the_machine_is_checked_before_the_first_step_and_only_if_there_is_one(
    context, monkeypatch
):
    expert = Counted("experts", "emory")
    with monkeypatch.context() as patched:
        patched.setattr(Context, "device", torch.device("cuda"))
        with pytest.raises(UserError, match="leave workers=1"):
            execute([expert], EXPERTS, replace(context, workers=2))
        assert expert.runs == []
        store_elsewhere(context, expert)
        execute([expert], EXPERTS, replace(context, workers=2))


def test_equal_steps_are_computed_once(context):
    twins = [Counted("experts", "emory"), Counted("experts", "emory")]
    execute(twins, EXPERTS, context)
    assert [step.runs for step in twins] in ([["emory"], []], [[], ["emory"]])


def test_lineage_has_parents_first_and_each_step_once():
    base = Counted("experts", "base")
    one, other = (Counted("experts", label, (base,)) for label in ("one", "other"))
    end = Counted("finetune", "end", (one, other))
    assert [step.label for step in lineage(end)] == ["base", "one", "other", "end"]


def test_a_missing_parent_is_an_error_with_the_command_that_computes_it(context):
    expert = Counted("experts", "meld")
    tuned = Counted("finetune", "meld", (expert,))
    with pytest.raises(UserError, match=r"python -m dfwe\.run stage=experts task=emory"):
        execute([expert, tuned], Stage("finetune", ("finetune",)), context)
    assert tuned.runs == []


def test_nothing_is_announced_before_the_checks_have_passed(context, monkeypatch):
    said = []
    step = Counted("experts", "meld")

    def refuse(context):
        raise UserError("there is no such device")

    with monkeypatch.context() as patched:
        patched.setattr(Context, "check", refuse)
        with pytest.raises(UserError, match="no such device"):
            execute([step], EXPERTS, context, lambda: said.append("plan"))
    assert said == step.runs == []
    for _ in range(2):  # the second call has nothing to compute
        execute([step], EXPERTS, context, lambda: said.append("plan"))
    assert said == ["plan"]
    assert step.runs == ["meld"]


def test_a_stage_computes_only_its_own_steps(context):
    expert = Counted("experts", "meld")
    tuned = Counted("finetune", "meld", (expert,))
    execute([expert, tuned], EXPERTS, context)
    assert expert.recipe in context.store
    assert tuned.runs == []


def test_a_finished_result_needs_no_ancestors(context):
    expert = Counted("experts", "meld")
    tuned = Counted("finetune", "meld", (expert,))
    store_elsewhere(context, tuned)
    execute([expert, tuned], ALL, context)
    assert (expert.runs, tuned.runs) == ([], [])


def test_pruned_weights_are_computed_again_where_they_are_read(context):
    expert = Counted("experts", "meld")
    execute([expert], EXPERTS, context)
    context.store.prune(context.store.folder(expert.recipe))
    execute([expert, Summary("finetune", "records", (expert,))], ALL, context)
    assert expert.runs == ["meld"]
    execute([expert, Counted("finetune", "weights", (expert,))], ALL, context)
    assert expert.runs == ["meld", "meld"]
    assert context.store.has_weights(expert.recipe)
    assert context.store.record(expert.recipe, Count) == Count(number=1)


@pytest.mark.parametrize("fails", [False, True])
def test_a_log_ends_as_its_step_does(fails, context, monkeypatch):
    def meanwhile():
        if fails:
            raise RuntimeError("a bug")

    monkeypatch.setattr(EndLogger, "ended", [])
    logged = replace(context, loggers=(Deferred(f"{EndLogger.__module__}.EndLogger"),))
    step = Counted("experts", "emory", meanwhile=meanwhile)
    if fails:
        with pytest.raises(RuntimeError, match="a bug"):
            compute(step, logged)
    else:
        compute(step, logged)
    assert EndLogger.ended == ["failed" if fails else "success"]
    assert (step.recipe in context.store) != fails


def test_what_another_process_computes_is_left_to_it_while_there_are_others(context):
    theirs = Counted("experts", "emory")
    after = Counted("finetune", "emory", (theirs,))
    claim = context.store.claim(theirs.recipe)

    def finish():
        store_elsewhere(context, theirs)
        claim.__exit__(None, None, None)

    ours = Counted("experts", "meld", meanwhile=finish)
    execute([theirs, after, ours], ALL, context)
    assert (theirs.runs, after.runs, ours.runs) == ([], ["emory"], ["meld"])


def test_what_another_process_leaves_unfinished_is_computed_here(context):
    theirs = Counted("experts", "emory")
    claim = context.store.claim(theirs.recipe)
    ours = Counted("experts", "meld", meanwhile=lambda: claim.__exit__(None, None, None))
    execute([theirs, ours], EXPERTS, context)
    assert (theirs.runs, ours.runs) == (["emory"], ["meld"])


def test_a_process_waits_for_what_only_another_one_computes(context, monkeypatch, caplog):
    theirs = Counted("experts", "emory")
    after = Counted("finetune", "emory", (theirs,))
    claim, waits = context.store.claim(theirs.recipe), []

    def wait(seconds):
        waits.append(seconds)
        if len(waits) == 3:
            store_elsewhere(context, theirs)
            claim.__exit__(None, None, None)

    monkeypatch.setattr("dfwe.pipeline.executor.time.sleep", wait)
    caplog.set_level("INFO")
    execute([theirs, after], ALL, context)
    assert (theirs.runs, after.runs, len(waits)) == ([], ["emory"], 3)
    assert caplog.text.count("Waiting for the process that computes experts: emory") == 1


def test_a_parent_that_vanishes_meanwhile_ends_the_waiting(context, monkeypatch):
    expert = Counted("experts", "meld")
    store_elsewhere(context, expert)
    tuned = Counted("finetune", "meld", (expert,))
    claim = context.store.claim(tuned.recipe)
    monkeypatch.setattr(
        "dfwe.pipeline.executor.time.sleep",
        lambda _: shutil.rmtree(context.store.folder(expert.recipe)),
    )
    with claim, pytest.raises(UserError, match="stage=experts"):
        execute([tuned], Stage("finetune", ("finetune",)), context)


def test_what_a_step_costs_does_not_grow_with_the_plan(context, monkeypatch):
    """At 60dbe5b 200 recipes take 4 ms each and 2,000 take 35."""
    looked = []
    contains = type(context.store).__contains__

    def counted(store, recipe):
        looked.append(recipe)
        return contains(store, recipe)

    monkeypatch.setattr(type(context.store), "__contains__", counted)
    lookups = []
    for steps in (10, 40):
        looked.clear()
        execute([Counted("experts", f"{steps} {i}") for i in range(steps)], EXPERTS, context)
        lookups.append(len(looked) / steps)
    assert lookups[0] == lookups[1]


def test_what_another_process_has_computed_meanwhile_is_left_out(context):
    first, others = Counted("experts", "a"), [Counted("experts", name) for name in "bc"]

    def meanwhile():
        for step in others:
            store_elsewhere(context, step)

    execute([replace(first, meanwhile=meanwhile), *others], EXPERTS, context)
    assert [step.runs for step in others] == [[], []]
