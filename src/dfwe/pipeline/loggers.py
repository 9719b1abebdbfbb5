"""Loggers: what a recipe's run tells Weights & Biases or plain CSV files."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dfwe.errors import UserError, check_choice, reason
from dfwe.pipeline.recipe import Recipe

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


log = logging.getLogger(__name__)
MODES = ("offline", "online", "disabled")  # of Weights & Biases


class RunLog(Protocol):
    """The log of one recipe: scalars go through `lightning`, the rest through the methods."""

    lightning: "Logger"

    def tables(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None: ...
    def images(self, pictures: Mapping[str, Path]) -> None: ...
    def summary(self, values: Mapping[str, Any]) -> None: ...
    def result(self, recipe: Recipe, folder: Path) -> None: ...
    def finish(self, failed: bool = False) -> None: ...


class OpenLog(Protocol):
    """What `conf/logger/*.yaml` builds: opens the log of a recipe."""

    def check(self) -> None:
        """Raises UserError where it is known before any work that no log could be opened."""

    def __call__(
        self, recipe: Recipe, *, name: str, group: str, study: Mapping[str, Any], folder: Path
    ) -> RunLog: ...


@dataclass(frozen=True)
class WandB:
    """Weights & Biases: offline by default; online only when asked and a key is at hand.

    A run is one recipe: its id the address (a resumed run goes on), its job type the stage. Its
    config is the recipe and, under `study`, what was asked for when it was made first.
    """

    project: str = "dfwe"
    entity: str | None = None
    mode: str = "offline"
    init_timeout: float = 20.0
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("logger.mode", self.mode, MODES)
        if isinstance(self.tags, str):  # given without brackets
            object.__setattr__(self, "tags", (self.tags,))

    def check(self) -> None:
        if self.mode == "online":
            self.login("logger.mode=online")

    def __call__(
        self, recipe: Recipe, *, name: str, group: str, study: Mapping[str, Any], folder: Path
    ) -> RunLog:
        import wandb
        from wandb.errors import Error, UsageError

        try:
            run = wandb.init(
                project=self.project,
                entity=self.entity,
                mode=self.mode,  # type: ignore[arg-type]
                id=recipe.address,
                resume="allow",
                name=name,
                group=group,
                job_type=recipe.stage,
                tags=list(self.tags),
                dir=folder,
                config={**recipe.describe(), "study": dict(study)},
                allow_val_change=True,  # another study may go on with a run that was killed
                settings=wandb.Settings(
                    init_timeout=self.init_timeout, silent=True, console="off"
                ),
            )
        except Error as error:
            if isinstance(error, UsageError):
                raise UserError(
                    f"logger=: Weights & Biases says: {reason(error)}; change "
                    "logger.project= or logger.entity=."
                ) from None
            raise UserError(
                f"Weights & Biases could not open run {recipe.address} ({reason(error)}): give "
                "the command again, or set logger.mode=offline and `wandb sync` the runs later."
            ) from None
        return WandBLog(run)

    @staticmethod
    def login(what: str) -> Any:
        """W&B's API; raises UserError where `what` finds no valid key or no server."""
        import wandb
        from wandb.errors import Error, UsageError

        try:
            if not wandb.login(prompt=False, verify=False):
                raise UsageError("no API key is configured")
            return wandb.Api()
        except Error as error:
            raise UserError(
                f"{what} needs a Weights & Biases login ({reason(error)}): run `wandb login`, or "
                "stay with logger.mode=offline and `wandb sync` the runs later."
            ) from None


class WandBLog:
    """One open W&B run."""

    def __init__(self, run: Any) -> None:
        from lightning.pytorch.loggers import WandbLogger

        self.run = run
        self.lightning: Logger = WandbLogger(experiment=run)

    def tables(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

    def images(self, pictures: Mapping[str, Path]) -> None:
        import wandb

        self.run.log({name: wandb.Image(str(path)) for name, path in pictures.items()})

    def summary(self, values: Mapping[str, Any]) -> None:
        self.run.summary.update(dict(values))

    def result(self, recipe: Recipe, folder: Path) -> None:
        """The digest of the stored weights; online also an artifact, its parents' as inputs.

        The artifact refers to the store's folder and uploads nothing. Offline the lineage stands
        in the run's config (`parents`) and summary.
        """
        import wandb
        from wandb.errors import CommError

        digest = json.loads((folder / "recipe.json").read_text()).get("weights_sha256")
        self.run.summary.update({"weights_sha256": digest})
        if self.run.offline:
            return
        for parent in recipe.parents:
            try:
                self.run.use_artifact(f"{_artifact(parent)}:latest")
            except CommError:
                log.info(
                    "%s is not on the W&B server; the lineage starts here.", _artifact(parent)
                )
        metadata = {**recipe.describe(), "weights_sha256": digest}
        made = wandb.Artifact(_artifact(recipe), type="model", metadata=metadata)
        made.add_reference(folder.as_uri(), checksum=False)
        self.run.log_artifact(made)

    def finish(self, failed: bool = False) -> None:
        self.run.finish(exit_code=int(failed))


def _artifact(recipe: Recipe) -> str:
    return f"{recipe.stage}-{recipe.address}"


@dataclass(frozen=True)
class CSV:
    """Plain CSV files under the run's folder, without W&B."""

    def check(self) -> None:
        """Nothing to do: the run's folder is made already."""

    def __call__(
        self, recipe: Recipe, *, name: str, group: str, study: Mapping[str, Any], folder: Path
    ) -> RunLog:
        return CSVLog(folder / "csv" / f"{recipe.stage}-{recipe.address}")


class CSVLog:
    """`metrics.csv` from Lightning, tables as CSV beside it; pictures lie in the run's folder."""

    def __init__(self, folder: Path) -> None:
        from lightning.pytorch.loggers import CSVLogger

        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lightning: Logger = CSVLogger(folder, name="", version="")

    def tables(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import csv

        with (self.folder / f"{name.replace('/', '_')}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([columns, *rows])

    def images(self, pictures: Mapping[str, Path]) -> None:
        """Nothing to do: the pictures are files in the run's folder already."""

    def summary(self, values: Mapping[str, Any]) -> None:
        from dfwe.pipeline.files import write_json

        write_json(self.folder / "summary.json", dict(values))

    def result(self, recipe: Recipe, folder: Path) -> None:
        """Nothing to do: recipe.json in the store has the digest and the parents."""

    def finish(self, failed: bool = False) -> None:
        self.lightning.finalize("failed" if failed else "success")
