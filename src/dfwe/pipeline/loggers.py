"""The loggers that a configuration names: what is known of them before any work."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dfwe.errors import UserError, check_choice, reason
from dfwe.pipeline.deferred import Deferred

if TYPE_CHECKING:
    import wandb

WANDB = "lightning.pytorch.loggers.WandbLogger"
CSV = "lightning.pytorch.loggers.CSVLogger"
MODES = ("offline", "online", "disabled")  # of Weights & Biases


def check_loggers(loggers: Sequence[Deferred]) -> None:
    """What can be known before any work.

    Raises:
        UserError: a setting is unknown, or nobody is logged in to the service that is asked for.
    """
    for logger in loggers:
        if logger.target == WANDB:
            mode = logger.arguments.get("mode", "online")
            check_choice("logger.mode", mode, MODES)
            if mode == "online":
                wandb_api("logger.mode=online")


def wandb_api(what: str) -> "wandb.Api":
    """W&B's API.

    Args:
        what: needs it; the sentence begins with it.

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
            "stay with logger.mode=offline and `wandb sync` the runs later."
        ) from None
