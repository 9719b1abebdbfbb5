"""The weights of other steps as a space, and a mixture of them as a step's result."""

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dfwe.pipeline.step import Run, Step

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from dfwe.weights.space import WeightSpace


def space_of(run: Run, steps: Sequence[Step]) -> "WeightSpace":
    """These steps' weights, one row each, under their labels."""
    from dfwe.weights.space import WeightSpace

    folders, labels = [run.weights(step) for step in steps], [step.label for step in steps]
    return WeightSpace.from_results(folders, labels, run.context.store.cache("flat"))


def export_into(run: Run, space: "WeightSpace", alpha: "ArrayLike" = (1.0,)) -> None:
    """Write theta(alpha), by default the only model of a space, as the step's result."""
    export = run.work / "export"  # created by the export
    shutil.rmtree(export, ignore_errors=True)
    space.export(alpha, export, card=False)
    for path in export.iterdir():
        path.rename(run.output / path.name)
