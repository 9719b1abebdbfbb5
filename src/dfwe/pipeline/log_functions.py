"""What Lightning's loggers have no common word for, by `functools.singledispatch` on their class.

A logger without such a function gets scalars alone; the files in the run's folder have the rest.
`wandb_log` and `file_logs` register theirs; so may a module of yours that names its own logger.
"""

from collections.abc import Mapping, Sequence
from functools import singledispatch
from pathlib import Path

from lightning.pytorch.loggers import Logger

from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import StoredRecipe

Rows = Sequence[Sequence[object]]


@singledispatch
def log_table(logger: Logger, name: str, columns: Sequence[str], rows: Rows) -> None:
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
def has_history(logger: Logger) -> bool:
    """Whether the logger has already what an earlier attempt at this run logged."""
    return False


@singledispatch
def finish(logger: Logger, failed: bool) -> None:
    """The end of a run."""
    logger.finalize("failed" if failed else "success")
