"""Weights & Biases: a run is one recipe, its id the address."""

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lightning.pytorch.loggers import WandbLogger

from dfwe.errors import UserError, check_number, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.files import write_text
from dfwe.pipeline.log_functions import (
    Rows,
    finish,
    has_history,
    log_images,
    log_result,
    log_summary,
    log_table,
)
from dfwe.pipeline.loggers import OFFLINE, RunOf
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import WEIGHTS, StoredRecipe

if TYPE_CHECKING:
    from wandb import Artifact

log = logging.getLogger(__name__)
STEP = "trainer/global_step"  # what Lightning's logger draws curves over
# What of a curve is its summary, where not its end; a pattern loses against Lightning's own.
BEST = {"dev/score": "max", "dev/log_likelihood": "max", "train/loss_epoch": "min"}
PLACE = "wandb"  # in a step's unfinished work: the folder of its offline run


class _Summary(Protocol):
    def update(self, d: dict[str, object]) -> None: ...


class _WandbRun(Protocol):
    """What is used of a run of Weights & Biases."""

    @property
    def summary(self) -> _Summary: ...

    @property
    def offline(self) -> bool: ...

    @property
    def resumed(self) -> bool: ...

    @property
    def dir(self) -> str: ...

    def define_metric(
        self, name: str, step_metric: str | None = None, *, summary: str | None = None
    ) -> object: ...

    def use_artifact(self, artifact_or_name: str) -> object: ...

    def log_artifact(self, artifact_or_path: "Artifact") -> object: ...

    def finish(self, exit_code: int) -> None: ...


def open_wandb(logger: Deferred, run: RunOf) -> WandbLogger:
    """Opens the run; one that an earlier attempt began is resumed.

    An offline run cannot be resumed: whichever of two with one id is synced last replaces the
    other (wandb/wandb#3841). So the folder of the earlier attempt is removed, and the new one
    gets all that it had (`dfwe.pipeline.journal`).

    Raises:
        UserError: the service cannot be reached or refuses.
    """
    import wandb
    from wandb.errors import Error, UsageError

    given = dict(logger.arguments)
    tags: object = given.pop("tags", None) or []
    timeout = check_number("logger.wandb.init_timeout", given.pop("init_timeout", 20.0))
    offline = given.get("mode") == "offline"
    arguments: dict[str, object] = {
        **given,
        "tags": [tags] if isinstance(tags, str) else tags,
        "id": run.recipe.address,
        "resume": None if offline else "allow",
        "name": run.name,
        "group": run.group,
        "job_type": run.recipe.kind,
        "save_dir": run.folder,
        "config": run.hyperparameters,
        "allow_val_change": True,  # another study may resume a run that was killed
        "settings": wandb.Settings(init_timeout=timeout, silent=True, console="off"),
    }
    opened = Deferred(logger.target, arguments)()
    assert isinstance(opened, WandbLogger)
    try:
        shown = _run(opened)  # opens it
    except Error as error:
        if isinstance(error, UsageError):
            raise UserError(
                f"logger=: Weights & Biases says: {reason(error)}; change logger.wandb.project= "
                "or logger.wandb.entity=."
            ) from None
        raise UserError(
            f"Weights & Biases could not open run {run.recipe.address} ({reason(error)}): run the "
            f"command again, or {OFFLINE}."
        ) from None
    for name, kind in BEST.items():
        shown.define_metric(name, STEP, summary=kind)
    if offline and run.work is not None:
        _replace(Path(shown.dir).parent, run.work / PLACE)
    return opened


def _replace(folder: Path, place: Path) -> None:
    """Removes the folder of an earlier attempt at the same run, and notes the new one."""
    if place.exists():
        earlier = Path(place.read_text())
        _, _, address = folder.name.rpartition("-")
        if earlier != folder and earlier.name.endswith(f"-{address}"):
            shutil.rmtree(earlier, ignore_errors=True)
    write_text(place, str(folder))


def _run(logger: WandbLogger) -> _WandbRun:
    return logger.experiment  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


@log_table.register
def _(logger: WandbLogger, name: str, columns: Sequence[str], rows: Rows) -> None:
    logger.log_table(name, columns=list(columns), data=[list(row) for row in rows])


@log_images.register
def _(logger: WandbLogger, pictures: Mapping[str, Path]) -> None:
    for name, path in pictures.items():
        logger.log_image(name, [str(path)])


@log_summary.register
def _(logger: WandbLogger, values: Mapping[str, object]) -> None:
    _run(logger).summary.update(dict(values))


@log_result.register
def _(logger: WandbLogger, recipe: Recipe, folder: Path, stored: StoredRecipe) -> None:
    """An artifact that refers to the store's folder and uploads nothing; parents as its inputs.

    Offline no input can be looked up: the parents stand in the artifact's metadata.
    """
    import wandb
    from wandb.errors import CommError

    run = _run(logger)
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


@has_history.register
def _(logger: WandbLogger) -> bool:
    return _run(logger).resumed


@finish.register
def _(logger: WandbLogger, failed: bool) -> None:
    _run(logger).finish(exit_code=int(failed))
