"""The steps of a region study: geometry, centroids, and what training from them comes to."""

from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfwe.models.family import ModelFamily
from dfwe.pipeline.record import Array, Record
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.stages.evaluate import Test, TestRecord
from dfwe.stages.train import Train, TrainRecord
from dfwe.studies.region.config import Settings as RegionSettings
from dfwe.studies.region.geometry import (
    agreement,
    cosine,
    distances,
    gram,
    pictures,
    spectral,
    variance,
)
from dfwe.studies.region.points import centroid
from dfwe.weights.loading import save
from dfwe.weights.readout import copy_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.weights.space import WeightSpace

TRANSFER = "region/transfer"
NEAREST = 3  # datasets that are recommended as sources


@dataclass(frozen=True)
class Grid:
    """Fine-tuned models of one base and which dataset each is of."""

    models: tuple[Train, ...]
    model: ModelFamily
    base: Step | None  # the step that pretrains the base; None if it is loaded

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(step.monitor.name for step in self.models)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{step.monitor.name} {step.seed}" for step in self.models)

    @property
    def datasets(self) -> tuple[str, ...]:
        """The distinct datasets, in the order of first appearance."""
        return tuple(dict.fromkeys(self.owners))

    def members(self, dataset: str) -> list[int]:
        """Positions of a dataset's models."""
        return [i for i, owner in enumerate(self.owners) if owner == dataset]

    def space(
        self, run: Run
    ) -> tuple["WeightSpace", "PreTrainedModel", "PreTrainedTokenizerBase"]:
        """The weight space of the backbones, the base last; the network; the tokenizer."""
        from dfwe.studies.region.backbones import backbone_space
        from dfwe.weights.rows import stored_row

        folders = [run.weights(step) for step in self.models]
        base = self.model.folder if self.base is None else run.weights(self.base)
        read = partial(stored_row, cache=run.context.store.cache("flat"))
        return backbone_space(base, folders, self.labels, read, self.model.ready)


class ClusterScores(Record):
    """How well clusters match the truth, 1 being perfect."""

    accuracy: float
    f1: float
    ari: float


