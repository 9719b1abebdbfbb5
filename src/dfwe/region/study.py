"""The work of `stage=region`: run its plan, or survey a folder, and show what came out."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from dfwe.execute import Stage, Step, execute
from dfwe.lab import Lab
from dfwe.plan import Study
from dfwe.region.compare import mean_interval
from dfwe.region.plan import RegionPlan
from dfwe.region.settings import Settings
from dfwe.region.sheets import regions, sheets, sources
from dfwe.report.sheet import Sheet
from dfwe.report.tables import show
from dfwe.store import Store, write_json

TITLE = "Regions in weight space"
PICTURES = {  # in a run's folder -> what the page says of it
    "cosine": "Cosine similarity of the task vectors",
    "tree": "Average linkage of the task vectors",
    "plane": "The two directions in which the models differ most",
    "line": "Generalised loss between two models, with 95 % bands",
    "outward": "Generalised loss beyond two models, in log steps",
}


def region(study: Callable[[], Study], stage: Stage, lab: Lab, settings: Settings) -> None:
    """The whole study of a grid; with `checkpoints`, a survey of what is there."""
    given = study()
    if given.checkpoints:
        _survey(given.checkpoints, lab, settings)
        return
    plan = RegionPlan(given, settings)
    if plan.transfer.stage in stage.makes and plan.transfer.recipe not in lab.store:
        plan.check()
    execute(plan.steps(stage.makes), stage, lab)
    lab.output.mkdir(parents=True, exist_ok=True)
    for step in (plan.geometry, plan.paths):
        for picture in lab.store.folder(step.recipe).glob("*.png"):
            (lab.output / picture.name).write_bytes(picture.read_bytes())
    found = results(plan, stage, lab.store)
    lead = f"{plan.study.corpus.name}, {plan.study.model.name}; {plan.label} seeds."
    _show(found, lead, sheets(found), lab.output)


def finetune(study: Callable[[], Study], stage: Stage, lab: Lab, settings: Settings) -> None:
    """One model of the grid: `task` and `seed`."""
    given = study()
    plan = RegionPlan(given, settings)
    model = plan.model(given.task, given.seed)
    execute([*([] if plan.base is None else [plan.base]), model], stage, lab)
    scores = lab.store.scores(model.recipe)
    Console().print(
        f"{model.label}  dev {scores['dev']['score']:.2f}  {lab.store.folder(model.recipe)}",
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


def _survey(checkpoints: Sequence[str], lab: Lab, settings: Settings) -> None:
    from dfwe.region.survey import survey_folders

    lab.check()
    found = survey_folders(checkpoints, settings.base, lab.store.cache("flat"))
    lab.output.mkdir(parents=True, exist_ok=True)
    pictures, held = found.pictures(lab.output), found.results()
    tables = [regions(held), sources(held)]
    label = f"{len(found.labels)} checkpoints"
    with lab.log(found.recipe, label, "region-survey") as log:
        log.images({f"region/{path.stem}": path for path in pictures})
        for table in tables:
            log.tables(f"region/{table.name}", table.columns, table.rows)
    around = settings.base or (
        "their mean, where models of one region point apart too: name the pretrained model in "
        "region.base to see them together"
    )
    _show(held, f"{label}, task vectors around {around}.", tables, lab.output)


def _show(found: dict[str, Any], lead: str, tables: Sequence[Sheet], output: Path) -> None:
    """Write results.json, the tables and the page; print the tables and where all that is."""
    from dfwe.report.page import write_report

    write_json(output / "results.json", found)
    drawn = {
        text: [path]
        for name, text in PICTURES.items()
        if (path := output / f"{name}.png").is_file()
    }
    show(tables, write_report(output, TITLE, lead, tables, drawn), output / "results.json")
