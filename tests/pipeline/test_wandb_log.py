"""Weights & Biases offline: what a run holds, read as `wandb` reads it."""

import json
from dataclasses import replace

import pytest
from killed import compute_until_killed
from offline import logged_in

from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import compute
from dfwe.pipeline.loggers import WANDB
from dfwe.studies.ensembling.plan import Plan
from dfwe.training.module import GenerationModule

pytestmark = pytest.mark.slow  # wandb's processes


def read(folder):
    """The records of an offline run."""
    (run,) = folder.glob("run-*.wandb")
    return [json.loads(line) for line in logged_in(run).splitlines()]


def runs(folder, step):
    return list(folder.rglob(f"offline-run-*-{step.recipe.address}"))


@pytest.fixture(scope="module")
def resumed(make_study, module_context):
    """A training that was killed in its second epoch and run again: its records, and the folders
    of its offline runs before and after."""
    import wandb

    study = make_study()
    training = replace(study.training, epochs=3)  # of two steps each
    (expert, *_) = Plan(replace(study, training=training)).experts
    place = module_context.output
    context = replace(
        module_context,
        loggers=(Deferred(WANDB, {"project": "p", "mode": "offline"}),),
        config={"training": {"learning_rate": 0.003}},
        chosen={"task": "mood", "training.learning_rate": "0.003"},
    )
    compute_until_killed(
        expert, replace(context, output=place / "first"), GenerationModule, "training_step", 4
    )
    before = runs(place, expert)
    compute(expert, replace(context, output=place / "second"))
    wandb.teardown()
    after = runs(place, expert)
    return read(after[-1]), before, after


def test_the_folder_of_a_killed_run_is_replaced_by_one_that_has_it_all(resumed):
    """Two of one id would replace each other when they are synced (wandb/wandb#3841)."""
    _, before, after = resumed
    assert [path.parts[-3] for path in before] == ["first"]
    assert [path.parts[-3] for path in after] == ["second"]


def test_every_step_is_there_once(resumed):
    rows = [record["history"]["item"] for record in resumed[0] if record["type"] == "history"]
    for key, steps in (("train/loss_step", range(6)), ("dev/score", (1, 3, 5))):
        assert [row["trainer/global_step"] for row in rows if key in row] == list(steps)
    scored = [row for row in rows if "dev/score" in row or "train/loss_epoch" in row]
    assert [row["epoch"] for row in scored] == [1, 1, 2, 2, 3, 3]


def test_the_summary_is_whole_and_has_the_best_of_each_curve(resumed):
    records, *_ = resumed
    summary = {}
    for record in records:
        if record["type"] == "summary":
            summary |= record["summary"].get("update", {})
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    scores = [row["dev/score"] for row in rows if "dev/score" in row]
    assert summary["dev/score"] == {"max": max(scores)}
    assert summary["train/loss_epoch"] == {
        "min": min(row["train/loss_epoch"] for row in rows if "train/loss_epoch" in row)
    }
    assert summary["dev/best_score"] == max(scores)
    assert scores[summary["best_epoch"] - 1] == max(scores)
    assert len(summary["weights_sha256"]) == 64
    ended = records[-1]["exit"]
    assert ended["exit_code"] == 0
    assert ended.keys() <= {"exit_code", "runtime"}  # whole seconds, left out where they are 0


def test_a_run_has_the_configuration_and_what_was_chosen_in_its_name(resumed):
    (run,) = (record["run"] for record in resumed[0] if record["type"] == "run")
    config = run["config"]["update"]
    assert config["training"] == {"learning_rate": 0.003}
    assert config["recipe"]["kind"] == "train"
    address = config["recipe"]["address"]
    name, group = run["display_name"], run["run_group"]
    assert name == f"train: mood, training.learning_rate=0.003 ({address[:6]})"
    assert group.startswith("mood-seed0, training.learning_rate=0.003 (")
