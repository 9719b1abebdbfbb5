"""Stage `report`: Table 2 and its company, gathered from the store over tasks and seeds."""

from collections.abc import Callable, Mapping, Sequence

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage
from dfwe.pipeline.files import write_json
from dfwe.reporting.terminal import show
from dfwe.studies.ensembling.comparison import described
from dfwe.studies.ensembling.figures import draw
from dfwe.studies.ensembling.plan import EnsemblingStudy, Plan
from dfwe.studies.ensembling.runs import Runs
from dfwe.studies.ensembling.tables import comparison, corrected, split, table2

MOST_HYPOTHESES = 2


def report(
    study: Callable[[], EnsemblingStudy],
    stage: Stage,
    context: Context,
    *,
    studies: Callable[[str, int], EnsemblingStudy],
    tasks: Sequence[str] | str,
    seeds: Sequence[int] | int,
    published: Mapping[str, Mapping[str, float]],
    published_on: str,
    published_note: str = "",
    hypotheses: Sequence[str] = (),
) -> None:
    """Write table2 and controls as .md, .csv and .tex, report.html, report.json; print Table 2.

    Args:
        study: not asked; the tasks and seeds of the report decide.
        studies: task, seed -> its study, all else as configured.
        published: task -> {"baseline": points, "dfwe": points}, shown for runs on the corpus
            `published_on`.
        published_note: what to know of them, printed below the table that shows them.
        hypotheses: one or two methods over which a gain of DFWE was expected beforehand.
    """
    from dfwe.reporting.html import write_report

    tasks = [tasks] if isinstance(tasks, str) else tasks
    seeds = [seeds] if isinstance(seeds, int) else seeds
    for name, given in (("tasks", tasks), ("seeds", seeds)):
        if not given:
            raise UserError(f"report.{name} is empty; name what to report, or leave it out.")
        if len(set(given)) < len(given):
            raise UserError(f"report.{name}={[*given]} names one twice; name each once.")

    if len(hypotheses) > MOST_HYPOTHESES:
        raise UserError(
            f"report.hypotheses={[*hypotheses]} names more than {MOST_HYPOTHESES}; name those "
            "expected beforehand, all others are adjusted apart."
        )

    def plan(task: str, seed: int) -> Plan:
        try:
            return Plan(studies(task, seed))
        except UserError as error:
            raise UserError(f"Of report.tasks, {task} does not fit: {error}") from None

    runs = Runs(plan, tasks, seeds, context.store)
    like = runs.plans[tasks[0]][0].study
    beside = like.corpus.name == published_on
    tables = [
        table2(runs, published if beside else {}, published_note),
        comparison(runs, hypotheses),
        *split(runs),
        *corrected(runs),
    ]
    context.output.mkdir(parents=True, exist_ok=True)
    lead = f"{like.corpus.name}, {like.model.name}; scores in points on the test split."
    pictures = draw(runs, context.output)
    title = "Derivative-free weight-space ensembling"
    path = write_report(context.output, title, lead, tables, pictures)
    write_json(context.output / "report.json", plain(runs))
    show(tables, path)


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
