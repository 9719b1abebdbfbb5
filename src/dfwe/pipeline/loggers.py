"""The loggers that a configuration names: what is known of them before any work."""

import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfwe.errors import UserError, check_choice, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.recipe import Recipe
from dfwe.plain import Plain

if TYPE_CHECKING:
    import wandb

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"
MODES = ("offline", "online", "disabled")  # of Weights & Biases
OFFLINE = "stay with logger.wandb.mode=offline and `wandb sync` the runs later"
NEEDS = {  # logger -> the packages of which it needs one, the usual one first
    "lightning.pytorch.loggers.TensorBoardLogger": ("tensorboard", "tensorboardX"),
    "lightning.pytorch.loggers.MLFlowLogger": ("mlflow",),
    "lightning.pytorch.loggers.CometLogger": ("comet_ml",),
}


@dataclass(frozen=True)
class RunOf:
    """Which run a logger is opened for.

    Args:
        recipe: of what is computed.
        name: what a person calls the run.
        group: what it is listed under.
        config: the resolved configuration, whose keys are to be compared between runs.
        folder: the command's output folder.
        work: the step's unfinished work, which survives a kill; None of a run without one.
    """

    recipe: Recipe
    name: str
    group: str
    config: Mapping[str, Plain]
    folder: Path
    work: Path | None = None

    @property
    def hyperparameters(self) -> dict[str, object]:
        """The configuration, and what decided this result."""
        return {**self.config, "recipe": dict(self.recipe.describe())}


def check_loggers(loggers: Sequence[Deferred]) -> None:
    """What can be known before any work.

    Raises:
        UserError: a package is missing, a setting is unknown, or nobody is logged in to the
            service that is asked for.
    """
    for logger in loggers:
        needed = NEEDS.get(logger.target, ())
        if needed and not any(importlib.util.find_spec(name) for name in needed):
            raise UserError(
                f"{logger.target} needs the package {needed[0]}: pip install {needed[0]}."
            )
        if logger.target == WANDB:
            mode = logger.arguments.get("mode", "online")
            check_choice("logger.wandb.mode", mode, MODES)
            if mode == "online":
                wandb_api("logger.wandb.mode=online", OFFLINE)


def wandb_api(what: str, instead: str) -> "wandb.Api":
    """W&B's API.

    Args:
        what: needs it; the sentence begins with it.
        instead: what somebody without a login can do; the sentence ends with it.

    Raises:
        UserError: there is no valid key or no server.
    """
    import wandb
    from wandb.errors import Error, UsageError

    try:
        if not wandb.login(prompt=False, verify=False):
            raise UsageError("no API key is configured")
        return wandb.Api()
    except Error as error:
        raise UserError(
            f"{what} needs a Weights & Biases login ({reason(error)}): run `wandb login`, or "
            f"{instead}."
        ) from None
