"""What W&B is told of a result: digests offline, artifacts with their lineage online."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from dfwe.errors import UserError
from dfwe.pipeline.context import LightningTrainer
from dfwe.pipeline.loggers import WandB, WandBLog
from dfwe.pipeline.recipe import Recipe

EXPERT = Recipe("experts", 1, {"seed": 0})
TUNED = Recipe("finetune", 1, {"seed": 0}, (EXPERT,))


class Run:
    """Notes what a W&B run is told."""

    def __init__(self, offline):
        self.offline = offline
        self.summary, self.used, self.logged = {}, [], []

    def use_artifact(self, name):
        import wandb

        self.used.append(name)
        if "lost" in self.summary:
            raise wandb.errors.CommError("not there")

    def log_artifact(self, artifact):
        self.logged.append(artifact)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "recipe.json").write_text(json.dumps({"weights_sha256": "ab12"}))
    return tmp_path


def told(run, folder):
    log = WandBLog.__new__(WandBLog)  # without Lightning's logger, which wants a real run
    log.run = run
    log.result(TUNED, folder)
    return run


def test_offline_the_digest_is_in_the_summary(folder):
    run = told(Run(offline=True), folder)
    assert run.summary == {"weights_sha256": "ab12"}
    assert run.used == run.logged == []


@pytest.mark.parametrize("lost", [False, True])
def test_online_an_artifact_has_its_parents_as_inputs(folder, lost):
    run = Run(offline=False)
    run.summary.update({"lost": True} if lost else {})
    told(run, folder)
    assert run.used == [f"experts-{EXPERT.address}:latest"]
    (made,) = run.logged
    assert (made.name, made.type) == (f"finetune-{TUNED.address}", "model")
    assert made.metadata["weights_sha256"] == "ab12"
    assert made.metadata["parents"] == [EXPERT.address]


def test_a_device_whose_package_is_missing_is_named():
    with pytest.raises(UserError, match=r"^trainer=: Lightning says: .*torch_xla"):
        LightningTrainer("tpu")(logger=False)


def test_a_trainer_of_several_devices_is_refused_with_the_way_out():
    with pytest.raises(UserError, match="start the same command once for each device"):
        LightningTrainer("cpu", devices=2)(logger=False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has such a device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(UserError, match=r"Lightning says: .*CUDA"):
        LightningTrainer("cuda")(logger=False)


def test_an_unknown_mode_of_weights_and_biases_is_refused():
    with pytest.raises(UserError, match=r"logger\.mode=onlin .* offline, online, disabled"):
        WandB(mode="onlin")


def test_several_workers_are_for_a_cpu(context):
    several = replace(context, workers=2)
    several.check()
    accelerated = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda")))
    with pytest.raises(UserError, match=r"this run is on cuda; leave workers=1"):
        replace(several, trainer=lambda **settings: accelerated).check()
