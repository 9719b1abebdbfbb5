"""What is known of a region study before any work."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from dfwe.errors import UserError
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage
from dfwe.pipeline.loggers import CSV
from dfwe.pipeline.store import Store
from dfwe.studies.region.config import Settings, Start
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.results import region

CONF = Path(__file__).parents[3] / "conf" / "region"
STAGE = Stage("region", ("pretrain", "experts", "finetune", "region/transfer"))
MADE = {"vocabulary": 400, "d_model": 8, "d_ff": 8, "layers": 1, "heads": 1, "seed": 0}


@pytest.fixture
def context(tmp_path):
    def unused(*args, **settings):
        raise AssertionError("nothing trains or logs")

    return Context(Store(tmp_path / "store"), unused, CSV(), tmp_path / "out", lambda stage: stage)


@pytest.mark.parametrize("settings", [{}, {"model": Seq2SeqLM("made", pretraining=MADE)}])
def test_a_t5_without_biases_is_told_so_at_once(settings, make_study, context):
    key = r"region\.centroid\.parameters"
    with pytest.raises(UserError, match=f"{key}=biases .* a t5 .* set {key}=norms"):
        region(lambda: make_study(**settings), STAGE, context, Settings())


@pytest.mark.parametrize("settings", [{}, {"model": Seq2SeqLM("made", pretraining=MADE)}])
def test_the_preset_for_friends_trains_what_a_t5_has(settings, make_study):
    preset = yaml.safe_load((CONF / "friends.yaml").read_text())["centroid"]["parameters"]
    start = Start(parameters=preset)
    RegionPlan(make_study(**settings), replace(Settings(), centroid=start)).check()


def test_where_nothing_is_left_to_average_the_geometry_is_planned_still(make_study):
    related = Settings(same_texts=(("mood", "tone", "air", "voice"),))
    plan = RegionPlan(make_study(), related)
    steps = list(plan.steps(("experts", "region/geometry")))
    assert steps[-1] is plan.geometry
    with pytest.raises(UserError, match="Nothing is left to average for mood"):
        list(plan.steps(STAGE.makes))


def test_a_study_that_no_probe_can_read_is_refused_at_once(make_study, monkeypatch):
    monkeypatch.setattr("dfwe.studies.region.stages.Paths._is_single_label", lambda *unused: False)
    start = Start(parameters="norms")
    with pytest.raises(UserError, match="which a linear probe needs"):
        RegionPlan(make_study(), replace(Settings(), centroid=start)).check()
