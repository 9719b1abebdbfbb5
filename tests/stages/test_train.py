"""The step that trains an expert: what its recipe has and what it refuses."""

import csv
import logging
import signal
from dataclasses import replace
from functools import partial

import pytest
from killed import compute_until_killed

from dfwe.callbacks.checkpoint import EpochCheckpoint
from dfwe.errors import UserError
from dfwe.pipeline.context import device_kind
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import compute
from dfwe.pipeline.store import Store
from dfwe.scoring.scorer import Scorer
from dfwe.stages.train import TrainRecord
from dfwe.studies.ensembling.plan import Plan
from dfwe.training.module import GenerationModule
from dfwe.weights.loading import load


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


SHORT = {  # arguments of the Trainer -> epochs and optimizer steps; there are two each
    "fast": ({"fast_dev_run": 1}, 1, 1),
    "few batches": ({"limit_train_batches": 1, "limit_val_batches": 1}, 3, 3),
    "few steps": ({"max_steps": 3}, 2, 3),
    "no time": ({"max_time": {"milliseconds": 1}}, 1, 1),
    "overfitting": ({"overfit_batches": 1}, 3, 3),
}


@pytest.mark.parametrize(("arguments", "epochs", "steps"), SHORT.values(), ids=SHORT)
def test_a_training_is_as_short_as_the_trainer_says(
    arguments, epochs, steps, make_study, context, monkeypatch
):
    study = make_study()
    training = replace(study.training, epochs=3, steps_at_least=6, patience=5)
    (expert, *_) = Plan(replace(study, training=training)).experts
    batches, step = [], GenerationModule.training_step

    def counted(module, batch, number):
        batches.append(batch)
        step(module, batch, number)

    monkeypatch.setattr(GenerationModule, "training_step", counted)
    trainer = replace(context.trainer, arguments={"accelerator": "cpu", **arguments})
    short = replace(context, trainer=trainer)
    compute(expert, short)
    record = short.store.record(expert.recipe, TrainRecord)
    assert (len(record.epochs), len(batches)) == (epochs, steps)
    assert all(0 <= epoch.dev.score <= 100 for epoch in record.epochs)
    assert expert.recipe not in context.store
    if "overfit_batches" in arguments:
        first, *others = [[part.source.tolist() for part in batch] for batch in batches]
        assert all(batch == first for batch in others)


def test_a_training_without_a_dev_batch_is_refused(make_study, context):
    (expert, *_) = Plan(make_study()).experts
    trainer = replace(context.trainer, arguments={"accelerator": "cpu", "limit_val_batches": 0})
    with pytest.raises(UserError, match=r"set trainer\.limit_val_batches=1 or more"):
        compute(expert, replace(context, trainer=trainer))


def watched(name, **arguments):
    return Deferred(f"lightning.pytorch.callbacks.{name}", arguments)


def rows_of(context, step):
    """The rows that the CSV logger has of a step, without empty cells."""
    with (context.output / "csv" / step.recipe.name / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if v} for row in csv.DictReader(file)]


def test_observers_change_no_weight_and_log_what_they_see(make_study, context, caplog):
    logging.getLogger("lightning.pytorch.callbacks.model_summary").addHandler(caplog.handler)
    (expert, *_) = Plan(make_study()).experts
    names = ("LearningRateMonitor", "DeviceStatsMonitor", "ModelSummary", "Timer")
    observers = tuple(map(watched, (*names, "TQDMProgressBar")))
    seen = replace(context, callbacks=observers, store=Store(context.output / "other"))
    for place in (context, seen):
        compute(expert, place)
    files = [place.store.stored(expert.recipe).files for place in (context, seen)]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    logged = {key for row in rows_of(seen, expert) for key in row}
    assert "lr-Adam" in logged
    assert any(key.startswith("DeviceStatsMonitor") for key in logged)
    assert any("Trainable params" in message for message in caplog.messages)


def test_an_observer_without_a_logger_is_one_sentence(make_study, context):
    (expert, *_) = Plan(make_study()).experts
    silent = replace(context, loggers=(), callbacks=(watched("LearningRateMonitor"),))
    with pytest.raises(UserError, match=r"^Lightning says: .*no logger\.$"):
        compute(expert, silent)


AVERAGING = {  # an optimizer, a schedule and a callback that are not the usual ones
    "optimizer": Deferred("torch.optim.AdamW", {"weight_decay": 0.1}),
    "schedule": Deferred("dfwe.training.optimizers.cosine"),
    "callbacks": [watched("EMAWeightAveraging", decay=0.6)],
    "epochs": 3,
}


@pytest.fixture(scope="module")
def averaged(make_study, module_context):
    """A training by these, and where its result and log are."""
    study = make_study()
    (expert, *_) = Plan(replace(study, training=replace(study.training, **AVERAGING))).experts
    compute(expert, module_context)
    return expert, module_context


KILLS = {  # there are two steps per epoch
    "behind a checkpoint": (EpochCheckpoint, "_save_checkpoint", 1),
    "in an epoch": (GenerationModule, "training_step", 5),
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_a_killed_training_ends_with_the_weights_and_the_log_of_a_whole_one(
    kill, averaged, context
):
    expert, whole = averaged
    compute_until_killed(expert, context, *kill)
    compute(expert, context)
    files = [place.store.stored(expert.recipe).files for place in (context, whole)]
    assert files[0]["model.safetensors"] == files[1]["model.safetensors"]
    rows = rows_of(context, expert)
    assert rows == rows_of(whole, expert)
    steps = [row["step"] for row in rows if "train/loss_step" in row]
    assert steps == [str(step) for step in range(6)]
    assert [row["epoch"] for row in rows if "dev/score" in row] == ["1.0", "2.0", "3.0"]


def test_the_weights_kept_are_those_that_dev_scored(averaged):
    """Averaging puts its weights into the network while dev is scored, and takes them out."""
    step, context = averaged
    network, tokenizer = load(context.store.weights(step.recipe))
    dev = step.model.tokenize(step.monitor, step.corpus, "dev", tokenizer)
    scores = Scorer(network, dev, step.monitor, step.decoding)()
    record = context.store.record(step.recipe, TrainRecord)
    assert scores.log_likelihood == pytest.approx(record.dev.log_likelihood, abs=1e-6)


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
