"""The log of one step's run, by every configured logger (imports Lightning).

Loggers are Lightning's; what they have no common word for is in `log_functions`.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from inspect import isclass, signature
from pathlib import Path
from typing import Self

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, WandbLogger

from dfwe.errors import UserError, reason
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.file_logs import mlflow_placed, open_csv
from dfwe.pipeline.log_functions import (
    Rows,
    finish,
    log_images,
    log_result,
    log_summary,
    log_table,
)
from dfwe.pipeline.loggers import RunOf
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import StoredRecipe
from dfwe.pipeline.wandb_log import open_wandb

log = logging.getLogger(__name__)


class RunLog:
    """The loggers of one run; `lightning` is what a Trainer takes.

    In a `with`, they are finished at its end.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.lightning = list(loggers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *unused: object) -> None:
        for logger in self.lightning:
            finish(logger, kind is not None)

    def metrics(self, values: Mapping[str, float | None], step: int) -> None:
        """Scalars of one point of a curve; None is left out."""
        known = {name: value for name, value in values.items() if value is not None}
        for logger in self.lightning:
            logger.log_metrics(known, step=step)

    def table(self, name: str, columns: Sequence[str], rows: Rows) -> None:
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


def open_log(loggers: Sequence[Deferred], run: RunOf) -> RunLog:
    """Opens the loggers of a run.

    Raises:
        UserError: one cannot be made, or a service cannot be reached or refuses.
    """
    return RunLog([_open(logger, run) for logger in loggers])


def _open(logger: Deferred, run: RunOf) -> Logger:
    kind = logger.resolve()
    for known, opener in OPENERS.items():
        if isclass(kind) and issubclass(kind, known):
            return opener(logger, run)
    return _open_any(logger, run)


def _open_any(logger: Deferred, run: RunOf) -> Logger:
    """Any other logger gets what its signature takes of a folder, named after it, and names."""
    function = logger.resolve()
    known, kind = signature(function).parameters, getattr(function, "__name__", "logger")
    offered = {
        "save_dir": run.folder / kind.removesuffix("Logger").lower(),
        "name": run.recipe.kind,
        "run_name": run.name,
        "version": run.recipe.address,
    }
    taken = {k: v for k, v in offered.items() if k in known and k not in logger.arguments}
    try:
        opened = logger(**taken)
        if not isinstance(opened, Logger):
            raise UserError(f"logger=: {logger.target} makes no logger of Lightning; name one.")
        opened.log_hyperparams(run.hyperparameters)  # what opens many
    except UserError:
        raise
    except Exception as error:  # each service has errors of its own
        log.debug("A logger cannot be opened.", exc_info=True)
        raise UserError(
            f"logger=: {logger.target} says: {reason(error)}; correct its keys."
        ) from None
    return opened


def _open_mlflow(logger: Deferred, run: RunOf) -> Logger:
    return _open_any(mlflow_placed(logger, run), run)


OPENERS: dict[type[Logger], Callable[[Deferred, RunOf], Logger]] = {
    WandbLogger: open_wandb,
    CSVLogger: open_csv,
    MLFlowLogger: _open_mlflow,
}
