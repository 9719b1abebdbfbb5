"""The torture of `make torture`, one chain of it: a killed plan ends as an undisturbed one."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "tools" / "torture.py"
SMALL = ("sources.list=[meld]", "training.epochs=1", "search.folds=null")
FEW = {"kills": 1, "errors": 0, "sizes": 0, "full-disks": 0, "damages": 0, "crowds": 0}


def test_a_chain_of_kills_changes_no_result():
    options = [word for name, count in FEW.items() for word in (f"--{name}", str(count))]
    run = subprocess.run(
        [sys.executable, SCRIPT, "--seed", "3", *options, *SMALL],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = run.stdout.splitlines()
    assert run.returncode == 0, run.stdout + run.stderr
    assert any(line.startswith("killed in train") for line in lines)
    assert any(
        line.startswith("killed") and line.split()[-4:-2] == ["1", "passed"] for line in lines
    )
    assert all(line.endswith(" 0 failed") for line in lines if line.endswith("failed"))
