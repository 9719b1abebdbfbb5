"""The user's commands, each test in a folder of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dfwe.weights.loading import save


def environment(folder: Path) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "DFWE_DATA"}
    return kept | {
        "WANDB_DATA_DIR": str(folder / "wandb-data"),
        "WANDB_CACHE_DIR": str(folder / "wandb-cache"),
        "HF_HOME": str(folder / "huggingface"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "80",
    }


@pytest.fixture(scope="session")
def started(tmp_path_factory):
    """The command as a process of its own: folder, arguments -> the finished process."""
    place = tmp_path_factory.mktemp("started")

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dfwe.run", *arguments],
            cwd=folder,
            capture_output=True,
            env=environment(place),
            text=True,
            timeout=600,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def dfwe(tmp_path_factory):
    """The command as a fork of one process: folder, arguments, environment -> finished process.

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
    outputs = {name: str(place / name) for name in ("stdout", "stderr")}

    def run(folder: Path, *arguments: str, signal=None, **more: str):
        request = {"folder": str(folder), "arguments": arguments, "environment": more, **outputs}
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
    server.communicate(timeout=60)


@pytest.fixture(scope="session")
def small(tmp_path_factory, make_network, tokenizer):
    """Overrides: a small random model that answers by likelihood, on the sample corpus."""
    folder = tmp_path_factory.mktemp("small")
    save(make_network(), tokenizer, folder)
    model = ("model=tiny", f"model.path={folder}", "model.max_input=48")
    return ("corpus=sample", *model, "decoding=likelihood", "trainer=cpu")


@pytest.fixture(scope="session")
def experts(tmp_path_factory, small, dfwe):
    """(folder, overrides) of the experts of one target and one source, a small model's."""
    folder = tmp_path_factory.mktemp("experts")
    study = ("task=meld", "sources.list=[emory]", "training.epochs=2", "logger=csv")
    overrides = ("stage=experts", *study, *small)
    process = dfwe(folder, *overrides)
    assert process.returncode == 0, process.stderr
    return folder, overrides
