"""What runs a plan: the trainer, the device and the workers."""

from dataclasses import replace

import pytest
import torch

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.deferred import Deferred


def trainer_of(context, **arguments):
    changed = replace(context, trainer=Deferred("lightning.Trainer", arguments))
    return changed.build_trainer(logger=False)


def test_the_trainer_has_its_own_arguments_and_those_of_a_step(context):
    trainer = context.build_trainer(max_epochs=3, logger=False)
    assert (trainer.max_epochs, trainer.loggers) == (3, [])
    assert context.device == torch.device("cpu")


def test_a_device_whose_package_is_missing_is_named(context):
    with pytest.raises(UserError, match=r"^trainer=: Lightning says: .*torch_xla"):
        trainer_of(context, accelerator="tpu")


def test_a_trainer_of_several_devices_is_refused_with_the_way_out(context):
    with pytest.raises(UserError, match="start the same command once for each device"):
        trainer_of(context, accelerator="cpu", devices=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has such a device")
def test_a_device_that_does_not_exist_is_named(context):
    with pytest.raises(UserError, match=r"Lightning says: .*CUDA"):
        trainer_of(context, accelerator="cuda")


@pytest.mark.parametrize("key", ["max_steps", "precision"])
def test_a_trainers_argument_that_changes_a_result_is_refused(key, context):
    with pytest.raises(UserError, match=rf"trainer\.{key} is not one of accelerator, devices"):
        trainer_of(context, accelerator="cpu", **{key: 2})


def test_several_workers_are_for_a_cpu(context, monkeypatch):
    replace(context, workers=2).check()
    monkeypatch.setattr(Context, "device", torch.device("cuda"))
    replace(context, workers=1).check()
    with pytest.raises(UserError, match=r"this run is on cuda; leave workers=1"):
        replace(context, workers=2).check()


@pytest.mark.parametrize("workers", [0, -1, "two"])
def test_workers_are_a_whole_number(workers, context):
    with pytest.raises(UserError, match=f"workers={workers} must be a whole number"):
        replace(context, workers=workers)
