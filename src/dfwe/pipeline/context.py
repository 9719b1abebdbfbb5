"""The few frozen things every step needs: where results go, how they are logged, what trains."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfwe.errors import UserError, check_whole, reason
from dfwe.pipeline.loggers import OpenLog, RunLog
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import Store

if TYPE_CHECKING:
    import lightning as L
    import torch


@dataclass(frozen=True)
class Context:
    """Where and how a plan runs; nothing here changes a weight.

    Args:
        command: from a stage's name to the command line that makes it.
        study: what a person asked for, to find a log by.
        workers: processes of one thread that share the split a search or a test scores, on a CPU.
    """

    store: Store
    trainer: Callable[..., "L.Trainer"]
    open_log: OpenLog
    output: Path
    command: Callable[[str], str]
    study: Mapping[str, Any] = field(default_factory=dict)
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
        self.open_log.check()
        if self.workers > 1 and self.device.type != "cpu":
            raise UserError(
                f"workers={self.workers} are processes on the CPU, and this run is on "
                f"{self.device.type}; leave workers=1."
            )

    @property
    def tokens(self) -> Path:
        """Where tokenised splits are cached."""
        return self.store.cache("tokens")

    @contextmanager
    def log(self, recipe: Recipe, label: str, group: str) -> Iterator[RunLog]:
        """The log of a recipe, closed whatever happens."""
        opened = self.open_log(
            recipe,
            name=f"{recipe.stage}: {label}",
            group=group,
            study=self.study,
            folder=self.output,
        )
        try:
            yield opened
        except BaseException:
            opened.finish(failed=True)
            raise
        opened.finish()


@dataclass(frozen=True)
class LightningTrainer:
    """What `conf/trainer/*.yaml` builds: Lightning's trainer for each step.

    It offers those of Lightning's arguments that change no weight and no score; what does belongs
    to `training`, where recipes see it.

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
        except (MisconfigurationException, ModuleNotFoundError, ValueError, TypeError) as error:
            raise UserError(
                f"trainer=: Lightning says: {reason(error)}; set trainer=auto, or trainer=cpu."
            ) from None
        if trainer.world_size > 1:
            raise UserError(
                f"A model is trained on one device, not on the {trainer.world_size} given; "
                "set trainer.devices=1 and start the same command once for each device "
                "(CUDA_VISIBLE_DEVICES=0, 1, ...): they share the work through the store."
            )
        return trainer
