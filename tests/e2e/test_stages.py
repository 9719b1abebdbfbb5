"""The stages one by one, a kill in between, a sweep, and the installed wheel."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # trains by the command
ROOT = Path(__file__).parents[2]


def weights(folder: Path) -> dict[str, str]:
    """Name -> sha256 of the weights, for everything in the store."""
    recipes = {path.parent.name: path for path in folder.glob("multirun/store/*/recipe.json")}
    files = {name: json.loads(path.read_text())["files"] for name, path in recipes.items()}
    return {name: listed["model.safetensors"]["sha256"] for name, listed in files.items()}


def test_a_killed_training_resumes_and_ends_with_the_same_weights(experts, tmp_path, dfwe):
    whole, overrides = experts
    trained = (signal.SIGKILL, "multirun/store/.work/*/resume.json", "{", 1)
    assert dfwe(tmp_path, *overrides, signal=trained).returncode == -signal.SIGKILL
    assert dfwe(tmp_path, *overrides).returncode == 0
    assert len(weights(whole)) == 3
    assert weights(tmp_path) == weights(whole)
    assert not list(tmp_path.glob("multirun/store/.work/*/"))


def test_the_wheel_brings_its_configuration_and_assets(tmp_path):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", tmp_path, ROOT],
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    place = tmp_path / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--no-compile", "-t", place, wheel],
        check=True,
        capture_output=True,
    )
    code = (
        "import dfwe, runpy, sys; assert sys.argv[1] in dfwe.__file__, dfwe.__file__\n"
        "del sys.argv[1]; runpy.run_module('dfwe.run', run_name='__main__')"
    )
    arguments = ["stage=finetune", "task=relations", "corpus=sample", "model=tiny"]
    process = subprocess.run(
        [sys.executable, "-c", code, str(place), *arguments],
        cwd=tmp_path,
        text=True,
        env=os.environ | {"PYTHONPATH": str(place)},
        capture_output=True,
        check=False,
    )
    # It read configuration, corpus and model, and then missed the experts.
    assert "stage=experts" in process.stderr, process.stderr
    assert process.returncode == 1
