"""One run of the loggers that stands for a study: its scores, their interval, alpha, answers."""

from collections.abc import Sequence

from dfwe.pipeline.context import Context
from dfwe.pipeline.recipe import Recipe, digest
from dfwe.pipeline.store import Store
from dfwe.reporting.results import Results
from dfwe.stages.interpolate import alpha_scalars
from dfwe.studies.ensembling.plan import Plan


def log_study(plan: Plan, shown: Results, context: Context) -> None:
    """Logs a study whose mixture is known: once, whatever killed the commands before.

    Args:
        plan: of the study.
        shown: its results.
        context: whose loggers get them; the pictures are in its folder already.
    """
    if not context.loggers or shown.dfwe.alpha is None:
        return
    tests = [] if shown.delta is None else [method.test for method in plan.methods]
    stored = {step.recipe.name: step.recipe for step in (plan.interpolation, *tests)}
    parents = tuple(recipe for recipe in stored.values() if recipe in context.store)
    recipe = Recipe("study", 1, {}, parents)
    loggers = [[item.target, sorted(map(str, item.arguments.items()))] for item in context.loggers]
    mark = context.store.cache("logged") / f"{recipe.name}-{digest(loggers)[:8]}"
    if mark.exists():
        return
    from dfwe.pipeline.run_log import open_log

    group = plan.study.group
    with open_log(context.loggers, context.run_of(recipe, group, group)) as log:
        log.summary(scalars(shown))
        pictures = {
            "search/trajectory": context.output / "search.png",
            "search/alpha": context.output / "alpha.png",
        }
        log.images({name: path for name, path in pictures.items() if path.is_file()})
        if shown.delta is not None and plan.evaluation.has_answers:
            log.table("test/predictions", *_predictions(plan, context.store))
    mark.touch()


def scalars(shown: Results) -> dict[str, float]:
    """A study in numbers: scores in points, seconds by stage, alpha by expert."""
    models = {
        "baseline": shown.baseline,
        "uniform": shown.uniform,
        "mixture": shown.dfwe,
        "one_standard_error": shown.one_standard_error,
        "likeliest": shown.likeliest,
        **{f"expert/{expert.label}": expert for expert in shown.experts},
    }
    low, high = shown.interval or (None, None)
    values: dict[str, float | None] = {
        **{f"dev/{name}": model.dev for name, model in models.items()},
        **{f"test/{name}": model.test for name, model in models.items()},
        "dev/cross_fitted": shown.cross_fitted and shown.cross_fitted.score,
        "test/delta": shown.delta,
        "test/delta_low": low,
        "test/delta_high": high,
        "optimism": shown.optimism,
        "evaluations": shown.dfwe.evaluations,
        "iterations": shown.dfwe.iterations,
        **{f"seconds/{stage}": seconds for stage, seconds in shown.seconds.items()},
        **alpha_scalars(shown.dfwe.alpha or {}),
    }
    for method in shown.methods or []:
        values |= {
            f"methods/{method.name}/test": method.test,
            f"methods/{method.name}/delta": method.delta,
        }
    return {name: value for name, value in values.items() if value is not None}


def _predictions(plan: Plan, store: Store) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """The baseline's and the mixture's answers to the test split."""
    answers = plan.evaluation.answers(store)
    columns = ("id", "input", "gold", "baseline", "mixture")
    rows = [
        (example.id, example.source, example.target, baseline, mixture)
        for example, baseline, mixture in zip(
            plan.evaluation.examples,
            answers["baseline"].texts,
            answers["mixture"].texts,
            strict=True,
        )
    ]
    return columns, rows
