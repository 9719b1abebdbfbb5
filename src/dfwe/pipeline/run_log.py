"""The log of one step's run, by every configured logger (imports Lightning).

Loggers are Lightning's. What they have no common word for (tables, pictures, a run's end, lineage)
goes through `functools.singledispatch` on the logger's class; a logger without such a function
gets scalars alone, and the files in the run's folder have the rest.
"""

import csv
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger

from dfwe.errors import UserError, check_number, reason
from dfwe.markup import csv_cell
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.files import write_json
from dfwe.pipeline.loggers import CSV, WANDB
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import WEIGHTS, StoredRecipe
from dfwe.plain import Plain

if TYPE_CHECKING:
    from wandb import Artifact

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOf:
    """Which run a logger is opened for.

    Args:
        recipe: of the step.
        name: what a person calls the run.
        group: what it is listed under.
        study: what was asked for, to find the run by.
        folder: the command's output folder.
    """

    recipe: Recipe
    name: str
    group: str
    study: Mapping[str, Plain]
    folder: Path


class RunLog:
    """The loggers of one step; `lightning` is what a Trainer takes."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.lightning = list(loggers)

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Scalars of one point of a curve; None is left out."""
        known = {name: value for name, value in values.items() if value is not None}
        for logger in self.lightning:
            logger.log_metrics(known, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        for logger in self.lightning:
            log_table(logger, name, columns, rows)

    def images(self, pictures: Mapping[str, Path]) -> None:
        for logger in self.lightning:
            log_images(logger, pictures)

    def summary(self, values: Mapping[str, object]) -> None:
        for logger in self.lightning:
            log_summary(logger, values)

    def result(self, recipe: Recipe, folder: Path, stored: StoredRecipe) -> None:
        """The result's digest and lineage."""
        for logger in self.lightning:
            log_result(logger, recipe, folder, stored)

    def finish(self, *, failed: bool = False) -> None:
        for logger in self.lightning:
            finish(logger, failed)


def open_log(loggers: Sequence[Deferred], run: RunOf) -> RunLog:
    """Opens the loggers of a run.

    Raises:
        UserError: a service cannot be reached or refuses.
    """
    return RunLog([OPENERS.get(item.target, _open_any)(item, run) for item in loggers])


def _open_wandb(logger: Deferred, run: RunOf) -> Logger:
    """A W&B run is one recipe: its id is the address, so that a resumed step resumes it."""
    import wandb
    from wandb.errors import Error, UsageError

    given = dict(logger.arguments)
    tags: object = given.pop("tags", None) or []
    timeout = check_number("logger.init_timeout", given.pop("init_timeout", 20.0))
    arguments: dict[str, object] = {
        **given,
        "tags": [tags] if isinstance(tags, str) else tags,
        "id": run.recipe.address,
        "resume": "allow",
        "name": run.name,
        "group": run.group,
        "job_type": run.recipe.kind,
        "save_dir": run.folder,
        "config": {**run.recipe.describe(), "study": dict(run.study)},
        "allow_val_change": True,  # another study may resume a run that was killed
        "settings": wandb.Settings(init_timeout=timeout, silent=True, console="off"),
    }
    opened = Deferred(logger.target, arguments)()
    assert isinstance(opened, WandbLogger)
    try:
        _wandb_run(opened)  # opens it
    except Error as error:
        if isinstance(error, UsageError):
            raise UserError(
                f"logger=: Weights & Biases says: {reason(error)}; change logger.project= or "
                "logger.entity=."
            ) from None
        raise UserError(
            f"Weights & Biases could not open run {run.recipe.address} ({reason(error)}): give "
            "the command again, or set logger.mode=offline and `wandb sync` the runs later."
        ) from None
    return opened


def _open_csv(logger: Deferred, run: RunOf) -> Logger:
    folder = run.folder / "csv" / run.recipe.name
    shutil.rmtree(folder, ignore_errors=True)  # of a step that this command computes again
    folder.mkdir(parents=True, exist_ok=True)
    opened = logger(save_dir=folder, name="", version="")
    assert isinstance(opened, Logger)
    return opened


def _open_any(logger: Deferred, run: RunOf) -> Logger:
    """Any other logger gets what its signature takes of a folder and names."""
    known = signature(logger.resolve()).parameters
    offered = {"save_dir": run.folder, "name": run.recipe.kind, "version": run.recipe.address}
    opened = logger(
        **{
            name: value
            for name, value in offered.items()
            if name in known and name not in logger.arguments
        }
    )
    if not isinstance(opened, Logger):
        raise UserError(f"logger=: {logger.target} makes no logger of Lightning; name one.")
    return opened


OPENERS: dict[str, Callable[[Deferred, RunOf], Logger]] = {WANDB: _open_wandb, CSV: _open_csv}


@singledispatch
def log_table(
    logger: Logger, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    """A table; a logger without tables ignores it."""


@singledispatch
def log_images(logger: Logger, pictures: Mapping[str, Path]) -> None:
    """Name -> picture file; a logger without pictures ignores it."""


@singledispatch
def log_summary(logger: Logger, values: Mapping[str, object]) -> None:
    """Final values of a run, as scalars where the logger has no summary."""
    logger.log_metrics({k: v for k, v in values.items() if isinstance(v, int | float)})


@singledispatch
def log_result(logger: Logger, recipe: Recipe, folder: Path, stored: StoredRecipe) -> None:
    """Digest and lineage; a logger without artifacts ignores them, the store has both."""


@singledispatch
def finish(logger: Logger, failed: bool) -> None:
    """The end of a run."""
    logger.finalize("failed" if failed else "success")


class _Summary(Protocol):
    def update(self, d: dict[str, object]) -> None: ...


class _WandbRun(Protocol):
    """What is used of a run of Weights & Biases."""

    @property
    def summary(self) -> _Summary: ...

    @property
    def offline(self) -> bool: ...

    def use_artifact(self, artifact_or_name: str) -> object: ...

    def log_artifact(self, artifact_or_path: "Artifact") -> object: ...

    def finish(self, exit_code: int) -> None: ...


def _wandb_run(logger: WandbLogger) -> _WandbRun:
    return logger.experiment  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@log_table.register
def _(
    logger: WandbLogger, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])


@log_images.register
def _(logger: WandbLogger, pictures: Mapping[str, Path]) -> None:
    for name, path in pictures.items():
        logger.log_image(name, [str(path)])


@log_summary.register
def _(logger: WandbLogger, values: Mapping[str, object]) -> None:
    run = _wandb_run(logger)
    run.summary.update(dict(values))


@log_result.register
def _(logger: WandbLogger, recipe: Recipe, folder: Path, stored: StoredRecipe) -> None:
    """An artifact that refers to the store's folder and uploads nothing; parents as its inputs.

    Offline no input can be looked up: the parents stand in the artifact's metadata.
    """
    import wandb
    from wandb.errors import CommError

    run = _wandb_run(logger)
    digest = stored.files[WEIGHTS].sha256 if WEIGHTS in stored.files else None
    run.summary.update({"weights_sha256": digest})
    for parent in () if run.offline else recipe.parents:
        try:
            run.use_artifact(f"{parent.name}:latest")
        except CommError:
            log.info("%s is not on the W&B server; the lineage starts here.", parent.name)
    metadata = {**recipe.describe(), "weights_sha256": digest}
    kind = "model" if digest else "result"
    artifact = wandb.Artifact(recipe.name, type=kind, metadata=metadata)
    artifact.add_reference(folder.as_uri(), checksum=False)
    run.log_artifact(artifact)


@finish.register
def _(logger: WandbLogger, failed: bool) -> None:
    run = _wandb_run(logger)
    run.finish(exit_code=int(failed))


@log_table.register
def _(
    logger: CSVLogger, name: str, columns: Sequence[str], rows: Sequence[Sequence[object]]
) -> None:
    path = Path(logger.log_dir) / f"{name.replace('/', '_')}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        for row in (columns, *rows):
            writer.writerow([csv_cell(x) if isinstance(x, str) else x for x in row])


@log_summary.register
def _(logger: CSVLogger, values: Mapping[str, object]) -> None:
    folder = Path(logger.log_dir)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "summary.json", dict(values))
