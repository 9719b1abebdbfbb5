"""The examples run as they stand, and end in what they claim."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(code, folder):
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_file_is_listed():
    listed = re.findall(r"^\| `(.+?)` \|", (EXAMPLES / "README.md").read_text(), re.M)
    assert {*listed, "README.md"} == {path.name for path in EXAMPLES.iterdir() if path.is_file()}


def test_modules_are_better_mixed_than_alone(tmp_path):
    *alone, mixed = re.findall(
        r"^(?:one expert|mixture) +([\d.]+)",
        run((EXAMPLES / "mix_modules.py").read_text(), tmp_path),
        re.M,
    )
    assert len(alone) == 3
    assert float(mixed) > max(map(float, alone)) + 10


def test_the_notebook_exports_what_it_found(tmp_path):
    cells = json.loads((EXAMPLES / "mix_checkpoints.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shown = run("\n".join(code), tmp_path)
    *alone, mixed = re.findall(r"^(?:colours|sizes|numbers|mixture) +(-[\d.]+)", shown, re.M)
    assert len(alone) == 3
    assert float(mixed) >= max(map(float, alone))
    assert shown.splitlines()[-2] == mixed
