"""The steps of a region study: geometry, generalised losses, centroids, what starts from them."""

import time
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.execute import Step
from dfwe.lab import Lab
from dfwe.model.decoding import Decoding
from dfwe.model.networks import save
from dfwe.model.pretrained import Model
from dfwe.recipe import Recipe
from dfwe.region.geometry import (
    agreement,
    cosine,
    distances,
    gram,
    pictures,
    spectral,
    variance,
)
from dfwe.region.paths import centroid
from dfwe.region.settings import Settings
from dfwe.stages.evaluate import test_model
from dfwe.stages.test import Test
from dfwe.stages.train import Train
from dfwe.tasks.task import Task

VERSION = 1


@dataclass(frozen=True)
class Grid:
    """Fine-tuned models of one base and which dataset each is of."""

    models: tuple[Train, ...]
    model: Model
    base: Step | None  # the step that makes the base, if it is made here

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(step.monitor.name for step in self.models)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{step.monitor.name} {step.seed}" for step in self.models)

    def space(self, lab: Lab) -> tuple[Any, Any, Any]:
        """The weight space of the bodies, the base last; the network; the tokenizer."""
        from dfwe.region.bodies import body_space

        folders = [lab.store.weights(step.recipe) for step in self.models]
        base = self.model.folder if self.base is None else lab.store.weights(self.base.recipe)
        cache = lab.store.cache("flat")
        return body_space(base, folders, self.labels, cache, self.model.ready)


@dataclass(frozen=True)
class Geometry:
    """Similarity and clusters of the task vectors (sec. 3)."""

    label: str
    group: str
    grid: Grid
    settings: Settings

    stage = "region/geometry"

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    @property
    def families(self) -> list[str]:
        return [self.settings.family(owner) for owner in self.grid.owners]

    @cached_property
    def recipe(self) -> Recipe:
        settings: dict[str, Any] = {"owners": self.grid.owners, "families": self.families}
        if shared := self._shared:  # as recipes said it before it was in them
            settings["same_texts"] = shared
        return Recipe(self.stage, VERSION, settings, tuple(s.recipe for s in self.parents))

    @property
    def _shared(self) -> dict[str, list[str]]:
        """Dataset -> those of the grid that share its texts, and itself, where there are any."""
        names = set(self.grid.owners)
        held = {name: sorted(names & self.settings.related(name)) for name in names}
        return {name: others for name, others in held.items() if len(others) > 1}

    def run(self, lab: Lab) -> None:
        """Sum the inner products, cluster, draw."""
        began = time.monotonic()
        space, _, _ = self.grid.space(lab)
        products = gram(space.rows[:-1], space.rows[-1])
        similar = cosine(products)
        scores = self._scores(products)
        work = lab.store.work(self.recipe)
        drawn = pictures(products, self.grid.labels, self.grid.owners, work)
        with lab.log(self.recipe, self.label, self.group) as log:
            log.images({f"region/{path.stem}": path for path in drawn})
            log.tables("region/cosine", list(self.grid.labels), similar.tolist())
            log.summary(
                {
                    f"region/{kind}_{key}": value
                    for kind in ("dataset", "family")
                    for key, value in scores["clusters"][kind].items()
                }
            )

        def fill(folder: Path) -> None:
            np.save(folder / "gram.npy", products)
            for path in drawn:
                path.rename(folder / path.name)

        lab.store.commit(self.recipe, fill, {**scores, "seconds": time.monotonic() - began})

    def _scores(self, products: np.ndarray) -> dict[str, Any]:
        owners, n = self.grid.owners, len(self.grid.owners)
        similar, apart = cosine(products), distances(products)
        names = list(dict.fromkeys(owners))
        members = {name: [i for i in range(n) if owners[i] == name] for name in names}
        near = {
            a: {
                b: float(
                    np.mean([similar[i, j] for i in members[a] for j in members[b] if i != j])
                )
                for b in names
            }
            for a in names
        }
        clusters = {
            kind: vars(agreement(spectral(similar, len(set(truth))).tolist(), truth))
            for kind, truth in (("dataset", owners), ("family", self.families))
            if 1 < len(set(truth)) < n
        }
        return {
            "owners": owners,
            "labels": self.grid.labels,
            "families": self.families,
            "clusters": {"family": {}, **clusters},
            "cosine": near,
            "norm": {
                name: float(np.sqrt(np.diag(products))[held].mean())
                for name, held in members.items()
            },
            "distance": {
                name: float(np.mean([apart[i, j] for i, j in combinations(held, 2)]))
                for name, held in members.items()
                if len(held) > 1
            },
            "variance": {name: variance(products, held) for name, held in members.items()}
            | {"all": variance(products, list(range(n)))},
            "nearest": {
                a: sorted(
                    (b for b in names if b not in self.settings.related(a)),
                    key=lambda b, a=a: -near[a][b],
                )[:3]
                for a in names
            },
        }


@dataclass(frozen=True)
class Centroid:
    """The uniform average of models' bodies, as a checkpoint that training can start from."""

    label: str
    group: str
    grid: Grid

    stage = "region/centroid"

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe(self.stage, VERSION, {}, tuple(s.recipe for s in self.parents))

    def run(self, lab: Lab) -> None:
        """Average and commit."""
        space, network, tokenizer = self.grid.space(lab)
        space.write(centroid(space.n, range(space.n - 1)), network)
        lab.store.commit(
            self.recipe,
            lambda folder: save(network, tokenizer, folder),
            {"models": list(self.grid.labels)},
        )


@dataclass(frozen=True)
class Transfer:
    """Test scores of what was trained from different starts; the test split is read here."""

    label: str
    group: str
    runs: tuple[Train, ...]
    starts: tuple[str, ...]  # of each run: pretrained, centroid, ...
    sizes: tuple[int | None, ...]  # of each run: training rows; None is all
    decoding: Decoding
    corpus: Corpus

    stage = "region/transfer"

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.runs

    @cached_property
    def tasks(self) -> dict[str, Task]:
        return {step.monitor.name: step.monitor for step in self.runs}

    @cached_property
    def recipe(self) -> Recipe:
        settings = {
            "test": {
                name: fingerprint(task.examples(self.corpus, "test"))
                for name, task in self.tasks.items()
            },
            "tasks": {name: task.settings() for name, task in self.tasks.items()},
            "starts": self.starts,
            "sizes": self.sizes,
        }
        return Recipe(self.stage, VERSION, settings, tuple(s.recipe for s in self.parents))

    def run(self, lab: Lab) -> None:
        """Score every run once."""
        rows = []
        for step, start, size in zip(self.runs, self.starts, self.sizes, strict=True):
            test = self._test(lab, step)
            dev = lab.store.scores(step.recipe)["dev"]["score"]
            rows.append(
                {
                    "dataset": step.monitor.name,
                    "start": start,
                    "size": size,
                    "seed": step.seed,
                    "dev": dev,
                    "test": test,
                }
            )
        with lab.log(self.recipe, self.label, self.group) as log:
            log.tables("region/transfer", list(rows[0]), [list(row.values()) for row in rows])
        lab.store.commit(self.recipe, lambda folder: None, {"rows": rows})

    def _test(self, lab: Lab, step: Train) -> float:
        one = Test(
            step.label, self.group, step, step.monitor, self.corpus, step.model, self.decoding
        )
        return test_model(one, lab, lab.store.weights(step.recipe)).score
