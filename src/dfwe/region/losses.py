"""The step that takes generalised losses along paths, and what follows from them (sec. 4-6)."""

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.execute import Step
from dfwe.lab import Lab
from dfwe.recipe import Recipe
from dfwe.region.points import Point, hulls, lines, singles
from dfwe.region.settings import Settings
from dfwe.region.sheets import between
from dfwe.region.steps import Grid
from dfwe.region.tables import Losses, curves, odds
from dfwe.region.texts import ProbeTexts
from dfwe.tasks.task import Task

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

    def run(self, lab: Lab) -> None:
        """Probe every point, or go on with what is missing, and commit tables and curves."""
        began = time.monotonic()
        work = lab.store.work(self.recipe)
        owners, probed = self.grid.owners, list(self.probed)
        points = [
            p for part in (singles, hulls, lines) for p in part(owners, probed, self.settings)
        ]
        losses = self._measure(lab, points, work / "losses.jsonl")
        scores = {
            "odds": odds(points, losses, owners, self.settings),
            "curves": curves(points, losses),
        }
        pictures = self._pictures(scores["curves"], work)
        with lab.log(self.recipe, self.label, self.group) as log:
            log.images({f"region/{path.stem}": path for path in pictures})
            columns = list(scores["odds"][0])
            log.tables("region/odds", columns, [list(row.values()) for row in scores["odds"]])
            told = between(scores["curves"])
            log.tables("region/lines", told.columns, told.rows)

        def fill(folder: Path) -> None:
            for path in pictures:
                path.rename(folder / path.name)
            shutil.copy(work / "losses.jsonl", folder)  # a commit may be killed

        lab.store.commit(self.recipe, fill, {**scores, "seconds": time.monotonic() - began})

    def _measure(self, lab: Lab, points: Sequence[Point], ledger: Path) -> Losses:
        """(point, dataset) -> loss, noted line by line; what is noted is not measured again."""
        losses = _noted(ledger)
        missing = [p for p in points if any((p.name, d) not in losses for d in p.probes)]
        if not missing:
            return losses
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.region.geometry import gram
        from dfwe.weights.layout import flatten

        space, body, tokenizer = self.grid.space(lab)
        flatten(body.to(lab.device))
        norms = np.sqrt(np.diag(gram(space.rows[:-1], space.rows[-1])))
        probes = {name: self._probe(lab, task, tokenizer) for name, task in self.probed.items()}
        with scoring_bar(f"probe {self.label}", len(missing)) as advance, ledger.open("a") as out:
            for point in missing:
                self._write(point, space, body, norms)
                for dataset in point.probes:
                    if (point.name, dataset) not in losses:
                        loss, accuracy = probes[dataset](body)
                        losses[point.name, dataset] = loss
                        row = [point.name, dataset, loss if np.isfinite(loss) else None, accuracy]
                        out.write(json.dumps(row) + "\n")
                        out.flush()
                advance()
        return losses

    def _write(self, point: Point, space: Any, body: Any, norms: np.ndarray) -> None:
        """Put the point into the body; a perturbed base is as far out as some model is."""
        from dfwe.region.paths import perturbed
        from dfwe.weights.layout import flat

        if point.alpha is not None:
            space.write(point.alpha, body)
            return
        norm = float(np.random.default_rng(point.seed).choice(norms))
        held = flat(body, space.layout)
        assert held is not None
        held.copy_(perturbed(space.rows[-1], norm, point.seed))

    @cached_property
    def _texts(self) -> ProbeTexts:
        return ProbeTexts(self.tasks, self.corpus, self.settings.texts, self.settings.unseen)

    def _probe(self, lab: Lab, task: Task, tokenizer: Any) -> Any:
        from dfwe.region.probe import Probe, Texts

        held = []
        for split in ("train", "dev"):
            corpus, index = self._texts.draw(task, split)
            encoded = self.grid.model.encode(task, corpus, split, tokenizer, lab.tokens)
            part = replace(
                encoded,
                examples=tuple(encoded.examples[i] for i in index),
                sources=[encoded.sources[i] for i in index],
                targets=[encoded.targets[i] for i in index],
                options=[encoded.options[i] for i in index],
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
        from dfwe.report.maps import loss_curves

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
