"""The work of the stages of DFWE: experts, fine-tunings, search, evaluation."""

from collections.abc import Callable, Mapping
from pathlib import Path

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Work
from dfwe.studies.ensembling.plan import EnsemblingStudy, Plan
from dfwe.studies.ensembling.results import export_model, present, print_places, publish
from dfwe.weights.export import check_target
from dfwe.weights.hub import check_login

MIXING = ("interpolate", "evaluate")  # stages of steps after which there is a dev score of DFWE


def ensembling(
    study: Callable[[], EnsemblingStudy],
    stage: Stage,
    context: Context,
    *,
    push: str | bool = False,
    export: Path | None = None,
    overwrite: bool = False,
) -> Work:
    """The plan of a study, and its tables.

    Args:
        study: builds it.
        stage: what is asked for.
        context: where and how it runs.
        push: true, or a repository's name: the final model goes to the Hub.
        export: a folder that the final model is written to.
        overwrite: whether a model that is in that folder is replaced.

    Raises:
        UserError: what can be known to fail before any work.
    """
    plan = Plan(study())
    if plan.study.checkpoints and not set(stage.computes) & set(MIXING):
        raise UserError(
            f"stage={stage.name} computes nothing of checkpoints=[...], which are mixed "
            "as they are; give stage=interpolate or stage=all."
        )
    plan.check(context.store, stage.computes)
    if push:
        check_login()
    if export is not None:
        check_target(export, overwrite)
    computed = "interpolate" in stage.computes or plan.interpolation.recipe in context.store
    if (push or export is not None) and not computed:
        raise UserError(
            f"{'push' if push else 'export'}= needs the final model, which is not computed yet; "
            "give stage=interpolate or stage=all."
        )

    def show() -> Mapping[str, float | None]:
        shown = present(plan, stage, context)
        if export is not None:
            export_model(plan, stage, context, export, overwrite)
        if push:
            publish(plan, stage, context, push)
        print_places(plan, shown, context)
        dev, base, crossed = shown.dfwe.dev, shown.baseline.dev, shown.cross_fitted
        return {
            "dev/score": dev,
            "dev/delta": None if dev is None or base is None else dev - base,
            "dev/cross_fitted": crossed and crossed.score,
        }

    return Work(show, plan.steps)
