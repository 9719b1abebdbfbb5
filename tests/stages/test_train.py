"""The step that trains an expert: what its recipe has and what it refuses."""

import signal
from dataclasses import replace
from functools import partial

import pytest

from dfwe.callbacks.checkpoint import EpochCheckpoint
from dfwe.errors import UserError
from dfwe.pipeline.context import device_kind
from dfwe.pipeline.executor import compute
from dfwe.stages.train import TrainRecord
from dfwe.studies.ensembling.plan import Plan


@pytest.mark.parametrize("accelerator", ["cpu", "cuda", "gpu"])
def test_a_training_names_the_kind_of_its_device(accelerator, make_study):
    """Dropout draws other numbers on each kind.

    Commit 60dbe5b: one address, so that a store shared by kinds keeps whichever came first.
    """
    kind = device_kind(accelerator)
    (expert, *_), (other, *_) = (
        Plan(make_study(device=device)).experts for device in (kind, "other")
    )
    assert expert.settings()["device"] == kind
    assert expert.recipe != other.recipe


def test_auto_is_the_kind_that_lightning_chooses(context):
    trainer = replace(context.trainer, arguments={"accelerator": "auto"})
    assert device_kind("auto") == replace(context, trainer=trainer).device.type


def test_a_training_for_another_kind_of_device_is_refused(make_study, context):
    (expert, *_) = Plan(make_study(device="cuda")).experts
    with pytest.raises(UserError, match=r"trained on cuda.* device is cpu; set trainer.acc"):
        compute(expert, context)


def test_a_split_smaller_than_a_step_is_refused_before_any_work(make_study, context):
    study = make_study()
    study = replace(study, training=replace(study.training, batch=8, effective_batch=800))
    with pytest.raises(UserError, match="too few for one step"):
        Plan(study).check(context.store)


def test_a_training_that_a_signal_stops_keeps_its_epochs(make_study, context, stopped):
    study = make_study()
    (expert, *_) = Plan(replace(study, training=replace(study.training, epochs=500))).experts
    resume = context.store.root / ".work" / expert.recipe.name / "resume.json"
    assert stopped(partial(compute, expert, context), signal.SIGTERM, resume, "", 1) == 143
    assert EpochCheckpoint(resume.parent).resumable is not None


@pytest.mark.parametrize(("least", "epochs"), [(0, 2), (12, 3), (40, 10)])
def test_a_training_on_few_examples_has_the_steps_that_it_needs(
    least, epochs, make_study, context, monkeypatch
):
    """An epoch has 4 steps. No epoch is better than the first, and patience is one epoch."""
    study = make_study()
    training = replace(study.training, batch=4, effective_batch=4, epochs=3, patience=1)
    (expert, *_) = Plan(replace(study, training=replace(training, steps_at_least=least))).experts
    monkeypatch.setattr("dfwe.callbacks.epochs.ScoredEpochs.best", 1)
    compute(expert, context)
    record = context.store.record(expert.recipe, TrainRecord)
    assert len(study.task.examples(study.corpus, "train")) == 16
    assert len(record.epochs) == epochs
    assert record.best_epoch == 1
