"""What CSV files, TensorBoard and MLflow have beyond scalars."""

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from numpy.typing import NDArray

from dfwe.markup import csv_row, markdown
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.files import write_json
from dfwe.pipeline.log_functions import Rows, log_images, log_summary, log_table
from dfwe.pipeline.loggers import RunOf

# It tells each time that a tag has "_" for "+".
logging.getLogger("tensorboardX.summary").setLevel(logging.WARNING)


def open_csv(logger: Deferred, run: RunOf) -> CSVLogger:
    """A folder `csv/<kind>-<address>` in the run's."""
    folder = run.folder / "csv" / run.recipe.name
    shutil.rmtree(folder, ignore_errors=True)  # of a step that this command computes again
    folder.mkdir(parents=True, exist_ok=True)
    opened = logger(save_dir=folder, name="", version="")
    assert isinstance(opened, CSVLogger)
    return opened


def mlflow_placed(logger: Deferred, run: RunOf) -> Deferred:
    """With a database in `save_dir` where no server is named: MLflow writes no plain folders."""
    given = logger.arguments
    if given.get("tracking_uri"):
        return logger
    folder = Path(str(given.get("save_dir", run.folder / "mlflow"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    place = {
        "tracking_uri": f"sqlite:///{folder / 'mlflow.db'}",
        "artifact_location": (folder / "artifacts").as_uri(),
    }
    return Deferred(logger.target, {**given, **place})


@log_table.register
def _(logger: CSVLogger, name: str, columns: Sequence[str], rows: Rows) -> None:
    path = Path(logger.log_dir) / f"{name.replace('/', '_')}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(map(csv_row, (columns, *rows)))


@log_summary.register
def _(logger: CSVLogger, values: Mapping[str, object]) -> None:
    folder = Path(logger.log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", dict(values))


class _Writer(Protocol):
    """What is used of TensorBoard's writer."""

    def add_text(self, tag: str, text_string: str) -> None: ...

    def add_image(self, tag: str, img_tensor: NDArray[np.uint8], *, dataformats: str) -> None: ...


class _Client(Protocol):
    """What is used of MLflow's client."""

    def log_table(
        self, run_id: str | None, data: dict[str, list[object]], artifact_file: str
    ) -> None: ...

    def log_artifact(
        self, run_id: str | None, local_path: str, artifact_path: str | None
    ) -> None: ...


def _writer(logger: TensorBoardLogger) -> _Writer:
    return logger.experiment  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def _client(logger: MLFlowLogger) -> _Client:
    return logger.experiment  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@log_table.register
def _(logger: TensorBoardLogger, name: str, columns: Sequence[str], rows: Rows) -> None:
    """A table in Markdown, which TensorBoard shows as text."""
    lines = [columns, ["---"] * len(columns), *rows]
    text = "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)
    _writer(logger).add_text(name, text)


def _cell(value: object) -> str:
    return markdown(" ".join(str(value).split()))


@log_images.register
def _(logger: TensorBoardLogger, pictures: Mapping[str, Path]) -> None:
    from PIL import Image

    for name, path in pictures.items():
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))  # (height, width, 3)
        _writer(logger).add_image(name, pixels, dataformats="HWC")


@log_table.register
def _(logger: MLFlowLogger, name: str, columns: Sequence[str], rows: Rows) -> None:
    data = {column: [row[i] for row in rows] for i, column in enumerate(columns)}
    _client(logger).log_table(logger.run_id, data, artifact_file=f"{name}.json")


@log_images.register
def _(logger: MLFlowLogger, pictures: Mapping[str, Path]) -> None:
    for name, path in pictures.items():
        folder, _, _ = name.rpartition("/")
        _client(logger).log_artifact(logger.run_id, str(path), artifact_path=folder or None)
