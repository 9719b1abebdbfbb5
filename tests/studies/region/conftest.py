"""A task over a table of texts; a whole study on a tiny encoder, computed once in three calls."""

import json
import shutil
from functools import partial
from typing import ClassVar

import pytest
from lightning.pytorch.loggers.logger import DummyLogger

from dfwe.data.table import TableCorpus, classification
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline import executor
from dfwe.pipeline.context import Context
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage, perform
from dfwe.pipeline.loggers import CSV
from dfwe.pipeline.run_log import log_images, log_result, log_table
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Classify
from dfwe.stages.evaluate import Test
from dfwe.studies.experiment import Experiment
from dfwe.studies.region.config import Settings, Start
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.results import region
from dfwe.studies.region.stages import Centroid
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.weights.readout import write_pooling

WORDS = "film was great poor plot actor of how who".split()
STAGES = (
    "experts",
    "region/geometry",
    "region/paths",
    "region/centroid",
    "finetune",
    "evaluate",
    "region/transfer",
)


class Recorder(DummyLogger):
    """A logger that records, by the name of each step, what is logged."""

    events: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, name, version):
        super().__init__()
        self.step = self.events.setdefault(f"{name}-{version}", [])

    def finalize(self, status):
        self.step.append(status)


@log_table.register
def _(logger: Recorder, name, columns, rows):
    logger.step.append(f"table {name}")


@log_images.register
def _(logger: Recorder, pictures):
    logger.step += [f"image {name}" for name in pictures]


@log_result.register
def _(logger: Recorder, recipe, folder, stored):
    logger.step.append(f"result {stored.kind}-{stored.address} in {folder.name}")


@pytest.fixture(scope="session")
def make_task():
    """name -> the task of telling bad texts from good ones."""

    def make(name):
        read = partial(classification, context="{text}", prompt="")
        return Task(name, name, read, Label(), (Accuracy(),), 1, labels=("bad", "good"))

    return make


@pytest.fixture(scope="session")
def study(bert, make_task, tmp_path_factory):
    """Three tables of 24 texts a split, and an encoder that is read at the mean of the tokens."""
    folder = tmp_path_factory.mktemp("texts")
    names = ("one", "two", "three")
    for number, name in enumerate(names):
        (folder / name).mkdir()
        for split in ("train", "dev", "test"):
            rows = [
                {
                    "id": f"{split}{i}",
                    "label": ("bad", "good")[(i + number) % 2],
                    "text": " ".join(WORDS[(i * k + number) % 9] for k in range(1, 5)),
                }
                for i in range(24)
            ]
            (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    sentences = folder / "model"
    shutil.copytree(bert, sentences)
    write_pooling(sentences, 16)
    target, *sources = map(make_task, names)
    return Experiment(
        TableCorpus("texts", str(folder), names, limit=16),
        target,
        tuple(sources),
        SequenceClassifier("sentences", str(sentences), max_input=12),
        Classify(),
        TrainingConfig(learning_rate=3e-3, effective_batch=8, epochs=1, monitor="own"),
        0,
        "cpu",
    )


@pytest.fixture(scope="session")
def settings():
    return Settings(
        seeds=(0, 1),
        families={"f": ("one", "two")},
        same_texts=(("one", "two"),),
        texts=12,
        interior=2,
        perturbed=2,
        pairs=1,
        points=3,
        extrapolation=1,
        steps=2,
        centroid=Start(seeds=(0,), limits=(12,), subset=1, epochs=1),
    )


@pytest.fixture(scope="session")
def stage():
    return Stage("region", STAGES)


@pytest.fixture(scope="session")
def region_context(tmp_path_factory):
    """Where the study runs: on the CPU, with CSV logs and a recorder."""
    folder = tmp_path_factory.mktemp("region")
    trainer = Deferred("lightning.Trainer", {"accelerator": "cpu", "deterministic": True})
    loggers = (Deferred(CSV), Deferred(f"{Recorder.__module__}.Recorder"))
    command = "python -m dfwe.run stage={}".format
    return Context(Store(folder / "store"), trainer, loggers, folder / "run", command)


class Interruption(Exception):
    """What ends a call in the middle."""


def interrupted(run, after):
    """A step's `run` that raises once it has run so often."""
    runs = []

    def limited(*arguments):
        if len(runs) == after:
            raise Interruption
        runs.append(arguments)
        return run(*arguments)

    return limited


@pytest.fixture(scope="session")
def history(study, settings, stage, region_context):
    """The names of the steps that each of three calls ran, and what was logged of each step.

    The first call ends in its third centroid, the second in its fourth test, the third completes
    the study.
    """
    compute, calls = executor.compute, []

    def record(step, context):
        calls[-1].append(step.recipe.name)
        compute(step, context)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(executor, "compute", record)
        for kind, after in ((Centroid, 2), (Test, 3)):
            calls.append([])
            with pytest.MonkeyPatch.context() as failing:
                failing.setattr(kind, "run", interrupted(kind.run, after))
                with pytest.raises(Interruption):
                    perform(
                        region(lambda: study, stage, region_context, settings),
                        stage,
                        region_context,
                    )
        calls.append([])
        perform(region(lambda: study, stage, region_context, settings), stage, region_context)
    return calls, {name: tuple(events) for name, events in Recorder.events.items()}


@pytest.fixture(scope="session")
def calls(history):
    """The names of the steps that each of three calls ran."""
    return history[0]


@pytest.fixture(scope="session")
def plan(study, settings, history):
    """The plan of the study, whose steps are all in the store."""
    return RegionPlan(study, settings)


@pytest.fixture(scope="session")
def logged(history):
    """Name of a step -> what the recorder has of it, in order."""
    return history[1]


def assert_page(folder, tables, pictures):
    """Its tables in three forms beside it, its pictures inside it, and nothing from elsewhere."""
    for ending in ("md", "csv", "tex"):
        assert {path.stem for path in folder.glob(f"*.{ending}")} == tables
    text = (folder / "report.html").read_text()
    assert text.count("<table>") == text.count("<caption>") == len(tables)
    assert '<p class="answer">' in text
    assert text.count('src="data:image/png;base64,') == text.count("src=") == len(pictures)
    assert "href=" not in text


@pytest.fixture(scope="session")
def check_page():
    return assert_page
