"""The work of `stage=region`: run its plan, or survey a folder, and show what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Step, execute
from dfwe.pipeline.files import write_json
from dfwe.pipeline.store import Store
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import show
from dfwe.studies.experiment import Experiment
from dfwe.studies.region.config import Settings
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.statistics import mean_interval
from dfwe.studies.region.tables import regions, sources, tables

TITLE = "Regions in weight space"
PICTURES = {  # in a run's folder -> what the page says of it
    "cosine": "Cosine similarity of the task vectors",
    "tree": "Average linkage of the task vectors",
    "plane": "The two directions in which the models differ most",
    "line": "Generalised loss between two models, with 95 % bands",
    "outward": "Generalised loss beyond two models, in log steps",
}


def region(
    study: Callable[[], Experiment],
    stage: Stage,
    context: Context,
    settings: Settings,
    checkpoints: Sequence[str] = (),
) -> None:
    """The whole study of a grid; with `checkpoints`, a survey of what is there."""
    if checkpoints:
        _survey(checkpoints, context, settings)
        return
    plan = RegionPlan(study(), settings)
    if plan.transfer.stage in stage.makes and plan.transfer.recipe not in context.store:
        plan.check()
    execute(plan.steps(stage.makes), stage, context)
    context.output.mkdir(parents=True, exist_ok=True)
    for step in (plan.geometry, plan.paths):
        for picture in context.store.folder(step.recipe).glob("*.png"):
            (context.output / picture.name).write_bytes(picture.read_bytes())
    found = results(plan, stage, context.store)
    lead = f"{plan.study.corpus.name}, {plan.study.model.name}; {plan.label} seeds."
    _show(found, lead, tables(found), context.output)


def finetune(
    study: Callable[[], Experiment], stage: Stage, context: Context, settings: Settings
) -> None:
    """One model of the grid: `task` and `seed`."""
    given = study()
    plan = RegionPlan(given, settings)
    model = plan.model(given.task, given.seed)
    execute([*([] if plan.base is None else [plan.base]), model], stage, context)
    scores = context.store.scores(model.recipe)
    Console().print(
        f"{model.label}  dev {scores['dev']['score']:.2f}  {context.store.folder(model.recipe)}",
        soft_wrap=True,
    )


def results(plan: RegionPlan, stage: Stage, store: Store) -> dict[str, Any]:
    """`results.json`: what the store holds of the plan; null for what this stage does not make."""

    def scores(step: Step) -> dict[str, Any] | None:
        return store.scores(step.recipe) if step.recipe in store else None

    geometry = scores(plan.geometry)
    tested = scores(plan.transfer) if plan.transfer.stage in stage.makes else None
    return {
        "model": plan.study.model.name,
        "corpus": plan.study.corpus.name,
        "datasets": [task.name for task in plan.tasks],
        "seeds": list(plan.settings.seeds),
        "grid": [
            {"label": step.label, "address": step.recipe.address, "dev": held["dev"]["score"]}
            for step in plan.grid.models
            if (held := scores(step))
        ],
        "sources": geometry and geometry["nearest"],
        "geometry": geometry,
        "paths": scores(plan.paths),
        "transfer": None if tested is None else transfer_table(tested["rows"]),
    }


def transfer_table(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Dataset, size, start -> test scores over seeds, and the gain on the pretrained start.

    The gain is paired by seed; `all` pools the datasets.
    """
    found = []
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    for size in dict.fromkeys(row["size"] for row in rows):
        for start in dict.fromkeys(row["start"] for row in rows):
            pooled: list[float] = []
            for dataset in datasets:
                mine = {
                    (row["start"], row["seed"]): row["test"]
                    for row in rows
                    if row["dataset"] == dataset and row["size"] == size
                }
                held = {seed: value for (name, seed), value in mine.items() if name == start}
                gains = [value - mine["pretrained", seed] for seed, value in held.items()]
                pooled += gains
                found.append(_row(dataset, size, start, list(held.values()), gains))
            everything = [
                row["mean"] for row in found if (row["size"], row["start"]) == (size, start)
            ]
            found.append(_row("all", size, start, everything, pooled))
    return found


def _row(
    dataset: str, size: int | None, start: str, scores: list[float], gains: list[float]
) -> dict[str, Any]:
    gain, low, high = mean_interval(gains)
    spread = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    return {
        "dataset": dataset,
        "size": size,
        "start": start,
        "mean": float(np.mean(scores)),
        "sd": spread,
        "gain": gain,
        "low": low,
        "high": high,
    }


def _survey(checkpoints: Sequence[str], context: Context, settings: Settings) -> None:
    from dfwe.studies.region.survey import survey_folders

    context.check()
    found = survey_folders(checkpoints, settings.base, context.store.cache("flat"))
    context.output.mkdir(parents=True, exist_ok=True)
    pictures, held = found.pictures(context.output), found.results()
    tables = [regions(held), sources(held)]
    label = f"{len(found.labels)} checkpoints"
    with context.log(found.recipe, label, "region-survey") as log:
        log.images({f"region/{path.stem}": path for path in pictures})
        for table in tables:
            log.tables(f"region/{table.name}", table.columns, table.rows)
    around = settings.base or (
        "their mean, where models of one region point apart too: name the pretrained model in "
        "region.base to see them together"
    )
    _show(held, f"{label}, task vectors around {around}.", tables, context.output)


def _show(found: dict[str, Any], lead: str, tables: Sequence[Table], output: Path) -> None:
    """Write results.json, the tables and the page; print the tables and where all that is."""
    from dfwe.reporting.html import write_report

    write_json(output / "results.json", found)
    drawn = {
        text: [path]
        for name, text in PICTURES.items()
        if (path := output / f"{name}.png").is_file()
    }
    show(tables, write_report(output, TITLE, lead, tables, drawn), output / "results.json")
