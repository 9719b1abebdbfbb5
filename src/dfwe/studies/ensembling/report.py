"""Stage `report`: Table 2 and its company, gathered from the store over tasks and seeds."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BeforeValidator, Field

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Work
from dfwe.pipeline.files import write_json
from dfwe.reporting.terminal import bounds, show, shown
from dfwe.settings import Names, Whole, settings
from dfwe.studies.ensembling.comparison import described
from dfwe.studies.ensembling.figures import draw
from dfwe.studies.ensembling.plan import EnsemblingStudy, Plan
from dfwe.studies.ensembling.runs import Runs, average, average_gain
from dfwe.studies.ensembling.sweep import runs_in
from dfwe.studies.ensembling.sweep import tables as run_tables
from dfwe.studies.ensembling.tables import comparison, corrected, out_of_fold, split, table2

TITLE = "Derivative-free weight-space ensembling"


def _numbers(value: object) -> object:
    """What is given without brackets is a list of one."""
    return [value] if isinstance(value, int) else value


@settings("report")
class ReportSettings:
    """What a report gathers.

    Args:
        tasks: the targets.
        seeds: of each target's runs.
        runs: folders of runs, as a sweep's, or stores: all that is there is compared instead.
        hypotheses: at most two methods over which a gain of DFWE was expected beforehand.
        published: task -> {"baseline": points, "dfwe": points}, shown beside the runs.
        published_on: the corpus of the published scores; runs on others stand alone.
        published_note: what to know of them, printed below the table that shows them.
    """

    tasks: Names
    seeds: Annotated[Sequence[Whole], BeforeValidator(_numbers)]
    published: Mapping[str, Mapping[str, float]]
    published_on: str
    published_note: str = ""
    hypotheses: Annotated[Names, Field(max_length=2)] = ()
    runs: Names = ()

    def __post_init__(self) -> None:
        for name, given in (("tasks", self.tasks), ("seeds", self.seeds)):
            if not given:
                raise UserError(f"report.{name} is empty; name what to report, or leave it out.")
            if len(set(given)) < len(given):
                raise UserError(f"report.{name}={[*given]} contains a duplicate; name each once.")


def report(
    study: Callable[[], EnsemblingStudy],
    stage: Stage,
    context: Context,
    *,
    studies: Callable[[str, int], EnsemblingStudy],
    settings: ReportSettings,
) -> Work:
    """Write table2 and controls as .md, .csv and .tex, report.html, report.json; print Table 2.

    Args:
        study: not asked; the tasks and seeds of the report decide.
        studies: task, seed -> its study, all else as configured.
        settings: what to gather (`conf/report`).
    """
    return Work(partial(_present, stage, context, studies, settings))


def _present(
    stage: Stage,
    context: Context,
    studies: Callable[[str, int], EnsemblingStudy],
    settings: ReportSettings,
) -> dict[str, float | None]:
    from dfwe.reporting.html import Page

    if settings.runs:
        compared = [run for folder in settings.runs for run in runs_in(Path(folder))]
        tables = run_tables(compared, f"{len(compared)} run{'s' if len(compared) > 1 else ''}")
        origin = f"From {', '.join(settings.runs)}, by `{context.command(stage.name)}`."
        page = Page(TITLE, tables[0].note, origin, tables, {})
        show(tables, page.write(context.output))
        return {}

    def plan(task: str, seed: int) -> Plan:
        try:
            return Plan(studies(task, seed))
        except UserError as error:
            raise UserError(f"Of report.tasks, {task} does not fit: {error}") from None

    runs = Runs(plan, settings.tasks, settings.seeds, context.store)
    like = runs.plans[settings.tasks[0]][0].study
    beside = like.corpus.name == settings.published_on
    tables = [
        table2(runs, settings.published if beside else {}, settings.published_note),
        comparison(runs, settings.hypotheses),
        *split(runs),
        *corrected(runs),
        *out_of_fold(runs),
    ]
    context.output.mkdir(parents=True, exist_ok=True)
    origin = (
        f"Corpus {like.corpus.name}, model {like.model.name}; scores in points on the test split; "
        f"by `{context.command(stage.name)}`."
    )
    title = f"{TITLE}: {_listed(list(runs.finished))}"
    page = Page(title, answer(runs), origin, tables, draw(runs, context.output))
    path = page.write(context.output)
    write_json(context.output / "report.json", plain(runs))
    show(tables, path)
    return {}


def answer(runs: Runs) -> str:
    """What is best, by how much, how sure, at what cost: one sentence."""
    tasks = list(runs.finished)
    gained = average_gain(runs, tasks, "dfwe", "baseline")
    test, base = (average(runs, tasks, name) for name in ("dfwe", "baseline"))
    whole = [name for name in runs.names if all(runs.of(task, name) for task in tasks)]
    best = max(whole, key=lambda name: average(runs, tasks, name))
    first = (
        f"DFWE has {test:.2f} points on test, fine-tuning {base:.2f}: a difference of "
        f"{gained.mean:+.2f}"
    )
    low, high = gained.interval or (-np.inf, np.inf)
    sure = {True: "which is above noise", False: "which noise can explain"}[low > 0 or high < 0]
    if gained.interval is None:
        sure = "of whose noise nothing is known"
    spent = [
        [entry.cost.seconds for task in tasks for entry in runs.of(task, name)]
        for name in ("dfwe", "baseline")
    ]
    mixed, tuned = (sum(second for second in row if second is not None) for row in spent)
    cost = f", for {mixed / tuned:.1f} times the time" if tuned and None not in spent[0] else ""
    interval = f" (95 % interval {bounds(gained.interval)})" if gained.interval else ""
    rival = (
        "no method here is better"
        if best == "dfwe"
        else f"the best method here is {shown(best)}, with {average(runs, tasks, best):.2f}"
    )
    over = f"{_listed(tasks)}, {_seeds(runs)}"
    return f"{first}{interval}, {sure}{cost}; {rival} ({over})."


def _seeds(runs: Runs) -> str:
    number = max(len(group) for group in runs.finished.values())
    return "one seed" if number == 1 else f"up to {number} seeds"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def plain(runs: Runs) -> dict[str, list[dict[str, object]]]:
    """`report.json`: every run's methods."""
    return {
        task: [
            {
                "seed": plan.study.seed,
                "methods": [method.model_dump(mode="json") for method in described(rows)],
            }
            for plan, rows in group
        ]
        for task, group in runs.finished.items()
    }
