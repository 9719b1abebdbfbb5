"""What runs a plan: the trainer, the device and the workers."""

import sys
from dataclasses import replace

import pytest
import torch

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.deferred import Deferred


def with_trainer(context, **arguments):
    return replace(context, trainer=Deferred("lightning.Trainer", arguments))


def trainer_of(context, **arguments):
    return with_trainer(context, **arguments).build_trainer(logger=False)


def test_the_trainer_has_its_own_arguments_and_those_of_a_step(context):
    trainer = context.build_trainer(max_epochs=3, logger=False)
    assert (trainer.max_epochs, trainer.loggers) == (3, [])
    assert context.device == torch.device("cpu")


def test_a_device_whose_package_is_missing_is_named(context):
    with pytest.raises(UserError, match=r"^trainer=: Lightning says: .*torch_xla"):
        trainer_of(context, accelerator="tpu")


def test_a_machine_of_several_devices_is_refused_with_the_way_out(context, monkeypatch):
    counted = "lightning.pytorch.accelerators.CPUAccelerator.auto_device_count"
    monkeypatch.setattr(counted, lambda *unused: 2)
    with pytest.raises(UserError, match=r"devices=auto are 2: .* command once for each device"):
        trainer_of(context, accelerator="cpu", devices="auto")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has such a device")
def test_a_device_that_does_not_exist_is_named_before_any_work(context):
    with pytest.raises(UserError, match=r"Lightning says: .*CUDA"):
        with_trainer(context, accelerator="cuda").check()


def test_what_is_shortened_gets_no_address_in_the_store_that_was_given(context, caplog):
    caplog.set_level("INFO")
    short = with_trainer(context, accelerator="cpu", max_steps=3, limit_val_batches=1)
    assert short.store.root == context.output / "store"
    assert replace(short, workers=2).store.root == short.store.root
    (said,) = caplog.messages
    assert said.startswith(
        "Trainings are shortened by trainer.max_steps, trainer.limit_val_batches: "
    )
    assert str(context.store.root) in said
    assert short.build_trainer(logger=False).max_steps == -1  # of a search: it is whole
    assert with_trainer(context, max_steps=-1, fast_dev_run=False).store is context.store


def test_what_changes_no_result_goes_to_the_trainer(context):
    trainer = trainer_of(
        context, accelerator="cpu", log_every_n_steps=7, num_sanity_val_steps=2, benchmark=True
    )
    assert (trainer.log_every_n_steps, trainer.num_sanity_val_steps) == (7, 2)


def test_a_profiler_writes_a_file_of_that_name_into_the_runs_folder(context):
    profiled = with_trainer(context, accelerator="cpu", profiler="simple")
    profiler = profiled.build_trainer("train-ab12", logger=False).profiler
    assert (profiler.dirpath, profiler.filename) == (context.output / "profile", "train-ab12")


def test_several_workers_are_for_a_cpu(context, monkeypatch):
    replace(context, workers=2).check()
    monkeypatch.setattr(Context, "device", torch.device("cuda"))
    replace(context, workers=1).check()
    with pytest.raises(UserError, match=r"this run is on cuda; leave workers=1"):
        replace(context, workers=2).check()


def test_workers_are_refused_where_processes_cannot_be_forked(context, monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    replace(context, workers=1).check()
    with pytest.raises(UserError, match=r"workers=2 forks processes, which macOS"):
        replace(context, workers=2).check()


@pytest.mark.parametrize("workers", [0, -1, "two"])
def test_workers_are_a_whole_number(workers, context):
    with pytest.raises(UserError, match=f"workers={workers} must be a whole number"):
        replace(context, workers=workers)
