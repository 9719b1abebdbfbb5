"""The log of a run: tables, summaries and lineage as each logger can show them."""

import csv
import json
from pathlib import Path

import pytest
from lightning.pytorch.loggers import MLFlowLogger, WandbLogger
from lightning.pytorch.loggers.logger import DummyLogger

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import CSV, WANDB, RunOf, check_loggers
from dfwe.pipeline.manifest import FileEntry
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.run_log import RunLog, open_log
from dfwe.pipeline.store import WEIGHTS, StoredRecipe

TENSORBOARD = "lightning.pytorch.loggers.TensorBoardLogger"
MLFLOW = "lightning.pytorch.loggers.MLFlowLogger"
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


def run_of(folder):
    config = {"training": {"learning_rate": 0.001}}
    return RunOf(TUNED, "train: emory", "emory-seed0", config, folder)


class ScalarLogger(DummyLogger):
    """A logger that knows scalars alone."""

    def __init__(self, save_dir, name, version, flush=1):
        super().__init__()
        self.arguments = (save_dir, name, version, flush)
        self.values, self.status = {}, None

    def log_hyperparams(self, params):
        self.given = params

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
    with open_log((Deferred(CSV),), run_of(tmp_path)) as log:
        for step, score in enumerate((40.0, None, 42.5)):
            log.metrics({"dev/score": score, "search/best": 42.5}, step)
        log.table("test/scores", ["model", "score"], [["a", 1.5], ["b", 2]])
        log.summary({"test/delta": 0.5, "by": "us"})
        log.images({"alpha": tmp_path / "alpha.png"})  # which a CSV logger cannot show
        log.result(TUNED, tmp_path, stored())
    folder = tmp_path / "csv" / TUNED.name
    with (folder / "test_scores.csv").open(newline="") as file:
        assert list(csv.reader(file)) == [["model", "score"], ["a", "1.5"], ["b", "2"]]
    assert json.loads((folder / "summary.json").read_text()) == {"test/delta": 0.5, "by": "us"}
    with (folder / "metrics.csv").open(newline="") as file:
        rows = {row["step"]: row["dev/score"] for row in csv.DictReader(file)}
    assert rows == {"0": "40.0", "1": "", "2": "42.5"}


def test_another_logger_gets_folder_names_configuration_and_scalars(tmp_path):
    target = Deferred(f"{ScalarLogger.__module__}.ScalarLogger", {"flush": 5})
    with open_log((target,), run_of(tmp_path)) as log:
        log.table("test/scores", ["score"], [[1.0]])
        log.images({"alpha": Path("alpha.png")})
        log.summary({"test/delta": 0.5, "by": "us"})
        log.result(TUNED, tmp_path, stored())
    (logger,) = log.lightning
    assert logger.arguments == (tmp_path / "scalar", "train", TUNED.address, 5)
    assert logger.values == {"test/delta": 0.5}
    assert logger.status == "success"
    assert logger.given == {"training": {"learning_rate": 0.001}, "recipe": TUNED.describe()}


def test_several_loggers_each_get_what_they_can_show(tmp_path):
    other = Deferred(f"{ScalarLogger.__module__}.ScalarLogger")
    with open_log((Deferred(CSV), other), run_of(tmp_path)) as log:
        log.metrics({"dev/score": 40.0}, 0)
        log.table("test/scores", ["score"], [[1.0]])
    assert log.lightning[1].values == {"dev/score": 40.0}
    assert {path.name for path in (tmp_path / "csv" / TUNED.name).iterdir()} == {
        "metrics.csv",
        "test_scores.csv",
    }


def picture(folder):
    from PIL import Image

    Image.new("RGB", (4, 3), "red").save(folder / "alpha.png")
    return folder / "alpha.png"


