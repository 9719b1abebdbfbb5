"""The work of `stage=region`: run its plan, or survey a folder, and show what came out."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Work
from dfwe.pipeline.files import write_json
from dfwe.pipeline.store import Store
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import console, show
from dfwe.stages.train import Train, TrainRecord
from dfwe.studies.experiment import Experiment
from dfwe.studies.region.config import Settings
from dfwe.studies.region.contents import (
    GeometryResults,
    GridModel,
    PathsResults,
    StudyResults,
    TransferResult,
)
from dfwe.studies.region.losses import LossesRecord
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.stages import TRANSFER, GeometryRecord, TransferRecord, TransferRow
from dfwe.studies.region.statistics import Interval, mean_interval, t_interval
from dfwe.studies.region.tables import answer, regions, sources, survey_answer, tables

Value = TypeVar("Value")
TITLE = "Regions in weight space"
PICTURES = {  # file name without ending -> caption on the page
    "cosine": "How alike the models' task vectors are (what training changed): the cosine of each "
    "pair; a model with itself is left out of the scale.",
    "tree": "Which models are closest: the tree of average linkage on 1 - cosine.",
    "plane": "The models on the two directions in which they differ most; a cross is a centroid.",
    "line": "Loss on the way from one model to another, over several datasets, with 95 % bands.",
    "extrapolation": "Loss beyond two models, on the line through them, in log steps.",
}


def region(
    study: Callable[[], Experiment],
    stage: Stage,
    context: Context,
    settings: Settings,
    checkpoints: Sequence[str] = (),
) -> Work:
    """The whole study of a grid; with `checkpoints`, a survey of what is there."""
    if checkpoints:
        return Work(partial(_survey, checkpoints, context, settings))
    plan = RegionPlan(study(), settings)
    if TRANSFER in stage.computes and plan.transfer.recipe not in context.store:
        plan.check()
    steps = tuple(plan.steps(stage.computes))
    for step in steps:
        if isinstance(step, Train):
            step.check()
    return Work(partial(_present, plan, stage, context), steps)


def _present(plan: RegionPlan, stage: Stage, context: Context) -> dict[str, float | None]:
    context.output.mkdir(parents=True, exist_ok=True)
    for step in (plan.geometry, plan.paths):
        for picture in context.store.files(step.recipe, "*.png"):
            (context.output / picture.name).write_bytes(picture.read_bytes())
    shown = results(plan, stage, context.store)
    origin = (
        f"Corpus {plan.study.corpus.name}, model {plan.study.model.name}, {plan.label} seeds; by "
        f"`{context.command(stage.name)}`."
    )
    _show(shown, answer(shown), origin, tables(shown), context.output)
    return {}


def finetune(
    study: Callable[[], Experiment], stage: Stage, context: Context, settings: Settings
) -> Work:
    """One model of the grid: `task` and `seed`."""
    experiment = study()
    plan = RegionPlan(experiment, settings)
    model = plan.model(experiment.task, experiment.seed)
    model.check()

    def present() -> dict[str, float | None]:
        record = context.store.record(model.recipe, TrainRecord)
        folder = context.store.whole(model.recipe)
        console().print(f"{model.label}  dev {record.dev.score:.2f}  {folder}", soft_wrap=True)
        return {}

    return Work(present, (model,) if plan.base is None else (plan.base, model))


def results(plan: RegionPlan, stage: Stage, store: Store) -> StudyResults:
    """What the store has of the plan; None for what this stage leaves out."""
    geometry: GeometryResults | None = None
    paths: list[PathsResults] | None = None
    transfer: list[TransferResult] | None = None
    if plan.geometry.recipe in store:
        geometry = geometry_results(store.record(plan.geometry.recipe, GeometryRecord))
    if plan.paths.recipe in store:
        paths = store.record(plan.paths.recipe, LossesRecord).results()
    if TRANSFER in stage.computes and plan.transfer.recipe in store:
        transfer = transfer_results(store.record(plan.transfer.recipe, TransferRecord).rows)
    grid: list[GridModel] = []
    for step in plan.grid.models:
        if step.recipe in store:
            dev = store.record(step.recipe, TrainRecord).dev.score
            grid.append({"label": step.label, "address": step.recipe.address, "dev": dev})
    return {
        "model": plan.study.model.name,
        "corpus": plan.study.corpus.name,
        "datasets": [task.name for task in plan.tasks],
        "seeds": list(plan.settings.seeds),
        "grid": grid,
        "sources": None if geometry is None else geometry["nearest"],
        "geometry": geometry,
        "paths": paths,
        "transfer": transfer,
    }


def geometry_results(record: GeometryRecord) -> GeometryResults:
    """The geometry as a person reads it: by the names of the datasets."""
    names = record.datasets

    def by_name(values: Iterable[Value]) -> dict[str, Value]:
        return dict(zip(names, values, strict=True))

    distances = by_name(record.distance)
    clusters = {"dataset": record.dataset_clusters, "family": record.family_clusters}
    return {
        "owners": [names[owner] for owner in record.owners],
        "labels": list(record.labels),
        "families": list(record.families),
        "clusters": {
            kind: scores.model_dump() if scores else {} for kind, scores in clusters.items()
        },
        "cosine": by_name(by_name(row) for row in record.cosine.tolist()),
        "norm": by_name(record.norm.tolist()),
        "distance": {name: value for name, value in distances.items() if value is not None},
        "variance": {**by_name(record.variance.tolist()), "all": record.variance_of_all},
        "nearest": by_name([names[k] for k in row] for row in record.nearest),
    }


def transfer_results(rows: Sequence[TransferRow]) -> list[TransferResult]:
    """Test scores over seeds by size, start and dataset, and the gain on the pretrained start.

    The gain is paired by seed; of `all`, its interval is over the datasets' mean gains, since the
    runs of one dataset share its texts and its centroid.
    """
    cells: list[TransferResult] = []
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    starts = list(dict.fromkeys(row.start for row in rows))
    for size in dict.fromkeys(row.size for row in rows):
        for start in starts:
            means: list[float] = []
            gains: list[float] = []  # means by dataset
            for dataset in datasets:
                scores = _by_seed(rows, dataset, size, start)
                pretrained = _by_seed(rows, dataset, size, "pretrained")
                gained = [score - pretrained[seed] for seed, score in scores.items()]
                gain = mean_interval(gained)
                cells.append(_cell(dataset, size, start, list(scores.values()), gain))
                means.append(cells[-1]["mean"])
                gains.append(gain[0])
            cells.append(_cell("all", size, start, means, t_interval(gains)))
    return cells


def _by_seed(
    rows: Sequence[TransferRow], dataset: str, size: int | None, start: str
) -> dict[int, float]:
    wanted = (dataset, size, start)
    return {row.seed: row.test for row in rows if (row.dataset, row.size, row.start) == wanted}


def _cell(
    dataset: str,
    size: int | None,
    start: str,
    scores: list[float],
    gain: tuple[float, Interval],
) -> TransferResult:
    """A cell; `gain` is a mean with its interval."""
    mean, (low, high) = gain
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return {
        "dataset": dataset,
        "size": size,
        "start": start,
        "mean": float(np.mean(scores)),
        "sd": spread,
        "gain": mean,
        "low": low,
        "high": high,
    }


def _survey(
    checkpoints: Sequence[str], context: Context, settings: Settings
) -> dict[str, float | None]:
    """Surveys checkpoints; a survey computes no weights and is not kept in the store."""
    from dfwe.pipeline.run_log import open_log
    from dfwe.studies.region.survey import survey_folders

    context.check()
    surveyed = survey_folders(checkpoints, settings.base, context.store.cache("flat"))
    context.output.mkdir(parents=True, exist_ok=True)
    pictures, values = surveyed.pictures(context.output), surveyed.results()
    shown = [regions(values), sources(values)]
    label = f"{len(surveyed.labels)} checkpoints"
    with open_log(context.loggers, context.run_of(surveyed.recipe, label, "region-survey")) as log:
        log.images({f"region/{path.stem}": path for path in pictures})
        for table in shown:
            log.table(f"region/{table.name}", table.columns, table.rows)
    around = settings.base or (
        "their mean, where models of one region point apart too: name the pretrained model in "
        "region.base to see them together"
    )
    origin = f"{label}, task vectors around {around}."
    _show(values, survey_answer(values), origin, shown, context.output)
    return {}


def _show(
    results: Mapping[str, object], answer: str, origin: str, tables: Sequence[Table], output: Path
) -> None:
    """Write results.json, the tables and the page; print the tables and where all that is."""
    from dfwe.reporting.html import Page, Picture

    write_json(output / "results.json", results)
    drawn = [
        Picture(path, text)
        for name, text in PICTURES.items()
        if (path := output / f"{name}.png").is_file()
    ]
    pictures = {"Where the models lie": drawn} if drawn else {}
    page = Page(TITLE, answer, origin, tables, pictures)
    show(tables, page.write(output), output / "results.json")
