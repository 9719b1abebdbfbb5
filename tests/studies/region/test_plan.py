"""What is known of a region study before any work."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dfwe.errors import UserError
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage
from dfwe.pretraining.config import PretrainingConfig
from dfwe.studies.region.config import Settings, Start
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.results import region

CONF = Path(__file__).parents[3] / "conf" / "region"
STAGE = Stage("region", ("pretrain", "experts", "finetune", "evaluate", "region/transfer"))
PRETRAINED_HERE = Seq2SeqLM(
    "tiny",
    pretraining=PretrainingConfig(
        vocabulary=400,
        d_model=8,
        d_ff=8,
        layers=1,
        heads=1,
        block=8,
        batch=1,
        density=0.15,
        span=3,
        whole=0.0,
        epochs=1,
        learning_rate=1e-3,
        warmup=0,
        seed=0,
    ),
)


def refuse(*arguments, **settings):
    """Stands where a trainer or a logger would."""
    raise AssertionError("nothing trains or logs")


@pytest.fixture
def context(context):
    nothing = Deferred(f"{refuse.__module__}.refuse")
    return replace(context, trainer=nothing, loggers=(nothing,))


@pytest.mark.parametrize("settings", [{}, {"model": PRETRAINED_HERE}])
def test_a_t5_without_biases_is_refused_before_any_work(settings, make_study, context):
    key = r"region\.centroid\.parameters"
    with pytest.raises(UserError, match=f"{key}=biases .* a t5 .* set {key}=norms"):
        region(lambda: make_study(**settings), STAGE, context, Settings())


@pytest.mark.parametrize("settings", [{}, {"model": PRETRAINED_HERE}])
def test_the_preset_for_friends_trains_what_a_t5_has(settings, make_study):
    preset = yaml.safe_load((CONF / "friends.yaml").read_text())["centroid"]["parameters"]
    start = Start(parameters=preset)
    RegionPlan(make_study(**settings), replace(Settings(), centroid=start)).check()


def test_where_nothing_is_left_to_average_the_geometry_is_still_planned(make_study):
    related = Settings(same_texts=(("mood", "tone", "air", "voice"),))
    plan = RegionPlan(make_study(), related)
    steps = list(plan.steps(("experts", "region/geometry")))
    assert steps[-1] is plan.geometry
    with pytest.raises(UserError, match="Nothing is left to average for mood"):
        list(plan.steps(STAGE.computes))


def answered_freely(task):
    """The task without a set of labels to choose from."""

    def read(*arguments):
        return [replace(example, options=()) for example in task.read(*arguments)]

    return replace(task, read=read)


def test_a_study_that_no_probe_can_read_is_refused_before_any_work(make_study):
    study, start = make_study(), Start(parameters="norms")
    tasks = map(answered_freely, (study.task, *study.sources))
    free = replace(study, task=next(tasks), sources=tuple(tasks))
    with pytest.raises(UserError, match="which a linear probe needs"):
        RegionPlan(free, Settings(centroid=start)).check()
    RegionPlan(study, Settings(centroid=start)).check()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [({"seeds": (1,)}, "two or more different seeds"), ({"points": 2}, r"region\.points=2 .* 3")],
)
def test_settings_that_make_no_sense_are_refused(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        Settings(**wrong)


def rows(plan, corpus, split="train"):
    """Dataset -> how many of its rows a corpus gives."""
    return {task.name: len(task.examples(corpus, split)) for task in plan.tasks}


def test_a_grid_has_the_limits_of_its_roles_and_a_start_its_own(study, settings):
    """Commit 60dbe5b: `source_limit` is not known; every dataset of the grid has 16 rows."""
    limits = replace(study.corpus, limit={"one": 4}, source_limit=16)
    plan = RegionPlan(
        replace(study, corpus=limits), replace(settings, centroid=Start(limits=(8,)))
    )
    assert rows(plan, plan.grid.models[0].corpus) == {"one": 4, "two": 16, "three": 16}
    assert rows(plan, plan.paths.corpus, "dev") == {"one": 4, "two": 16, "three": 16}
    trainings = [test.tested for test in plan.transfer.tests]
    assert {len(run.tasks[0].examples(run.corpus, "train")) for run in trainings} == {8}


def test_a_corpus_without_rows_cannot_be_cut(make_study):
    plan = RegionPlan(make_study(), Settings(centroid=Start(limits=(8,))))
    with pytest.raises(UserError, match=r"corpus=toy cannot be cut to 8 rows; set region\.cent"):
        _ = plan.transfer
