"""The few frozen things every step needs: where results go, what trains, what logs."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dfwe.errors import UserError, check_choice, check_whole, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import check_loggers
from dfwe.pipeline.store import Store
from dfwe.plain import Plain

if TYPE_CHECKING:
    import lightning as L
    import torch

# Lightning's Trainer arguments that change no weight and no score.
TRAINER_KEYS = ("accelerator", "devices", "deterministic", "profiler")


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
        store: where results lie.
        trainer: Lightning's, by dotted path; the step adds what it needs of it.
        loggers: Lightning's, by dotted path.
        output: the command's folder.
        command: from a stage's name to the command line that computes it.
        study: what a person asked for, to find a log by.
        workers: processes of one thread that share the split a search or a test scores, on a CPU.
        resume: what a search does that another machine began and that scores otherwise here:
            `check` ends it, `anyway` continues it and notes both scores.

    Raises:
        UserError: a key of the trainer is unknown or belongs to `training`; or `resume` is
            something else.
    """

    store: Store
    trainer: Deferred
    loggers: tuple[Deferred, ...]
    output: Path
    command: Callable[[str], str]
    study: Mapping[str, Plain] = field(default_factory=dict[str, Plain])
    workers: int = 1
    resume: Literal["check", "anyway"] = "check"

    def __post_init__(self) -> None:
        check_whole("workers", self.workers, 1)
        check_choice("resume", self.resume, ("check", "anyway"))
        for key in self.trainer.arguments:
            if key not in TRAINER_KEYS:
                raise UserError(
                    f"trainer.{key} is not one of {', '.join(TRAINER_KEYS)}, the arguments of "
                    "Lightning's Trainer that change no result; what changes one is set in "
                    "training."
                )

    @cached_property
    def device(self) -> "torch.device":
        """Where models are trained and scored."""
        return self.build_trainer(logger=False).strategy.root_device

    def check(self) -> None:
        """What can be known before any work.

        Raises:
            UserError: there is an accelerator, which several workers cannot share; or nobody is
                logged in to the service that a logger asks for.
        """
        check_loggers(self.loggers)
        if self.workers > 1 and self.device.type != "cpu":
            raise UserError(
                f"workers={self.workers} are processes on the CPU, and this run is on "
                f"{self.device.type}; leave workers=1."
            )

    @property
    def tokens(self) -> Path:
        """Where tokenised splits are cached."""
        return self.store.cache("tokens")

    def build_trainer(self, **settings: object) -> "L.Trainer":
        """Lightning's trainer with what a step needs of it; imported only when work starts.

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
        # Each process trains separate models, under SLURM's srun too: each is the first.
        rank_zero_only.rank = 0  # pyright: ignore[reportFunctionMemberAccess]
        fixed = {
            "plugins": [LightningEnvironment(), PlainCheckpointIO()],
            "enable_checkpointing": False,  # a training has its callbacks: callbacks/checkpoint.py
            "enable_model_summary": False,
            "enable_progress_bar": False,  # ... and callbacks/progress.py
            "num_sanity_val_steps": 0,
            "use_distributed_sampler": False,  # it would score examples twice
            "log_every_n_steps": 1,
        }
        try:
            trainer = self.trainer(**{**fixed, **settings})
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            raise UserError(
                f"trainer=: Lightning says: {reason(error)}; set trainer=auto, or trainer=cpu."
            ) from None
        assert isinstance(trainer, L.Trainer)
        if trainer.world_size > 1:
            raise UserError(
                f"A model is trained on one device, not on the {trainer.world_size} given; "
                "set trainer.devices=1 and start the same command once for each device "
                "(CUDA_VISIBLE_DEVICES=0, 1, ...): they share the work through the store."
            )
        return trainer
