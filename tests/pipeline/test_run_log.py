"""The log of a run: tables, summaries and lineage as each logger can show them."""

import csv
import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import CSV, WANDB, check_loggers
from dfwe.pipeline.manifest import FileEntry
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.run_log import RunLog, RunOf, open_log
from dfwe.pipeline.store import WEIGHTS, StoredRecipe

EXPERT = Recipe("train", 1, {"seed": 0})
TUNED = Recipe("train", 1, {"seed": 1}, (EXPERT,))


class WandbRun:
    """A W&B run that records its calls."""

    def __init__(self, offline, known=True):
        self.offline, self.known = offline, known
        self.summary, self.used, self.logged = {}, [], []

    def use_artifact(self, name):
        import wandb

        self.used.append(name)
        if not self.known:
            raise wandb.errors.CommError("not there")

    def log_artifact(self, artifact):
        self.logged.append(artifact)


class OpenWandb(WandbLogger):
    """Lightning's logger of a run that is open already."""

    def __init__(self, run):
        self.run = run

    experiment = property(lambda self: self.run)


class ScalarLogger(DummyLogger):
    """A logger that knows scalars alone."""

    def __init__(self, save_dir, name, version, flush=1):
        super().__init__()
        self.arguments = (save_dir, name, version, flush)
        self.values, self.status = {}, None

    def log_metrics(self, metrics, step=None):
        self.values |= metrics

    def finalize(self, status):
        self.status = status


def stored(**sha256):
    files = {name: FileEntry(sha256=value, size=1) for name, value in sha256.items()}
    return StoredRecipe(format=1, **TUNED.describe(), files=files)


def log_tuned(run, folder, **files):
    files = files or {WEIGHTS: "ab12"}
    RunLog([OpenWandb(run)]).result(TUNED, folder, stored(**files))
    (artifact,) = run.logged
    return artifact


def test_offline_the_digest_and_the_parents_are_in_summary_and_artifact(tmp_path):
    run = WandbRun(offline=True)
    artifact = log_tuned(run, tmp_path)
    assert run.summary == {"weights_sha256": "ab12"}
    assert run.used == []
    assert artifact.metadata["parents"] == [EXPERT.name]
    assert artifact.metadata["weights_sha256"] == "ab12"


@pytest.mark.parametrize("known", [True, False])
def test_online_an_artifact_has_its_parents_as_inputs(known, tmp_path):
    run = WandbRun(offline=False, known=known)
    artifact = log_tuned(run, tmp_path)
    assert run.used == [f"{EXPERT.name}:latest"]
    assert (artifact.name, artifact.type) == (TUNED.name, "model")
    assert artifact.metadata["address"] == TUNED.address
    assert artifact.metadata["parents"] == [EXPERT.name]


def test_an_artifact_refers_to_the_stores_folder_and_uploads_nothing(tmp_path):
    (tmp_path / WEIGHTS).write_bytes(b"theta")
    (entry,) = log_tuned(WandbRun(offline=True), tmp_path).manifest.entries.values()
    assert entry.ref == (tmp_path / WEIGHTS).as_uri()
    assert entry.local_path is None


def test_a_result_without_weights_is_no_model(tmp_path):
    run = WandbRun(offline=True)
    artifact = log_tuned(run, tmp_path, **{"record.json": "cd34"})
    assert artifact.type == "result"
    assert run.summary == {"weights_sha256": None}


def test_csv_files_have_tables_summaries_and_curves(tmp_path):
    run_of = RunOf(TUNED, "train: emory", "emory-seed0", {}, tmp_path)
    log = open_log((Deferred(CSV),), run_of)
    for step, score in enumerate((40.0, None, 42.5)):
        log.metrics({"dev/score": score, "search/best": 42.5}, step)
    log.table("test/scores", ["model", "score"], [["a", 1.5], ["b", 2]])
    log.summary({"test/delta": 0.5, "by": "us"})
    log.images({"alpha": tmp_path / "alpha.png"})  # which a CSV logger cannot show
    log.result(TUNED, tmp_path, stored())
    log.finish()
    folder = tmp_path / "csv" / TUNED.name
    with (folder / "test_scores.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["model", "score"], ["a", "1.5"], ["b", "2"]]
    assert json.loads((folder / "summary.json").read_text()) == {"test/delta": 0.5, "by": "us"}
    with (folder / "metrics.csv").open(newline="") as file:
        rows = {row["step"]: row["dev/score"] for row in csv.DictReader(file)}
    assert rows == {"0": "40.0", "1": "", "2": "42.5"}


@pytest.mark.parametrize(("failed", "status"), [(False, "success"), (True, "failed")])
def test_another_logger_gets_folder_names_and_scalars(failed, status, tmp_path):
    target = Deferred(f"{ScalarLogger.__module__}.ScalarLogger", {"flush": 5})
    log = open_log((target,), RunOf(TUNED, "train: emory", "emory-seed0", {}, tmp_path))
    log.table("test/scores", ["score"], [[1.0]])
    log.images({"alpha": Path("alpha.png")})
    log.summary({"test/delta": 0.5, "by": "us"})
    log.result(TUNED, tmp_path, stored())
    log.finish(failed=failed)
    (logger,) = log.lightning
    assert logger.arguments == (tmp_path, "train", TUNED.address, 5)
    assert logger.values == {"test/delta": 0.5}
    assert logger.status == status


def test_an_unknown_mode_of_weights_and_biases_is_refused():
    with pytest.raises(UserError, match=r"logger\.mode=onlin .* offline, online, disabled"):
        check_loggers((Deferred(WANDB, {"mode": "onlin"}),))