def test_tensorboard_gets_scalars_tables_as_text_and_pictures(tmp_path):
    from tensorboardX.proto.event_pb2 import Event

    with open_log((Deferred(TENSORBOARD, {"default_hp_metric": False}),), run_of(tmp_path)) as log:
        log.metrics({"dev/score": 40.0}, 3)
        log.table("test/scores", ["model", "answer"], [["a|b", "yes\nno"]])
        log.images({"search/alpha": picture(tmp_path)})
        log.summary({"test/delta": 0.5, "by": "us"})
    (file,) = tmp_path.glob(f"tensorboard/train/{TUNED.address}/events*")
    shown, content = {}, file.read_bytes()
    while content:  # records of TFRecord: a length and its checksum, the content and its checksum
        size = int.from_bytes(content[:8], "little")
        event = Event.FromString(content[12 : 12 + size])
        shown |= {value.tag: (event.step, value) for value in event.summary.value}
        content = content[16 + size :]
    assert shown["dev/score"][0] == 3
    assert shown["dev/score"][1].simple_value == 40.0
    assert shown["test/delta"][1].simple_value == 0.5
    (text,) = shown["test/scores/text_summary"][1].tensor.string_val
    assert text.decode() == "| model | answer |\n| --- | --- |\n| a\\|b | yes no |"
    image = shown["search/alpha"][1].image
    assert (image.width, image.height) == (4, 3)


class StandIn(MLFlowLogger):
    """Lightning's logger for MLflow, whose client records its calls; MLflow is not installed."""

    def __init__(self, run_name, tracking_uri, artifact_location=None, save_dir=None):
        self.given, self.calls = (run_name, tracking_uri, artifact_location), []

    run_id = "ab12"
    experiment = property(lambda self: self)

    def log_hyperparams(self, params):
        pass

    def log_metrics(self, metrics, step=None):
        self.calls.append(("metrics", metrics, step))

    def log_table(self, run_id, data, artifact_file):
        self.calls.append(("table", run_id, data, artifact_file))

    def log_artifact(self, run_id, local_path, artifact_path):
        self.calls.append(("artifact", run_id, local_path, artifact_path))

    def finalize(self, status):
        self.calls.append(status)


def test_mlflow_gets_scalars_tables_and_pictures(tmp_path):
    target = Deferred(f"{StandIn.__module__}.StandIn")
    with open_log((target,), run_of(tmp_path)) as log:
        log.table("test/scores", ["model", "score"], [["a", 1.5], ["b", 2]])
        log.images({"search/alpha": tmp_path / "alpha.png"})
        log.summary({"test/delta": 0.5, "by": "us"})
    (logger,) = log.lightning
    folder = tmp_path / "mlflow"
    assert folder.is_dir()  # the database's, which MLflow makes
    assert logger.given == (
        "train: emory",
        f"sqlite:///{folder}/mlflow.db",
        f"file://{folder}/artifacts",
    )
    assert logger.calls == [
        ("table", "ab12", {"model": ["a", "b"], "score": [1.5, 2]}, "test/scores.json"),
        ("artifact", "ab12", str(tmp_path / "alpha.png"), "search"),
        ("metrics", {"test/delta": 0.5}, None),
        "success",
    ]


def test_mlflow_writes_to_the_server_that_is_named(tmp_path):
    target = Deferred(f"{StandIn.__module__}.StandIn", {"tracking_uri": "http://mlflow"})
    (logger,) = open_log((target,), run_of(tmp_path)).lightning
    assert logger.given == ("train: emory", "http://mlflow", None)
    assert list(tmp_path.iterdir()) == []


def test_what_a_logger_meets_when_it_is_opened_is_one_sentence(tmp_path, monkeypatch):
    def refuse(*unused):
        raise RuntimeError("no route to the server")

    monkeypatch.setattr(StandIn, "log_hyperparams", refuse)
    target = Deferred(f"{StandIn.__module__}.StandIn")
    with pytest.raises(UserError, match=r"StandIn says: no route to the server; correct"):
        open_log((target,), run_of(tmp_path))


def test_a_logger_whose_package_is_missing_is_refused_with_the_way_out(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for target, package in ((TENSORBOARD, "tensorboard"), (MLFLOW, "mlflow")):
        with pytest.raises(UserError, match=f"needs the package {package}: pip install {package}"):
            check_loggers((Deferred(target),))


def test_what_a_logger_says_of_its_arguments_is_one_sentence(tmp_path):
    target = Deferred(f"{ScalarLogger.__module__}.ScalarLogger", {"colour": "red"})
    with pytest.raises(UserError, match=r"ScalarLogger cannot .*'colour'; correct its keys\.$"):
        open_log((target,), run_of(tmp_path))


def test_an_unknown_mode_of_weights_and_biases_is_refused():
    with pytest.raises(UserError, match=r"logger\.wandb\.mode=onlin .* offline, online, disabled"):
        check_loggers((Deferred(WANDB, {"mode": "onlin"}),))
