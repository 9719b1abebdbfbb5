"""The steps of a study: interrupted and resumed, stored with provenance, logged, what they are."""

import platform
from dataclasses import replace
from importlib.metadata import version

import pytest
import torch
from safetensors.torch import load_file

from dfwe.pipeline.executor import execute, lineage
from dfwe.pipeline.run_log import RunLog
from dfwe.pipeline.step import Run
from dfwe.stages.evaluate import Test, TestRecord
from dfwe.stages.train import TrainRecord
from dfwe.studies.region.backbones import backbone_space
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.stages import CentroidRecord, TransferRecord
from dfwe.weights.readout import readout_of

pytestmark = pytest.mark.slow  # whole studies
LOGGED = {  # tables and pictures by kind of step
    "train": [],
    "region-geometry": [
        "image region/cosine",
        "image region/tree",
        "image region/plane",
        "table region/cosine",
    ],
    "region-paths": [
        "image region/line",
        "image region/extrapolation",
        "table region/odds",
        "table region/lines",
    ],
    "region-centroid": [],
    "test": ["table test/scores"],
    "region-transfer": ["table region/transfer"],
}


@pytest.fixture(scope="module")
def steps(plan, stage):
    """Name -> step, of the whole graph."""
    return {step.recipe.name: step for step in plan.steps(stage.computes)}


def test_the_graph_has_every_test_as_a_step(plan, steps):
    tests = [step for step in steps.values() if isinstance(step, Test)]
    assert tests == list(plan.transfer.tests) == list(plan.transfer.parents)
    assert len(tests) == 3 * 3  # datasets and starts
    assert set(lineage(plan.transfer)) == set(steps.values()) - {plan.geometry, plan.paths}


def test_an_interrupted_study_resumes_and_recomputes_no_finished_step(calls, steps):
    first, second, third = calls
    kinds = [steps[call[-1]].kind for call in calls]
    assert kinds == ["region-centroid", "test", "region-transfer"]
    assert (second[0], third[0]) == (first[-1], second[-1])  # where the call before stopped
    finished = [*first[:-1], *second[:-1], *third]
    assert len(finished) == len(set(finished)) == len(steps)
    assert set(finished) == set(steps)


def test_what_is_in_the_store_is_not_computed_again(plan, stage, region_context, caplog):
    caplog.set_level("INFO")
    execute(plan.steps(stage.computes), stage, region_context)
    assert caplog.messages == ["Everything stage=region computes is in the store."]


def test_every_step_is_stored_with_seconds_device_and_versions(steps, region_context):
    for step in steps.values():
        where = region_context.store.provenance(step.recipe)
        assert 0 < where.seconds < 600
        assert where.device == "cpu"
        assert where.label == step.label
        assert where.versions["python"] == platform.python_version()
        for library in ("torch", "transformers", "lightning", "numpy"):
            assert where.versions[library] == version(library)


def test_every_step_is_logged_by_each_configured_logger(steps, calls, logged, region_context):
    stopped = {call[-1] for call in calls[:-1]}
    for name, step in steps.items():
        *events, result, end = logged[name]
        assert (result, end) == (f"result {name} in {name}", "success")
        assert events.count("failed") == (name in stopped)
        shown = [event for event in events if event.startswith(("table", "image"))]
        assert shown == LOGGED[step.kind]
        tables = {path.stem for path in (region_context.output / "csv" / name).glob("*_*.csv")}
        expected = {event.removeprefix("table ") for event in shown if event.startswith("table")}
        assert tables == {table.replace("/", "_") for table in expected}


def test_transfer_has_dev_and_test_of_every_training(plan, region_context):
    store = region_context.store
    rows = store.record(plan.transfer.recipe, TransferRecord).rows
    assert len(rows) == len(plan.transfer.tests)
    for row, test in zip(rows, plan.transfer.tests, strict=True):
        assert row.test == store.record(test.recipe, TestRecord).scores("model").score
        assert row.dev == store.record(test.tested.recipe, TrainRecord).dev.score
        assert (row.dataset, row.seed, row.size) == (test.task.name, 0, 12)
    starts = ["pretrained", "centroid", "average of 1"]
    assert [row.start for row in rows] == 3 * starts


def test_a_centroid_leaves_out_the_target_and_what_shares_its_texts(plan, region_context):
    store, step = region_context.store, plan.centroids["one"]["centroid"]
    assert {parent.monitor.name for parent in step.parents} == {"three"}
    assert store.record(step.recipe, CentroidRecord).models == 2
    assert readout_of(store.weights(step.recipe)) == "mean"  # as its models are read
    mean = load_file(store.weights(step.recipe) / "model.safetensors")
    models = [load_file(store.weights(s.recipe) / "model.safetensors") for s in step.parents]
    for name, values in mean.items():
        expected = sum(model[f"bert.{name}"] for model in models) / 2
        assert torch.allclose(values, expected, atol=1e-6), name


def test_bitfit_runs_start_from_the_centroid_and_move_its_biases_and_pooler_alone(
    plan, region_context
):
    trainings = [test.tested for test in plan.transfer.tests]
    training = next(step for step in trainings if step.label == "one from centroid, 0")
    assert training.start == plan.centroids["one"]["centroid"]
    folders = [region_context.store.weights(s.recipe) for s in (training.start, training)]
    start, tuned = (load_file(folder / "model.safetensors") for folder in folders)
    moved = {n for n, values in start.items() if not torch.equal(values, tuned[f"bert.{n}"])}
    assert "pooler.dense.weight" in moved
    assert all(name.endswith("bias") for name in moved - {"pooler.dense.weight"})


def test_labels_and_groups_change_no_address(plan, study, settings):
    class Renamed(RegionPlan):
        label = "another label"
        group = "another group"

    renamed = Renamed(study, settings)
    for name in ("geometry", "paths", "transfer"):
        step, other = getattr(plan, name), getattr(renamed, name)
        assert (other.label, other.group) == ("another label", "another group")
        assert other.recipe.name == step.recipe.name


def test_backbones_are_the_checkpoints_without_their_heads(plan, region_context, bert):
    folder = region_context.store.weights(plan.grid.models[0].recipe)
    space, backbone, _ = backbone_space(bert, [folder], ["x"])
    space.write([1, 0], backbone)
    whole = load_file(folder / "model.safetensors")
    for name, value in backbone.named_parameters():
        assert torch.equal(value, whole[f"bert.{name}"]), name
    space.write([0, 1], backbone)
    pretrained = load_file(bert / "model.safetensors")
    assert torch.equal(backbone.pooler.dense.weight, pretrained["pooler.dense.weight"])


def test_the_pretrained_backbone_is_what_trainings_start_from(plan, region_context, tmp_path):
    grid = replace(plan.grid, model=replace(plan.study.model, pooler="identity"))
    run = Run(plan.geometry, region_context, tmp_path, tmp_path, RunLog(()))
    space, backbone, _ = grid.space(run)
    space.write([0] * len(grid.models) + [1], backbone)
    assert torch.equal(backbone.pooler.dense.weight, torch.eye(len(backbone.pooler.dense.weight)))
