"""The steps of a region study: geometry, generalised losses, centroids, what starts from them."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.recipe import Recipe
from dfwe.scoring.decoding import Decoding
from dfwe.stages.evaluate import Test, test_model
from dfwe.stages.train import Train
from dfwe.studies.region.config import Settings
from dfwe.studies.region.geometry import (
    agreement,
    cosine,
    distances,
    gram,
    pictures,
    spectral,
    variance,
)
from dfwe.studies.region.points import Point, centroid, hulls, lines, singles
from dfwe.studies.region.probe import ProbeTexts
from dfwe.studies.region.statistics import Losses, curves, odds
from dfwe.studies.region.tables import between
from dfwe.tasks.task import Task
from dfwe.weights.loading import save

VERSION = 1


@dataclass(frozen=True)
class Grid:
    """Fine-tuned models of one base and which dataset each is of."""

    models: tuple[Train, ...]
    model: ModelFamily
    base: Step | None  # the step that makes the base, if it is made here

    @property
    def owners(self) -> tuple[str, ...]:
        return tuple(step.monitor.name for step in self.models)

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(f"{step.monitor.name} {step.seed}" for step in self.models)

    def space(self, context: Context) -> tuple[Any, Any, Any]:
        """The weight space of the bodies, the base last; the network; the tokenizer."""
        from dfwe.studies.region.backbones import backbone_space

        folders = [context.store.weights(step.recipe) for step in self.models]
        base = self.model.folder if self.base is None else context.store.weights(self.base.recipe)
        cache = context.store.cache("flat")
        return backbone_space(base, folders, self.labels, cache, self.model.ready)


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

    def run(self, context: Context) -> None:
        """Sum the inner products, cluster, draw."""
        began = time.monotonic()
        space, _, _ = self.grid.space(context)
        products = gram(space.rows[:-1], space.rows[-1])
        similar = cosine(products)
        scores = self._scores(products)
        work = context.store.work(self.recipe)
        drawn = pictures(products, self.grid.labels, self.grid.owners, work)
        with context.log(self.recipe, self.label, self.group) as log:
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

        context.store.commit(self.recipe, fill, {**scores, "seconds": time.monotonic() - began})

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

    def run(self, context: Context) -> None:
        """Average and commit."""
        space, network, tokenizer = self.grid.space(context)
        space.write(centroid(space.n, range(space.n - 1)), network)
        context.store.commit(
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

    def run(self, context: Context) -> None:
        """Score every run once."""
        rows = []
        for step, start, size in zip(self.runs, self.starts, self.sizes, strict=True):
            test = self._test(context, step)
            dev = context.store.scores(step.recipe)["dev"]["score"]
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
        with context.log(self.recipe, self.label, self.group) as log:
            log.tables("region/transfer", list(rows[0]), [list(row.values()) for row in rows])
        context.store.commit(self.recipe, lambda folder: None, {"rows": rows})

    def _test(self, context: Context, step: Train) -> float:
        one = Test(
            step.label, self.group, step, step.monitor, self.corpus, step.model, self.decoding
        )
        return test_model(one, context, context.store.weights(step.recipe)).score


VERSION = 2
SIZES = ("texts", "inside", "perturbed", "pairs", "points", "outward", "steps")


@dataclass(frozen=True)
class Paths:
    """Linear probes on the grid's models and on points between, around and beyond them."""

    label: str
    group: str
    grid: Grid
    tasks: tuple[Task, ...]
    corpus: Corpus
    settings: Settings

    stage = "region/paths"

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    @cached_property
    def probed(self) -> dict[str, Task]:
        """The tasks that a linear probe can learn: one label of a fixed set."""
        return {task.name: task for task in self.tasks if self._is_single_label(task)}

    @cached_property
    def recipe(self) -> Recipe:
        sizes = {key: value for key, value in asdict(self.settings).items() if key in SIZES}
        families = [self.settings.family(owner) for owner in self.grid.owners]
        texts = {
            name: [fingerprint(self._texts.examples(task, split)) for split in ("train", "dev")]
            for name, task in self.probed.items()
        }
        settings = {**sizes, "families": families, "probes": texts}
        return Recipe(self.stage, VERSION, settings, tuple(s.recipe for s in self.parents))

    def run(self, context: Context) -> None:
        """Probe every point, or go on with what is missing, and commit tables and curves."""
        began = time.monotonic()
        work = context.store.work(self.recipe)
        owners, probed = self.grid.owners, list(self.probed)
        points = [
            p for part in (singles, hulls, lines) for p in part(owners, probed, self.settings)
        ]
        losses = self._measure(context, points, work / "losses.jsonl")
        scores = {
            "odds": odds(points, losses, owners, self.settings),
            "curves": curves(points, losses),
        }
        pictures = self._pictures(scores["curves"], work)
        with context.log(self.recipe, self.label, self.group) as log:
            log.images({f"region/{path.stem}": path for path in pictures})
            columns = list(scores["odds"][0])
            log.tables("region/odds", columns, [list(row.values()) for row in scores["odds"]])
            told = between(scores["curves"])
            log.tables("region/lines", told.columns, told.rows)

        def fill(folder: Path) -> None:
            for path in pictures:
                path.rename(folder / path.name)
            shutil.copy(work / "losses.jsonl", folder)  # a commit may be killed

        context.store.commit(self.recipe, fill, {**scores, "seconds": time.monotonic() - began})

    def _measure(self, context: Context, points: Sequence[Point], ledger: Path) -> Losses:
        """(point, dataset) -> loss, noted line by line; what is noted is not measured again."""
        losses = _noted(ledger)
        missing = [p for p in points if any((p.name, d) not in losses for d in p.probes)]
        if not missing:
            return losses
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.studies.region.geometry import gram
        from dfwe.weights.layout import flatten

        space, backbone, tokenizer = self.grid.space(context)
        flatten(backbone.to(context.device))
        norms = np.sqrt(np.diag(gram(space.rows[:-1], space.rows[-1])))
        probes = {
            name: self._probe(context, task, tokenizer) for name, task in self.probed.items()
        }
        with scoring_bar(f"probe {self.label}", len(missing)) as advance, ledger.open("a") as out:
            for point in missing:
                self._write(point, space, backbone, norms)
                for dataset in point.probes:
                    if (point.name, dataset) not in losses:
                        loss, accuracy = probes[dataset](backbone)
                        losses[point.name, dataset] = loss
                        row = [point.name, dataset, loss if np.isfinite(loss) else None, accuracy]
                        out.write(json.dumps(row) + "\n")
                        out.flush()
                advance()
        return losses

    def _write(self, point: Point, space: Any, backbone: Any, norms: np.ndarray) -> None:
        """Put the point into the body; a perturbed base is as far out as some model is."""
        from dfwe.studies.region.points import perturbed
        from dfwe.weights.layout import flat

        if point.alpha is not None:
            space.write(point.alpha, backbone)
            return
        norm = float(np.random.default_rng(point.seed).choice(norms))
        held = flat(backbone, space.layout)
        assert held is not None
        held.copy_(perturbed(space.rows[-1], norm, point.seed))

    @cached_property
    def _texts(self) -> ProbeTexts:
        return ProbeTexts(self.tasks, self.corpus, self.settings.texts, self.settings.unseen)

    def _probe(self, context: Context, task: Task, tokenizer: Any) -> Any:
        from dfwe.studies.region.probe import Probe, Texts

        held = []
        for split in ("train", "dev"):
            corpus, index = self._texts.draw(task, split)
            tokenized = self.grid.model.tokenize(task, corpus, split, tokenizer, context.tokens)
            part = replace(
                tokenized,
                examples=tuple(tokenized.examples[i] for i in index),
                sources=[tokenized.sources[i] for i in index],
                targets=[tokenized.targets[i] for i in index],
                options=[tokenized.options[i] for i in index],
            )
            held.append(Texts.of(part, [task.answer.gold(e) for e in part.examples]))
        return Probe(task.name, *held)

    def _is_single_label(self, task: Task) -> bool:
        examples = task.examples(self.corpus, "train")
        options = examples[0].options
        return bool(options) and all(
            e.options == options and isinstance(task.answer.gold(e), int) for e in examples
        )

    def _pictures(self, found: dict[str, Any], work: Path) -> list[Path]:
        from dfwe.reporting.maps import loss_curves

        return [
            loss_curves(
                {kind: rows["points"] for kind, rows in found[name].items()}, work / f"{name}.png"
            )
            for name in ("line", "outward")
        ]


def _noted(ledger: Path) -> Losses:
    """What the ledger holds; a last line that a kill cut short is dropped."""
    if not ledger.is_file():
        return {}
    text = ledger.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        ledger.write_text(whole)
    rows = [json.loads(line) for line in whole.splitlines()]
    return {(name, d): float("inf") if loss is None else loss for name, d, loss, _ in rows}
