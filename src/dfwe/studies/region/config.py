"""What a study of regions compares, as `conf/region/*.yaml` says it."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Annotated

from pydantic import Field

from dfwe.errors import UserError
from dfwe.settings import Count, Positive, Whole, settings
from dfwe.training.freezing import Trained


@settings("region.centroid")
class Start:
    """How a start is judged: what is trained from it, on how much, how often.

    Args:
        seeds: runs from each start.
        limits: training rows, counted as `corpus.limit` is; None is all that the corpus gives.
        subset: models in the smaller average that the centroid is compared with.
        parameters, learning_rate, epochs: of the training.
    """

    seeds: Sequence[Whole] = (0, 1, 2)
    limits: Sequence[Count | None] = (None,)
    subset: Count = 3
    parameters: Trained = "biases"
    learning_rate: Positive = 1e-3
    epochs: Count = 5


@settings("region")
class Settings:
    """Sizes and groups of a study.

    Args:
        seeds: models of each dataset.
        families: family -> its datasets; a dataset in none is a family by itself.
        same_texts: sets of datasets that share texts: no start for one comes from another.
        texts: of each dataset's train and dev splits that a probe sees; None sees all.
        unseen: a probe learns from training texts that no model was fine-tuned on, which a
            corpus's `limit` or few-shot split left out; False: from those of the models.
        interior: random convex combinations a group (In').
        perturbed: bases moved as far as fine-tuning moved them, in random directions.
        pairs: lines of each kind (same dataset, same family, across).
        points: t on a line, ends included.
        extrapolation: lines that are followed beyond their ends.
        steps: log steps of such a line on each side, up to t = 32.
        centroid: what is compared from a centroid.
        base: the checkpoint that a survey's checkpoints started from.
    """

    seeds: Sequence[Whole] = (0, 1, 2, 3, 4)
    families: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])
    same_texts: Sequence[Sequence[str]] = ()
    texts: Count | None = 250
    unseen: bool = False
    interior: Whole = 5
    perturbed: Whole = 5
    pairs: Whole = 3
    points: Annotated[int, Field(ge=3)] = 5
    extrapolation: Whole = 2
    steps: Annotated[int, Field(ge=2)] = 10
    centroid: Start = field(default_factory=Start)
    base: str | None = None

    def __post_init__(self) -> None:
        if len(self.seeds) < 2 or len(set(self.seeds)) < len(self.seeds):
            raise UserError(
                f"region.seeds={list(self.seeds)}: a region needs two or more "
                "different seeds of each dataset."
            )

    def family(self, dataset: str) -> str:
        """The family of a dataset."""
        families = self.families.items()
        return next((name for name, datasets in families if dataset in datasets), dataset)

    def related(self, dataset: str) -> frozenset[str]:
        """The dataset itself and those that share its texts."""
        return frozenset({dataset}.union(*(set(s) for s in self.same_texts if dataset in s)))
