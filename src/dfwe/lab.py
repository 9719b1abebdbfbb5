"""The few frozen things every step needs: where results go, how they are logged, what trains."""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dfwe.errors import UserError, check_choice, check_whole, reason
from dfwe.recipe import Recipe
from dfwe.store import Store

if TYPE_CHECKING:
    import lightning as L
    import torch
    from lightning.pytorch.loggers import Logger


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

    def __call__(self, recipe: Recipe, *, name: str, group: str, folder: Path) -> RunLog: ...


log = logging.getLogger(__name__)
MODES = ("offline", "online", "disabled")  # of Weights & Biases


@dataclass(frozen=True)
class Lab:
    """Where and how a plan runs; nothing here changes a weight.

    Args:
        command: from a stage's name to the command line that makes it.
        workers: processes of one thread that share the split a search or a test scores, on a CPU.
    """

    store: Store
    trainer: Callable[..., "L.Trainer"]
    open_log: OpenLog
    output: Path
    command: Callable[[str], str]
    workers: int = 1

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)

    @cached_property
    def device(self) -> "torch.device":
        """Where models are trained and scored."""
        return self.trainer(logger=False).strategy.root_device

    def check(self) -> None:
        """What can be known before any work.

        Raises:
            UserError: there is an accelerator, which several workers cannot share; or nobody is
                logged in to the Weights & Biases that is asked for.
        """
        if isinstance(self.open_log, WandB) and self.open_log.mode == "online":
            self.open_log.login("logger.mode=online")
        if self.workers > 1 and self.device.type != "cpu":
            raise UserError(f"workers={self.workers} are processes on the CPU, and this run is on "
                            f"{self.device.type}; leave workers=1.")  # fmt: skip

    @property
    def tokens(self) -> Path:
        """Where tokenised splits are cached."""
        return self.store.cache("tokens")

    @contextmanager
    def log(self, recipe: Recipe, label: str, group: str) -> Iterator[RunLog]:
        """The log of a recipe, closed whatever happens."""
        opened = self.open_log(
            recipe, name=f"{recipe.stage}: {label}", group=group, folder=self.output
        )
        try:
            yield opened
        except BaseException:
            opened.finish(failed=True)
            raise
        opened.finish()


@dataclass(frozen=True)
class WandB:
    """Weights & Biases: offline by default; online only when asked and a key is at hand.

    A run is one recipe: its id the address (a resumed run goes on), its job type the stage.
    """

    project: str = "dfwe"
    entity: str | None = None
    mode: str = "offline"
    init_timeout: float = 20.0
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("logger.mode", self.mode, MODES)

    def __call__(self, recipe: Recipe, *, name: str, group: str, folder: Path) -> RunLog:
        import wandb
        from wandb.errors import Error

        if self.mode == "online":
            self.login("logger.mode=online")
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
                config=recipe.describe(),
                settings=wandb.Settings(
                    init_timeout=self.init_timeout, silent=True, console="off"
                ),
            )
        except Error as error:
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

    def __call__(self, recipe: Recipe, *, name: str, group: str, folder: Path) -> RunLog:
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
        from dfwe.store import write_json

        write_json(self.folder / "summary.json", dict(values))

    def result(self, recipe: Recipe, folder: Path) -> None:
        """Nothing to do: recipe.json in the store has the digest and the parents."""

    def finish(self, failed: bool = False) -> None:
        self.lightning.finalize("failed" if failed else "success")


@dataclass(frozen=True)
class LightningTrainer:
    """What `conf/trainer/*.yaml` builds: Lightning's trainer for each step.

    It offers those of Lightning's arguments that change no weight and no score; what does belongs
    to `fit`, where recipes see it.

    Args:
        devices: one of them: 1, or its number in a list, [3].
        deterministic: as Lightning's: True, False or "warn".
        profiler: as Lightning's: "simple" or "advanced".
    """

    accelerator: str = "auto"
    devices: Any = 1
    deterministic: bool | str | None = None
    profiler: str | None = None

    def __call__(self, **settings: Any) -> "L.Trainer":
        """The trainer, with what a step needs of it; imported only when work starts.

        Raises:
            UserError: it would train on several devices, or there is no such device.
        """
        import lightning as L
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        for name in ("lightning.pytorch", "lightning.fabric"):  # hints about devices and products
            logging.getLogger(name).setLevel(logging.ERROR)
        # Every process trains models of its own, under SLURM's srun too: each is the first.
        rank_zero_only.rank = 0  # type: ignore[attr-defined]
        fixed = {
            "plugins": [LightningEnvironment()],
            "enable_checkpointing": False,  # callbacks/selection.py keeps what is needed
            "enable_model_summary": False,
            "enable_progress_bar": False,  # callbacks/progress.py has its own
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # it would score examples twice
            "log_every_n_steps": 1,
        }
        try:
            trainer = L.Trainer(**{**asdict(self), **fixed, **settings})
        except (
            MisconfigurationException, ModuleNotFoundError, ValueError, TypeError
        ) as error:  # fmt: skip
            raise UserError(f"trainer=: Lightning says: {reason(error)}; set trainer=auto, or "
                            "trainer=cpu.") from None  # fmt: skip
        if trainer.world_size > 1:
            raise UserError(
                f"A model is trained on one device, not on the {trainer.world_size} given; "
                "set trainer.devices=1 and start the same command once for each device "
                "(CUDA_VISIBLE_DEVICES=0, 1, ...): they share the work through the store."
            )
        return trainer
