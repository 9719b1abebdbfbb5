"""Generalised losses of the models, and of points between, around and beyond them (sec. 4)."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.studies.region.config import Settings as RegionSettings
from dfwe.studies.region.contents import CurvesResults, OddsResult, PathsResults
from dfwe.studies.region.points import EXTRAPOLATION, LINE, Point, hulls, lines, singles
from dfwe.studies.region.probe import Probe, ProbeTexts, Texts
from dfwe.studies.region.stages import Grid
from dfwe.studies.region.statistics import Curve, Losses, OddsRow, curves, odds
from dfwe.studies.region.tables import between
from dfwe.tasks.task import Task
from dfwe.weights.readout import Readout
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.weights.space import WeightSpace

LEDGER = "losses.jsonl"
SIZES = ("texts", "interior", "perturbed", "pairs", "points", "extrapolation", "steps")


class ReadoutLosses(Record):
    """Which models have the lower loss, and the loss along lines by kind of pair.

    Args:
        readout: where the probes read the last states.
    """

    readout: Readout
    odds: tuple[OddsRow, ...]
    line: dict[str, Curve]
    extrapolation: dict[str, Curve]

    def curves(self) -> CurvesResults:
        """The losses along lines as plain data."""
        return {
            "line": {
                kind: {"points": [point.model_dump() for point in curve.points]}
                for kind, curve in self.line.items()
            },
            "extrapolation": {
                kind: {
                    "points": [point.model_dump() for point in curve.points],
                    "breaks": list(curve.breaks or ()),
                }
                for kind, curve in self.extrapolation.items()
            },
        }


class LossesRecord(Record):
    """What probes measure: where the model was trained to be read, then elsewhere."""

    readouts: tuple[ReadoutLosses, ...]

    def results(self) -> list[PathsResults]:
        """Readout, odds and curves of each, as plain data."""
        return [
            {
                "readout": losses.readout,
                "odds": [OddsResult(**row.model_dump()) for row in losses.odds],
                "curves": losses.curves(),
            }
            for losses in self.readouts
        ]


@dataclass(frozen=True, eq=False)
class Paths(Step):
    """Linear probes on the grid's models and on points between, around and beyond them."""

    label: str
    group: str
    grid: Grid
    tasks: tuple[Task, ...]
    corpus: Corpus
    region: RegionSettings

    kind: ClassVar[str] = "region-paths"
    version: ClassVar[int] = 5
    record: ClassVar[type[Record]] = LossesRecord
    has_weights: ClassVar[bool] = False
    stage: str = field(default="region/paths", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.grid.models

    @cached_property
    def probed(self) -> dict[str, Task]:
        """The tasks that a linear probe can learn: one label of a fixed set."""
        return {task.name: task for task in self.tasks if self._is_single_label(task)}

    def settings(self) -> Settings:
        sizes = {key: value for key, value in asdict(self.region).items() if key in SIZES}
        families = [self.region.family(owner) for owner in self.grid.owners]
        texts = {
            name: [fingerprint(self._texts.examples(task, split)) for split in ("train", "dev")]
            for name, task in self.probed.items()
        }
        return {**sizes, "families": families, "probes": texts}

    def run(self, run: Run) -> LossesRecord:
        """Probes every point, or what an earlier attempt left, and tabulates and draws."""
        owners, probed = self.grid.owners, list(self.probed)
        points = [
            point
            for part in (singles, hulls, lines)
            for point in part(owners, probed, self.region)
        ]
        losses = self._measure(run, points, run.work / LEDGER)
        record = LossesRecord(
            readouts=tuple(
                ReadoutLosses(
                    readout=readout,
                    odds=tuple(odds(points, part, owners, self.region)),
                    line=curves(LINE, points, part),
                    extrapolation=curves(EXTRAPOLATION, points, part),
                )
                for readout, part in losses.items()
            )
        )
        pictures = self._pictures(record.readouts[0].curves(), run.output)
        shutil.copy(run.work / LEDGER, run.output)  # a commit may be killed
        run.log.images({f"region/{path.stem}": path for path in pictures})
        run.log.table(
            "region/odds",
            ["readout", *OddsRow.model_fields],
            [
                [losses.readout, *row.model_dump().values()]
                for losses in record.readouts
                for row in losses.odds
            ],
        )
        table = between(record.results())
        run.log.table("region/lines", table.columns, table.rows)
        return record

    def _measure(self, run: Run, points: Sequence[Point], ledger: Path) -> dict[Readout, Losses]:
        """Readout -> (point, dataset) -> loss, recorded line by line; resumes after the last."""
        losses = _recorded(ledger, self.grid.model.readouts)
        known = losses[self.grid.model.readouts[0]]
        missing = [p for p in points if not all((p.name, d) in known for d in p.probes)]
        if not missing:
            return losses
        from dfwe.callbacks.progress import scoring_bar
        from dfwe.studies.region.geometry import gram
        from dfwe.weights.layout import flatten

        space, backbone, tokenizer = self.grid.space(run)
        place(backbone, run.context.device)
        flatten(backbone)
        norms = np.sqrt(np.diag(gram(space.rows[:-1], space.rows[-1])))
        probes = {name: self._probe(run, task, tokenizer) for name, task in self.probed.items()}
        with scoring_bar(f"probe {self.label}", len(missing)) as advance, ledger.open("a") as out:
            for point in missing:
                self._write(point, space, backbone, norms)
                for dataset in point.probes:
                    if (point.name, dataset) not in known:
                        row: dict[Readout, tuple[float | None, float]] = {}
                        for readout, (loss, accuracy) in probes[dataset](backbone).items():
                            losses[readout][point.name, dataset] = loss
                            row[readout] = (loss if np.isfinite(loss) else None, accuracy)
                        out.write(json.dumps([point.name, dataset, row]) + "\n")
                        out.flush()
                advance()
        return losses

    def _write(
        self,
        point: Point,
        space: "WeightSpace",
        backbone: "PreTrainedModel",
        norms: NDArray[np.float64],
    ) -> None:
        """Put the point into the backbone; a perturbed base is as far out as some model is."""
        from dfwe.studies.region.points import perturbed
        from dfwe.weights.layout import flat

        if point.alpha is not None:
            space.write(point.alpha, backbone)
            return
        norm = float(np.random.default_rng(point.seed).choice(norms))
        theta = flat(backbone, space.layout)
        assert theta is not None
        theta.copy_(perturbed(space.rows[-1], norm, point.seed))

    @cached_property
    def _texts(self) -> ProbeTexts:
        return ProbeTexts(self.tasks, self.corpus, self.region.texts, self.region.unseen)

    def _probe(self, run: Run, task: Task, tokenizer: "PreTrainedTokenizerBase") -> Probe:
        train, dev = (self._drawn(run, task, split, tokenizer) for split in ("train", "dev"))
        return Probe(task.name, train, dev, self.grid.model.readouts)

    def _drawn(
        self, run: Run, task: Task, split: str, tokenizer: "PreTrainedTokenizerBase"
    ) -> Texts:
        """The texts of a split that the probe reads."""
        corpus, index = self._texts.draw(task, split)
        whole = self.grid.model.tokenize(task, corpus, split, tokenizer, run.context.tokens)
        part = replace(
            whole,
            examples=tuple(whole.examples[i] for i in index),
            sources=[whole.sources[i] for i in index],
            targets=[whole.targets[i] for i in index],
            options=[whole.options[i] for i in index],
        )
        return Texts.of(part, [e.options.index(e.target) for e in part.examples])

    def _is_single_label(self, task: Task) -> bool:
        examples = task.examples(self.corpus, "train")
        options = examples[0].options
        return bool(options) and all(
            e.options == options and isinstance(task.answer.gold(e), int) for e in examples
        )

    def _pictures(self, curves: CurvesResults, folder: Path) -> list[Path]:
        from dfwe.reporting.maps import loss_curves

        return [
            loss_curves({kind: curve["points"] for kind, curve in kinds.items()}, folder / name)
            for name, kinds in (
                ("line.png", curves["line"]),
                ("extrapolation.png", curves["extrapolation"]),
            )
        ]


def _recorded(ledger: Path, readouts: Sequence[Readout]) -> dict[Readout, Losses]:
    """What the ledger has; a last line that a kill cut short is dropped."""
    if not ledger.is_file():
        return {readout: {} for readout in readouts}
    text = ledger.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        ledger.write_text(whole)
    rows = [json.loads(line) for line in whole.splitlines()]
    return {
        readout: {
            (name, dataset): float("inf") if row[readout][0] is None else row[readout][0]
            for name, dataset, row in rows
        }
        for readout in readouts
    }
