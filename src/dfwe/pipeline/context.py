"""The few frozen things every step needs: where results go, what trains, what logs."""

import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Literal

from dfwe.errors import UserError, check_choice, check_whole, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import RunOf, check_loggers
from dfwe.pipeline.recipe import Recipe, digest
from dfwe.pipeline.store import Store
from dfwe.pipeline.trainer import (
    ONE_DEVICE,
    PROFILERS,
    check_observers,
    check_trainer,
    shortening,
)
from dfwe.plain import Plain

if TYPE_CHECKING:
    import lightning as L
    import torch

log = logging.getLogger(__name__)
SHOWN = 60  # characters of what a person chose, in a logger's names


def device_kind(accelerator: str) -> str:
    """The kind of device that Lightning's `accelerator` chooses here: `cpu`, `cuda`, `mps`.

    Dropout draws other numbers on each kind.
    """
    if accelerator not in ("auto", "gpu"):
        return accelerator
    import torch

    if torch.backends.mps.is_available():
        return "mps"
    return "cuda" if accelerator == "gpu" or torch.cuda.is_available() else "cpu"


def device_name(device: "torch.device") -> str:
    """The device's kind and, of a GPU, its model."""
    import torch

    if device.type != "cuda":
        return device.type
    return f"cuda ({torch.cuda.get_device_name(device)})"


@dataclass(frozen=True)
class Context:
    """Where and how a plan runs; nothing here changes a weight but the device's kind, which
    recipes of trainings have.

    Args:
        store: where results lie. Where the trainer's arguments shorten trainings it becomes the
            folder `store` in `output`: what is incomplete gets no address among results.
        trainer: Lightning's, by dotted path; the step adds what it needs of it.
        loggers: Lightning's, by dotted path.
        output: the command's folder.
        command: from a stage's name to the command line that computes it.
        config: the resolved configuration, for logs.
        chosen: key -> value of what a person set of that which decides results.
        callbacks: Lightning's that observe trainings, by dotted path.
        workers: processes of one thread that share the split a search or a test scores, on a CPU.
        resume: what a search does that another machine began and that scores otherwise here:
            `check` ends it, `anyway` continues it and notes both scores.

    Raises:
        UserError: a key of the trainer is unknown or set elsewhere; a callback may change
            weights; or `resume` is something else.
    """

    store: Store
    trainer: Deferred
    loggers: tuple[Deferred, ...]
    output: Path
    command: Callable[[str], str]
    config: Mapping[str, Plain] = field(default_factory=dict[str, Plain])
    chosen: Mapping[str, str] = field(default_factory=dict[str, str])
    callbacks: tuple[Deferred, ...] = ()
    workers: int = 1
    resume: Literal["check", "anyway"] = "check"

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        check_choice("resume", self.resume, ("check", "anyway"))
        check_trainer(self.trainer.arguments)
        check_observers(self.callbacks)
        apart = (self.output / "store").absolute()
        if self.shortened and self.store.root != apart:
            log.info(
                "Trainings are shortened by %s: results go to %s, to be deleted, and not to %s.",
                ", ".join(f"trainer.{key}" for key in self.shortened),
                apart,
                self.store.root,
            )
            object.__setattr__(self, "store", Store(apart))

    @property
    def shortened(self) -> dict[str, object]:
        """Those of the trainer's arguments that shorten trainings."""
        return shortening(self.trainer.arguments)

    @cached_property
    def device(self) -> "torch.device":
        """Where models are trained and scored."""
        return self.build_trainer(logger=False).strategy.root_device

    def check(self) -> None:
        """What can be known before any work.

        Raises:
            UserError: there is no such device, or an accelerator, which several workers cannot
                share, or macOS, where they cannot be forked; or nobody is logged in to the
                service that a logger asks for.
        """
        check_loggers(self.loggers)
        if self.device.type != "cpu" and self.workers > 1:
            raise UserError(
                f"workers={self.workers} are processes on the CPU, and this run is on "
                f"{self.device.type}; leave workers=1."
            )
        if sys.platform == "darwin" and self.workers > 1:
            raise UserError(
                f"workers={self.workers} forks processes, which macOS does not allow of a process "
                "that uses its numerical libraries; leave workers=1."
            )

    def run_of(self, recipe: Recipe, label: str, group: str, work: Path | None = None) -> RunOf:
        """The run of a logger for what this command computes.

        Args:
            recipe: of what is computed.
            label: what a person calls it.
            group: what it is listed under; what a person chose is added.
            work: the step's unfinished work.
        """
        words = " ".join(f"{key}={value}" for key, value in self.chosen.items() if key != "task")
        name, chosen = f"{recipe.kind}: {label}", shorten(words, SHOWN, placeholder=" ...")
        if chosen:
            name = f"{name}, {chosen}"
            group = f"{group}, {chosen} ({digest(dict(self.chosen))[:6]})"
        name = f"{name} ({recipe.address[:6]})"
        return RunOf(recipe, name, group, self.config, self.output, work)

    @property
    def tokens(self) -> Path:
        """Where tokenised splits are cached."""
        return self.store.cache("tokens")

    def build_trainer(self, profile: str | None = None, **settings: object) -> "L.Trainer":
        """Lightning's trainer with what a step needs of it; imported only when work starts.

        It is never shortened: `Run.fit` adds what shortens a training.

        Args:
            profile: the name of the file in `output/profile` that a profiler writes.
            settings: the step's arguments of the Trainer.

        Raises:
            UserError: it would train on several devices, or there is no such device.
        """
        import lightning as L
        from lightning.fabric.plugins.environments.lightning import LightningEnvironment
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.fabric.utilities.rank_zero import rank_zero_only

        from dfwe.pipeline.checkpoint_io import PlainCheckpointIO

        for name in ("lightning.pytorch", "lightning.fabric"):  # hints about devices and products
            logging.getLogger(name).setLevel(logging.ERROR)
        if logging.getLogger().hasHandlers():  # else it says everything twice
            logging.getLogger("lightning").handlers.clear()
        # ... but not a table that somebody asks for.
        logging.getLogger("lightning.pytorch.callbacks.model_summary").setLevel(logging.INFO)
        # Each process trains separate models, under SLURM's srun too: each is the first.
        rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess]
        usual = {
            "enable_checkpointing": False,  # a training has its callbacks: callbacks/checkpoint.py
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # it would score examples twice
            "log_every_n_steps": 1,
        }
        given = {k: v for k, v in self.trainer.arguments.items() if k not in self.shortened}
        fixed = {
            "plugins": [LightningEnvironment(), PlainCheckpointIO()],
            "enable_progress_bar": False,  # a step shows its own: callbacks/progress.py
            "profiler": self._profiler(profile),
        }
        try:
            trainer = Deferred(self.trainer.target, {**usual, **given, **fixed})(**settings)
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            raise UserError(
                f"trainer=: Lightning says: {reason(error)}; set trainer=auto, or trainer=cpu."
            ) from None
        assert isinstance(trainer, L.Trainer)
        if trainer.world_size > 1:
            raise UserError(
                f"trainer.devices={given.get('devices')} are {trainer.world_size}: {ONE_DEVICE}."
            )
        return trainer

    def _profiler(self, name: str | None) -> object:
        """Lightning's profiler of that name, which writes into the run's folder."""
        profiler = self.trainer.arguments.get("profiler")
        if not isinstance(profiler, str) or profiler not in PROFILERS:
            return profiler
        target = Deferred(f"lightning.pytorch.profilers.{PROFILERS[profiler]}")
        return target(dirpath=self.output / "profile", filename=name)
