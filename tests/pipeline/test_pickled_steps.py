"""Steps travel between processes: small, without data, and the same at the other end."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig

from dfwe.config import build, ensembling_study
from dfwe.pipeline.executor import Stage
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.region.config import Settings
from dfwe.studies.region.plan import RegionPlan

CONF = Path(__file__).parents[2] / "conf"
QUICK = ("corpus=sample", "model=tiny", "trainer=cpu")
PLANS = {
    "controls": ("experiment=controls", "task=relations", "search/groups=part"),
    "pretrained": ("task=emory", "sources.list=[meld]", "model=tiny_made"),
    "region": ("stage=region", "task=emory", "sources.list=[meld,relations]"),
}
# Another process knows the steps by their pickles alone.
SCRIPT = """
import json, pickle, sys
print(json.dumps([step.recipe.name for step in pickle.load(sys.stdin.buffer)]))
"""


@pytest.fixture(scope="module")
def planned():
    """Name of a plan -> its steps, with all data read that their recipes need."""

    def plan(name):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("config", overrides=[*QUICK, *PLANS[name]], return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
            study = ensembling_study(cfg)
            if name == "region":
                stage = build("stage", cfg.stage, Stage)
                region = build("region", cfg.region, Settings)
                return list(RegionPlan(study, region).steps(stage.computes))
        return list(Plan(study).steps)

    yield plan
    HydraConfig.instance().cfg = None


@pytest.mark.parametrize("name", PLANS)
def test_every_step_pickles_small_and_is_equal_in_another_process(name, planned):
    steps = {step.recipe.name: step for step in planned(name)}  # the recipes read all data
    sizes = {name: len(pickle.dumps(step)) for name, step in steps.items()}
    assert {name: size for name, size in sizes.items() if size >= 100_000} == {}
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=pickle.dumps(list(steps.values())),  # in one, so that data are read once there
        capture_output=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr.decode()
    assert json.loads(process.stdout) == list(steps)
