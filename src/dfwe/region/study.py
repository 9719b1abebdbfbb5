"""The work of `stage=region`: run its plan, or survey a folder, and show what came out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from dfwe.execute import Stage, Step, execute
from dfwe.lab import Lab
from dfwe.plan import Study
from dfwe.region.compare import mean_interval
from dfwe.region.plan import RegionPlan
from dfwe.region.settings import Settings
from dfwe.store import Store, write_json

PICTURES = ("cosine", "tree", "plane", "line", "outward")


def region(study: Study, stage: Stage, lab: Lab, settings: Settings) -> None:
    """The whole study of a grid; with `checkpoints`, a survey of what is there."""
    if study.checkpoints:
        _survey(study.checkpoints, lab, settings)
        return
    plan = RegionPlan(study, settings)
    execute([step for step in plan.steps if step.stage in stage.makes], stage, lab)
    lab.output.mkdir(parents=True, exist_ok=True)
    found = results(plan, stage, lab.store)
    for step in (plan.geometry, plan.paths):
        for picture in lab.store.folder(step.recipe).glob("*.png"):
            (lab.output / picture.name).write_bytes(picture.read_bytes())
    _show(found, lab.output)


def finetune(study: Study, stage: Stage, lab: Lab, settings: Settings) -> None:
    """One model of the grid: `task` and `seed`."""
    plan = RegionPlan(study, settings)
    model = plan.model(study.task, study.seed)
    execute([*([] if plan.base is None else [plan.base]), model], stage, lab)
    scores = lab.store.scores(model.recipe)
    Console().print(f"{model.label}  dev {scores['dev']['score']:.2f}  "
                    f"{lab.store.folder(model.recipe)}", soft_wrap=True)  # fmt: skip


def results(plan: RegionPlan, stage: Stage, store: Store) -> dict[str, Any]:
    """`results.json`: what the store holds of the plan; null for what this stage does not make."""

    def scores(step: Step) -> dict[str, Any] | None:
        return store.scores(step.recipe) if step.recipe in store else None

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
        "geometry": scores(plan.geometry),
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
            everything = [row["mean"] for row in found
                          if (row["size"], row["start"]) == (size, start)]  # fmt: skip
            found.append(_row("all", size, start, everything, pooled))
    return found


def _row(
    dataset: str, size: int | None, start: str, scores: list[float], gains: list[float]
) -> dict[str, Any]:
    gain, low, high = mean_interval(gains)
    return {"dataset": dataset, "size": size, "start": start, "mean": float(np.mean(scores)),
            "sd": float(np.std(scores)), "gain": gain, "low": low, "high": high}  # fmt: skip


def _survey(checkpoints: Sequence[str], lab: Lab, settings: Settings) -> None:
    from dfwe.region.survey import survey_folders

    lab.output.mkdir(parents=True, exist_ok=True)
    found = survey_folders(checkpoints, settings.base, lab.store.cache("flat"))
    found.pictures(lab.output)
    write_json(lab.output / "results.json", found.results())
    console = Console()
    for number, held in enumerate(found.regions, 1):
        console.print(f"region {number}: average {', '.join(held)}", soft_wrap=True)
    if found.outliers:
        console.print(f"outliers: leave {', '.join(found.outliers)} out", soft_wrap=True)
    for label, others in found.nearest.items():
        console.print(f"sources for {label}: {', '.join(others[:3])}", soft_wrap=True)
    console.print(str(lab.output / "results.json"), soft_wrap=True, highlight=False)


def _show(found: dict[str, Any], output: Path) -> None:
    write_json(output / "results.json", found)
    console = Console()
    if found["geometry"]:
        clusters = found["geometry"]["clusters"]
        _print(console, "clusters", ("by", "accuracy", "F1", "ARI"),
               [(kind, *(f"{held[key]:.2f}" for key in ("accuracy", "f1", "ari")))
                for kind, held in clusters.items() if held])  # fmt: skip
    if found["paths"]:
        rows = [
            (row["level"], row["group"], row["a"], row["b"], f"{row['p']:.2f}",
             f"{row['low']:.2f}-{row['high']:.2f}")
            for row in found["paths"]["odds"]
        ]  # fmt: skip
        _print(console, "P_B(A, B): how often A has the lower loss",
               ("level", "group", "A", "B", "P_B", "95 %"), rows)  # fmt: skip
    if found["transfer"]:
        rows = [
            (row["dataset"], "all" if row["size"] is None else str(row["size"]), row["start"],
             f"{row['mean']:.2f}", f"{row['gain']:+.2f}",
             f"{row['low']:+.2f} {row['high']:+.2f}")
            for row in found["transfer"]
        ]  # fmt: skip
        _print(console, "test score from each start, gain on the pretrained one",
               ("dataset", "rows", "start", "test", "gain", "95 %"), rows)  # fmt: skip
    console.print(str(output / "results.json"), soft_wrap=True, highlight=False)


def _print(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    table = Table(*columns, title=title, title_justify="left", box=box.SIMPLE, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    console.print(table)
