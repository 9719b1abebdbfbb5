"""The graph of steps behind a region study: a grid of models, its geometry, paths, centroids."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from dfwe.data.corpus import ByRole, Corpus
from dfwe.data.table import TableCorpus
from dfwe.errors import UserError
from dfwe.pipeline.step import Step
from dfwe.stages.evaluate import Test
from dfwe.stages.pretrain import Pretrain
from dfwe.stages.train import Train
from dfwe.studies.experiment import Experiment
from dfwe.studies.region.config import Settings
from dfwe.studies.region.losses import Paths
from dfwe.studies.region.stages import TRANSFER, Centroid, Geometry, Grid, Transfer
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.freezing import freeze


@dataclass(frozen=True)
class RegionPlan:
    """Every dataset (task and sources) x every seed, and what is learned from where they lie.

    Args:
        study: the target, its sources, the model and how it is trained.
        settings: sizes and groups of the region study.
    """

    study: Experiment
    settings: Settings

    @property
    def base(self) -> Pretrain | None:
        """The step that pretrains the model, if it is pretrained here."""
        return self.study.pretraining

    @property
    def tasks(self) -> tuple[Task, ...]:
        return (self.study.task, *self.study.sources)

    def model(self, task: Task, seed: int) -> Train:
        """One model of the grid: the very expert that DFWE trains on the task alone."""
        return self._train("experts", task, seed, self.study.corpus, self.base)

    @cached_property
    def grid(self) -> Grid:
        models = (self.model(task, seed) for task in self.tasks for seed in self.settings.seeds)
        return Grid(tuple(models), self.study.model, self.base)

    @cached_property
    def geometry(self) -> Geometry:
        return Geometry(self.label, self.group, self.grid, self.settings)

    @cached_property
    def paths(self) -> Paths:
        return Paths(
            self.label, self.group, self.grid, self.tasks, self.study.corpus, self.settings
        )

    @cached_property
    def centroids(self) -> dict[str, dict[str, Centroid]]:
        """Dataset -> name of a start -> the average of models of unrelated datasets."""
        return {task.name: dict(self._centroids(task)) for task in self.tasks}

    @cached_property
    def transfer(self) -> Transfer:
        """What BitFit reaches from each start."""
        trainings, starts, sizes = zip(*self._starts(), strict=True)
        tests = tuple(self._test(training) for training in trainings)
        return Transfer(self.label, self.group, tests, starts, sizes)

    def steps(self, stages: Sequence[str]) -> Iterator[Step]:
        """What a stage that computes these stages' steps needs; others are not even planned."""
        if self.base is not None:
            yield self.base
        yield from self.grid.models
        yield self.geometry
        if self.paths.stage in stages:
            yield self.paths
        if TRANSFER in stages:
            for starts in self.centroids.values():
                yield from starts.values()
            yield from (test.tested for test in self.transfer.tests)
            yield from self.transfer.tests
            yield self.transfer

    def check(self) -> None:
        """What can be known before any work.

        Raises:
            UserError: the model has nothing of what is trained from each start, or no dataset
                can be probed.
        """
        if not self.paths.probed:
            raise UserError(
                "No dataset of this study has one label of a fixed set for each text, "
                "which a linear probe needs; name some in sources.list."
            )
        from dfwe.studies.region.backbones import empty_backbone

        backbone = empty_backbone(self.study.model.folder if self.base is None else None)
        freeze(backbone, self.settings.centroid.parameters, "region.centroid.parameters")

    @property
    def label(self) -> str:
        return f"{len(self.tasks)} datasets x {len(self.settings.seeds)}"

    @property
    def group(self) -> str:
        return f"region-{self.study.model.name}"

    def _centroids(self, task: Task) -> Iterator[tuple[str, Centroid]]:
        related = self.settings.related(task.name)
        others = [step for step in self.grid.models if step.monitor.name not in related]
        if not others:
            raise UserError(
                f"Nothing is left to average for {task.name}: every dataset shares "
                "its texts; name other datasets in sources.list."
            )
        few = min(self.settings.centroid.subset, len(others))
        rng = np.random.default_rng(0)
        drawn: list[int] = rng.choice(len(others), few, replace=False).tolist()
        sample = [others[i] for i in sorted(drawn)]
        for name, members in (("centroid", others), (f"average of {few}", sample)):
            grid = Grid(tuple(members), self.study.model, self.base)
            yield name, Centroid(f"{name} for {task.name}", self.group, grid)

    def _starts(self) -> Iterator[tuple[Train, str, int | None]]:
        """(training, name of its start, training rows)."""
        chosen = self.settings.centroid
        training = replace(
            self.study.training,
            parameters=chosen.parameters,
            patience=None,
            learning_rate=chosen.learning_rate,
            epochs=chosen.epochs,
        )
        for task in self.tasks:
            starts: dict[str, Step | None] = {"pretrained": self.base, **self.centroids[task.name]}
            for limit in chosen.limits:
                corpus = _limited(self.study.corpus, limit)
                for name, start in starts.items():
                    for seed in chosen.seeds:
                        run = self._train("finetune", task, seed, corpus, start, training)
                        yield replace(run, label=f"{task.name} from {name}, {seed}"), name, limit

    def _test(self, training: Train) -> Test:
        study = self.study
        return Test(
            training.label,
            self.group,
            training,
            training.monitor,
            study.corpus,
            study.model,
            study.decoding,
        )

    def _train(
        self,
        stage: str,
        task: Task,
        seed: int,
        corpus: Corpus,
        start: Step | None,
        training: TrainingConfig | None = None,
    ) -> Train:
        study = self.study
        return Train(
            stage,
            f"{task.name} {seed}",
            self.group,
            (task,),
            task,
            corpus,
            study.model,
            training or study.training,
            study.decoding,
            seed,
            study.device,
            start,
        )


def _limited(corpus: Corpus, limit: int | None) -> Corpus:
    """The corpus with so many rows of train and dev, counted as `corpus.limit` is."""
    if limit is None:
        return corpus
    plain = corpus.corpus if isinstance(corpus, ByRole) else corpus
    if not isinstance(plain, TableCorpus):
        raise UserError(
            f"corpus={corpus.name} cannot be cut to {limit} rows; set "
            "region.centroid.limits=[null] and choose corpus.shots."
        )
    return replace(plain, limit=limit, source_limit=None)
