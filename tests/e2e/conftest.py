"""The user's commands as subprocesses, each test in a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "DFWE_DATA"}
    return kept | {
        "WANDB_DATA_DIR": str(folder / "wandb-data"),
        "WANDB_CACHE_DIR": str(folder / "wandb-cache"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "80",
    }


def call(folder: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """`python -m dfwe.run ...` in `folder`, its store there too."""
    return subprocess.run(
        [sys.executable, "-m", "dfwe.run", *arguments],
        cwd=folder,
        capture_output=True,
        env=environment(folder) | more,
        text=True,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def dfwe():
    """The command: folder, arguments, environment -> the finished process."""
    return call


@pytest.fixture(scope="session")
def forked(tmp_path_factory):
    """The command as a fork of one process: folder, arguments -> the finished process.

    With `signal=(number, pattern, text, times)` it gets one once a file in the folder has the text
    so many times; `seconds` is then how long it took to end.
    """
    place = tmp_path_factory.mktemp("forks")
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("forks.py"))],
        cwd=place,
        env=environment(place),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(folder: Path, *arguments: str, signal=None) -> subprocess.CompletedProcess[str]:
        outputs = {name: str(place / name) for name in ("stdout", "stderr")}
        request = {"folder": str(folder), "arguments": arguments, **outputs}
        if signal is not None:
            number, *when = signal
            request["signal"] = (number, str(folder), *when)
        assert server.stdin is not None
        assert server.stdout is not None
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        code, seconds = json.loads(server.stdout.readline())
        texts = {name: Path(path).read_text() for name, path in outputs.items()}
        finished = subprocess.CompletedProcess(["dfwe", *arguments], code, **texts)
        finished.seconds = seconds
        return finished

    yield run
    assert server.stdin is not None
    server.communicate(timeout=60)


@pytest.fixture(scope="session")
def start():
    """The command, started and not waited for."""

    def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "dfwe.run", *arguments],
            cwd=folder,
            text=True,
            env=environment(folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    return begin


@pytest.fixture(scope="session")
def experts(tmp_path_factory):
    """(folder, overrides) of the experts of one target and one source."""
    folder = tmp_path_factory.mktemp("experts")
    overrides = (
        "stage=experts",
        "task=meld",
        "sources.list=[emory]",
        "corpus=sample",
        "model=tiny",
        "model.max_input=64",
        "logger=csv",
        "training.epochs=2",
    )
    process = call(folder, *overrides)
    assert process.returncode == 0, process.stderr
    return folder, overrides
