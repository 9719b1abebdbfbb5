"""The card of a mixture that is exported from Python, by what the space knows of its experts."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dfwe.card import Card, Measured, Parent, stated_licence
from dfwe.errors import UserError
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.loading import family_of
from dfwe.weights.readout import readout_of


def mixture_card(
    experts: Sequence[tuple[str, str]],
    weights: NDArray[np.float64],
    groups: Sequence[str],
    folder: Path | None,
    scores: Mapping[str, float],
) -> str:
    """README.md of an export.

    Args:
        experts: of each its label and the name that was given, a folder or a Hub id.
        weights: (g, n), their alpha in each group.
        groups: names of the parameter groups.
        folder: of the first expert's configuration; None where there is none.
        scores: of the mixture by name.
    """
    family = None if folder is None else _family(folder)
    parents = [
        Parent(label, name, column.tolist(), stated_licence(Path(name).expanduser()))
        for (label, name), column in zip(experts, weights.T, strict=True)
    ]
    return Card(
        title=f"A mixture of {len(parents)} models",
        parents=parents,
        groups=("alpha",) if len(groups) == 1 else groups,
        family=family,
        scores=[Measured(name, "dev", value) for name, value in scores.items()],
        reads_mean=family == "encoder" and folder is not None and readout_of(folder) == "mean",
    ).text()


def _family(folder: Path) -> str | None:
    """The family of what the folder's configuration names; None where it gives no answers."""
    try:
        return family_of(Checkpoint(folder, ()))
    except UserError:
        return None
