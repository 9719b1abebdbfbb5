"""A signal ends the command in five seconds, at work as in waiting, with one sentence."""

import json
import signal

import pytest
from filelock import FileLock
from offline import logged_in

from dfwe.weights.loading import save

pytestmark = pytest.mark.slow  # runs the command


@pytest.fixture(scope="module")
def search(make_network, tokenizer, small, tmp_path_factory):
    """The arguments of a search over two small models."""
    folder = tmp_path_factory.mktemp("models")
    for seed, name in enumerate("ab"):
        save(make_network(seed), tokenizer, folder / name)
    strategy = ("search=dirichlet", "search.strategy.evaluations=16")
    mixed = f"checkpoints=[{folder}/a,{folder}/b]"
    return ("stage=interpolate", "task=emory", "logger=csv", mixed, *strategy, *small)


def assert_stopped(process, number):
    assert process.returncode == 128 + number, process.stderr
    assert process.seconds < 5
    assert f"Stopped by {number.name}; the same command resumes where it was.\n" in process.stderr
    assert "Traceback" not in process.stderr
    assert "Error" not in process.stderr


def test_a_search_and_what_waits_for_it_end_at_a_signal(dfwe, search, tmp_path):
    begun = (signal.SIGTERM, "store/.work/*/trials.jsonl", "\n", 5)
    log = ("logger=wandb", "logger.wandb.mode=offline", "store=store")
    assert_stopped(dfwe(tmp_path, *search, *log, signal=begun), signal.SIGTERM)
    (work,) = (tmp_path / "store" / ".work").glob("interpolate-*/")
    (run,) = tmp_path.rglob(f"run-{work.name.rpartition('-')[2]}.wandb")
    records = [json.loads(line) for line in logged_in(run).splitlines()]
    assert records[-1]["exit"]["exit_code"] == 1  # the whole file: `wandb sync` takes it
    assert any("search/score" in str(record.get("history")) for record in records)
    (ledger,) = tmp_path.glob("store/.work/*/trials.jsonl")
    assert len(ledger.read_text().splitlines()) >= 5
    where = ("store=store", "hydra.run.dir=waiting")
    waits = (signal.SIGUSR1, "waiting/run.log", "Waiting for the process", 1)
    with FileLock(f"{work}.lock"):
        assert_stopped(dfwe(tmp_path, *search, *where, signal=waits), signal.SIGUSR1)