class GeometryRecord(Record):
    """Similarity of the task vectors; arrays in the order of `datasets`, d of them.

    Args:
        datasets: the distinct datasets.
        labels: of the n models.
        owners: (n,) position of each model's dataset.
        families: (n,) of each model.
        dataset_clusters: spectral clusters against datasets; None where there is one cluster.
        family_clusters: likewise against families.
        cosine: (d, d), means over pairs of models.
        norm: (d,), mean norm of the task vectors.
        distance: mean distance between a dataset's models; None for a single model.
        variance: (d,), mean squared distance from the dataset's centroid.
        variance_of_all: likewise over all models.
        nearest: of each dataset the positions of the most similar ones.
    """

    datasets: tuple[str, ...]
    labels: tuple[str, ...]
    owners: tuple[int, ...]
    families: tuple[str, ...]
    dataset_clusters: ClusterScores | None
    family_clusters: ClusterScores | None
    cosine: Array
    norm: Array
    distance: tuple[float | None, ...]
    variance: Array
    variance_of_all: float
    nearest: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Geometry(Step):
    """Similarity and clusters of the task vectors (sec. 3)."""

    label: str
    group: str
    grid: Grid
    region: RegionSettings

    kind: ClassVar[str] = "region-geometry"
    record: ClassVar[type[Record]] = GeometryRecord
    has_weights: ClassVar[bool] = False
    stage: str = field(default="region/geometry", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    @property
    def families(self) -> list[str]:
        return [self.region.family(owner) for owner in self.grid.owners]

    def settings(self) -> Settings:
        names = set(self.grid.owners)
        related = {name: sorted(names & self.region.related(name)) for name in names}
        return {"owners": self.grid.owners, "families": self.families, "same_texts": related}

    def run(self, run: Run) -> GeometryRecord:
        """Sums the inner products, clusters, draws."""
        space, _, _ = self.grid.space(run)
        products = gram(space.rows[:-1], space.rows[-1])
        record = self._measure(products)
        drawn = pictures(products, self.grid.labels, self.grid.owners, run.output)
        np.save(run.output / "gram.npy", products)
        run.log.images({f"region/{path.stem}": path for path in drawn})
        run.log.table("region/cosine", self.grid.labels, cosine(products).tolist())
        clusters = {"dataset": record.dataset_clusters, "family": record.family_clusters}
        run.log.summary(
            {
                f"region/{kind}_{key}": value
                for kind, scores in clusters.items()
                for key, value in (scores.model_dump() if scores else {}).items()
            }
        )
        return record

    def _measure(self, products: NDArray[np.float64]) -> GeometryRecord:
        grid, names = self.grid, self.grid.datasets
        similar, apart = cosine(products), distances(products)
        members = [grid.members(name) for name in names]
        near = np.array([[_mean_between(similar, a, b) for b in members] for a in members])
        norms = np.sqrt(np.diag(products))
        return GeometryRecord(
            datasets=names,
            labels=grid.labels,
            owners=tuple(names.index(owner) for owner in grid.owners),
            families=tuple(self.families),
            dataset_clusters=_clusters(similar, list(grid.owners)),
            family_clusters=_clusters(similar, self.families),
            cosine=near,
            norm=np.array([norms[rows].mean() for rows in members]),
            distance=tuple(_mean_distance(apart, rows) for rows in members),
            variance=np.array([variance(products, rows) for rows in members]),
            variance_of_all=variance(products, list(range(len(grid.owners)))),
            nearest=tuple(self._nearest(place, near[place]) for place in range(len(names))),
        )

    def _nearest(self, place: int, similar: NDArray[np.float64]) -> tuple[int, ...]:
        """Positions of the most similar datasets that share no texts with this one."""
        names = self.grid.datasets
        related = self.region.related(names[place])
        others = [k for k, name in enumerate(names) if name not in related]
        return tuple(sorted(others, key=lambda k: -similar[k])[:NEAREST])


def _mean_between(similar: NDArray[np.float64], a: list[int], b: list[int]) -> float:
    """Mean similarity over pairs of different models."""
    return float(np.mean([similar[i, j] for i in a for j in b if i != j]))


def _mean_distance(apart: NDArray[np.float64], rows: list[int]) -> float | None:
    pairs = [apart[i, j] for i, j in combinations(rows, 2)]
    return float(np.mean(pairs)) if pairs else None


def _clusters(similar: NDArray[np.float64], truth: list[str]) -> ClusterScores | None:
    """Scores of spectral clusters; None if all models are of one kind or of different ones."""
    if not 1 < len(set(truth)) < len(truth):
        return None
    scores = agreement(spectral(similar, len(set(truth))).tolist(), truth)
    return ClusterScores(accuracy=scores.accuracy, f1=scores.f1, ari=scores.ari)


class CentroidRecord(Record):
    """An average: how many models are in it."""

    models: int


@dataclass(frozen=True, eq=False)
class Centroid(Step):
    """The uniform average of models' backbones, as a checkpoint that training can start from."""

    label: str
    group: str
    grid: Grid

    kind: ClassVar[str] = "region-centroid"
    record: ClassVar[type[Record]] = CentroidRecord
    stage: str = field(default="region/centroid", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    def settings(self) -> Settings:
        return {}

    def run(self, run: Run) -> CentroidRecord:
        space, network, tokenizer = self.grid.space(run)
        space.write(centroid(space.n, range(space.n - 1)), network)
        save(network, tokenizer, run.output)
        copy_pooling(run.weights(self.grid.models[0]), run.output)
        return CentroidRecord(models=len(self.grid.models))


class TransferRow(Record):
    """One training.

    Args:
        dataset: what it was trained and tested on.
        start: pretrained, centroid, ...
        size: training rows; None is all.
        seed: of the training.
        dev: score, in points.
        test: score, in points.
    """

    dataset: str
    start: str
    size: int | None
    seed: int
    dev: float
    test: float


class TransferRecord(Record):
    """What training from different starts comes to."""

    rows: tuple[TransferRow, ...]


@dataclass(frozen=True, eq=False)
class Transfer(Step):
    """Test scores of what was trained from different starts.

    Args:
        label: what a person calls it.
        group: what a logger groups it under.
        tests: of each training.
        starts: of each training: pretrained, centroid, ...
        sizes: of each training its rows; None is all.
    """

    label: str
    group: str
    tests: tuple[Test, ...]
    starts: tuple[str, ...]
    sizes: tuple[int | None, ...]

    kind: ClassVar[str] = "region-transfer"
    record: ClassVar[type[Record]] = TransferRecord
    has_weights: ClassVar[bool] = False
    stage: str = field(default=TRANSFER, init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.tests

    @property
    def reads_weights(self) -> bool:
        return False

    def settings(self) -> Settings:
        return {"starts": self.starts, "sizes": self.sizes}

    def run(self, run: Run) -> TransferRecord:
        """Gathers dev and test score of every training."""
        rows: list[TransferRow] = []
        for test, start, size in zip(self.tests, self.starts, self.sizes, strict=True):
            training = test.tested
            assert isinstance(training, Train)
            scores = run.read(test, TestRecord).scores("model")
            assert scores is not None
            rows.append(
                TransferRow(
                    dataset=training.monitor.name,
                    start=start,
                    size=size,
                    seed=training.seed,
                    dev=run.read(training, TrainRecord).dev.score,
                    test=scores.score,
                )
            )
        values = [list(row.model_dump().values()) for row in rows]
        run.log.table("region/transfer", list(TransferRow.model_fields), values)
        return TransferRecord(rows=tuple(rows))
