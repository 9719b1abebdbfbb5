"""What a run leaves behind: results.json, ledgers, predictions, pictures and the table."""

import csv
import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from dfwe.card import FILE
from dfwe.data.corpus import published
from dfwe.markup import csv_row
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage
from dfwe.pipeline.files import copy_folder, write_text, written_aside
from dfwe.pipeline.record import Record, SplitScores
from dfwe.pipeline.step import Step
from dfwe.pipeline.store import Store
from dfwe.reporting.results import (
    CrossFittedResult,
    DfweResult,
    ExpertResult,
    MixtureResult,
    ModelScores,
    Results,
    SelectionResult,
    TrainedResult,
)
from dfwe.search.ledger import read_trials
from dfwe.stages.evaluate import Evaluation, Key, Role, TestRecord
from dfwe.stages.import_checkpoint import ImportBase, ImportCheckpoint
from dfwe.stages.interpolate import TRIALS, Choice, SearchRecord, named
from dfwe.stages.train import Train, TrainRecord
from dfwe.statistics.bootstrap import ONE_DIALOGUE
from dfwe.studies.ensembling.comparison import described, entries, gain, parts
from dfwe.studies.ensembling.out_of_fold import k_fold_results
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.study_log import log_study
from dfwe.weights.adapters import read_checkpoint

if TYPE_CHECKING:
    from dfwe.reporting.model_card import Origin

log = logging.getLogger(__name__)
RESULTS = "results.json"
NAMED = ("corpus", "task", "model", "sources.list")  # what headings name without its key
AnyRecord = TypeVar("AnyRecord", bound=Record)


def results(
    plan: Plan, stage: Stage, store: Store, keys: Mapping[str, str] | None = None
) -> Results:
    """The results of a plan; the test split is looked at only by a stage that evaluates.

    Args:
        plan: of the study.
        stage: what was asked for.
        store: where its results are.
        keys: key -> value of what a person set.
    """
    study, labels = plan.study, [step.label for step in plan.members]
    search = _read(store, plan.interpolation, SearchRecord)
    tested = "evaluate" in stage.computes
    test = _read(store, plan.evaluation, TestRecord) if tested else None
    rows = entries(plan, store) if test else {}
    gained = gain([([rows["dfwe"]], [rows["baseline"]])]) if rows else None
    mixture, baseline = _score(test, "mixture"), _score(test, "baseline")

    def chosen(role: Role, choice: Choice | None) -> MixtureResult:
        return MixtureResult(
            alpha=None if not (search and choice) else named(choice.alpha, labels, search.groups),
            dev=choice and choice.dev.score,
            test=_score(test, role),
        )

    return Results(
        task=study.measured_by,
        seed=study.seed,
        model="checkpoints" if study.checkpoints else study.model.name,
        corpus=study.measured_on,
        sources=labels if study.checkpoints else [source.name for source in study.sources],
        settings={k: v for k, v in (keys or {}).items() if k not in NAMED},
        models=[_trained(step, store) for step in _models(plan) if step.recipe in store],
        experts=[
            ExpertResult(
                label=step.label,
                address=step.recipe.address,
                dev=_dev(store, step, search, place),
                test=_score(test, place),
            )
            for place, step in enumerate(plan.members)
        ],
        baseline=ModelScores(dev=_dev(store, plan.baseline, search, 0), test=baseline),
        uniform=ModelScores(
            dev=search and search.uniform and search.uniform.score, test=_score(test, "uniform")
        ),
        dfwe=DfweResult(
            alpha=None if search is None else named(search.alpha, labels, search.groups),
            dev=search and search.dev.score,
            test=mixture,
            evaluations=search and search.cost.evaluations,
            iterations=search and search.iterations,
            dev_metrics=search and search.dev.metrics,
            test_metrics=_metrics(test, "mixture"),
            failed=0 if search is None else search.all_failed,
            remeasured=0 if search is None else len(search.remeasured),
            remark=search and search.remark,
        ),
        one_standard_error=chosen("one_standard_error", search and search.one_standard_error),
        likeliest=chosen("likeliest", search and search.likeliest),
        cross_fitted=_cross_fitted(search, labels),
        selection=_selection(search, labels),
        optimism=None if mixture is None or search is None else search.dev.score - mixture,
        delta=None if mixture is None or baseline is None else mixture - baseline,
        methods=described(rows) if rows else None,
        interval=gained and gained.interval,
        no_interval=_no_interval(plan) if gained and gained.interval is None else None,
        parts=parts([rows]) if rows else None,
        k_fold=k_fold_results(plan, store, tested),
        seconds=_seconds(plan, store, tested),
        model_dir=None if search is None else str(store.whole(plan.interpolation.recipe)),
    )


def _no_interval(plan: Plan) -> str:
    own = plan.study.score
    if own is None:
        return ONE_DIALOGUE
    return f"no interval: score={own.path} gives a number, and no answers to resample"


def present(plan: Plan, stage: Stage, context: Context) -> Results:
    """Write the run's folder and print the table."""
    from dfwe.reporting.terminal import console, contenders, summary, trained

    output, store = context.output, context.store
    output.mkdir(parents=True, exist_ok=True)
    shown = results(plan, stage, context.store, context.chosen)
    _draw_trainings(plan, context)
    if plan.interpolation.recipe in store:
        _copy_search(plan, context)
        for name, text in model_files(plan, shown, store).items():
            write_text(output / name, text)
    if shown.delta is not None and plan.evaluation.has_answers:
        _write_answers(plan, context)
    log_study(plan, shown, context)
    shown.write(output / RESULTS)
    terminal = console()
    searched = {"interpolate", "evaluate"} & {*stage.computes}
    terminal.print(summary(shown) if searched else trained(shown, stage.computes, store.root))
    if plan.study.controls and shown.methods:
        terminal.print(contenders(shown.methods, bool(plan.study.checkpoints)))
    return shown


def print_places(plan: Plan, shown: Results, context: Context) -> None:
    """Print where what was computed lies; the last line is results.json's path."""
    from dfwe.reporting.terminal import console

    output, store, terminal = context.output, context.store, console()
    lines = [f"plots        {output}", str(output / RESULTS)]
    if shown.model_dir:
        lines.insert(0, f"final model  {shown.model_dir}")
    if plan.pretraining is not None and plan.pretraining.recipe in store:
        lines.insert(0, f"base model   {store.whole(plan.pretraining.recipe)}")
    for line in lines:
        terminal.print(line, soft_wrap=True)


def model_files(
    plan: Plan, shown: Results, store: Store, place: str = "this folder"
) -> dict[str, str]:
    """Name -> text of the final model's card and, without groups, its mergekit file.

    Args:
        plan: the plan.
        shown: its results.
        store: where the final model is.
        place: what the card's example loads.
    """
    from dfwe.card import Data
    from dfwe.reporting.model_card import model_card
    from dfwe.weights.checkpoint import Checkpoint
    from dfwe.weights.loading import family_of
    from dfwe.weights.merge import mergekit_yaml
    from dfwe.weights.readout import readout_of

    study, step = plan.study, plan.interpolation
    folder = store.whole(step.recipe)
    family = family_of(Checkpoint(folder, ()))
    known = published(study.corpus) if study.score is None else None
    card = model_card(
        shown,
        step.recipe,
        family,
        {expert.label: _origin(plan, expert) for expert in plan.members},
        base=study.base if study.checkpoints else study.model.path,
        data=Data(study.measured_on)
        if known is None
        else Data(study.corpus.name, known.hub_id, known.licence),
        place=place,
        reads_mean=family == "encoder" and readout_of(folder) == "mean",
    )
    files = {"model_card.md": card}
    search = store.record(step.recipe, SearchRecord)
    if search.alpha.ndim == 1:  # mergekit knows no groups of parameters
        parents = [store.folder(expert.recipe).absolute() for expert in plan.members]
        files["mergekit.yml"] = mergekit_yaml(search.alpha.tolist(), parents)
    return files


def _origin(plan: Plan, step: Step) -> "Origin":
    """Where a model that was mixed comes from: as given, or the model that was trained here."""
    from dfwe.card import stated_licence
    from dfwe.reporting.model_card import Origin

    if isinstance(step, ImportCheckpoint | ImportBase):
        return Origin(str(step.name), stated_licence(read_checkpoint(step.name).folder))
    model = plan.study.model
    if model.path is None:
        return Origin(f"{model.name}, pretrained here")
    return Origin(model.path, stated_licence(model.folder))


def publish(plan: Plan, stage: Stage, context: Context, name: str | bool) -> None:
    """Push the final model to the Hub.

    Args:
        name: of the repository; for True, one with the target, seed and address.

    Raises:
        UserError: the Hub refuses.
    """
    from dfwe.weights.hub import push

    recipe = plan.interpolation.recipe
    default = f"dfwe-{plan.study.group}-{recipe.address[:8]}"
    repository = default if name is True else str(name)
    folder = context.output / "model"
    copy_folder(context.store.weights(recipe), folder)
    _write_cards(plan, stage, context, folder, repository)
    log.info("Pushed to %s", push(folder, repository))


def export_model(
    plan: Plan, stage: Stage, context: Context, target: Path, overwrite: bool
) -> None:
    """Copy the final model, with its card, to a folder that a person names.

    Args:
        target: a new folder; with `overwrite` also one that has a model, which it replaces.

    Raises:
        UserError: it exists, and is not to be overwritten or has no model.
    """
    from dfwe.weights.export import check_target, put_away

    check_target(target, overwrite)
    checkpoint = read_checkpoint(context.store.weights(plan.interpolation.recipe))
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as temporary:
        for name, path in (checkpoint.files | checkpoint.beside).items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary / name)
        _write_cards(plan, stage, context, temporary, str(target))
        put_away(target, temporary)
    log.info("Exported to %s", target)


def _write_cards(plan: Plan, stage: Stage, context: Context, folder: Path, place: str) -> None:
    """The card and the mergekit file of a model that leaves the store."""
    shown = results(plan, stage, context.store, context.chosen)
    for name, text in model_files(plan, shown, context.store, place).items():
        write_text(folder / (FILE if name == "model_card.md" else name), text)


def _models(plan: Plan) -> list[Step]:
    """Every step whose result is a model, in the order of the work."""
    steps = {step: step for step in plan.steps if not isinstance(step, Evaluation)}
    return [step for step in steps if step.has_weights]


def _trained(step: Step, store: Store) -> TrainedResult:
    name = step.recipe.name
    if not isinstance(step, Train):
        return TrainedResult(stage=step.stage, label=step.label, name=name)
    record = store.record(step.recipe, TrainRecord)
    return TrainedResult(
        stage=step.stage,
        label=step.label,
        name=name,
        monitor=record.monitor,
        dev=record.dev.score,
        best_epoch=record.best_epoch,
        epochs=len(record.epochs),
    )


def _read(store: Store, step: Step, record: type[AnyRecord]) -> AnyRecord | None:
    return store.record(step.recipe, record) if step.recipe in store else None


def _score(test: TestRecord | None, key: Key) -> float | None:
    scores = None if test is None else test.scores(key)
    return None if scores is None else scores.score


def _metrics(test: TestRecord | None, key: Key) -> dict[str, float | None] | None:
    scores = None if test is None else test.scores(key)
    return None if scores is None else scores.metrics


def _dev(store: Store, step: Step, search: SearchRecord | None, place: int) -> float | None:
    """A model's dev score: its training's or, for an imported checkpoint, the search's."""
    scores: SplitScores | None = None
    if isinstance(step, Train):
        record = _read(store, step, TrainRecord)
        scores = record and record.dev
    elif search is not None:
        scores = search.experts[place]
    return None if scores is None else scores.score


def _cross_fitted(search: SearchRecord | None, labels: Sequence[str]) -> CrossFittedResult | None:
    if search is None or search.cross_fitted is None:
        return None
    crossed = search.cross_fitted
    return CrossFittedResult(
        score=crossed.score,
        metrics=crossed.metrics,
        alphas=[named(alpha, labels, search.groups) for alpha in crossed.alphas],
        optimism=crossed.optimism,
        evaluations=crossed.evaluations,
    )


def _selection(search: SearchRecord | None, labels: Sequence[str]) -> SelectionResult | None:
    if search is None or search.selection is None:
        return None
    selection = search.selection
    low, _, high = selection.quantiles
    return SelectionResult(
        trials=selection.trials,
        shares=selection.shares,
        mean=named(selection.mean, labels, search.groups),
        low=named(low, labels, search.groups),
        high=named(high, labels, search.groups),
        score=selection.score,
        over_uniform=selection.over_uniform,
        over_best_expert=selection.over_best_expert,
        no_certificate=selection.no_certificate,
    )


def _seconds(plan: Plan, store: Store, tested: bool) -> dict[str, float | None]:
    evaluation = (plan.evaluation,) if tested else ()
    stages: dict[str, tuple[Step, ...]] = {
        "experts": plan.experts,
        "finetune": plan.finetuned,
        "interpolate": (plan.interpolation,),
        "evaluate": evaluation,
    }
    return {name: _sum_of_seconds(store, steps) for name, steps in stages.items()}


def _sum_of_seconds(store: Store, steps: Sequence[Step]) -> float | None:
    spent = [store.provenance(step.recipe).seconds for step in steps if step.recipe in store]
    return sum(spent) if spent else None


def _draw_trainings(plan: Plan, context: Context) -> None:
    from dfwe.reporting.plots import LearningCurve, learning_curves

    curves: list[LearningCurve] = []
    for step in (*plan.experts, *plan.members):
        if not isinstance(step, Train) or step.recipe not in context.store:
            continue
        record = context.store.record(step.recipe, TrainRecord)
        scores = [epoch.dev.score for epoch in record.epochs]
        losses = [epoch.train_loss for epoch in record.epochs]
        curves.append(
            LearningCurve(
                step.stage, step.label, record.monitor, record.best_epoch, scores, losses
            )
        )
    if curves:
        learning_curves(curves, context.output / "learning_curves.png")


def _copy_search(plan: Plan, context: Context) -> None:
    """Ledgers and pictures of the search, under the labels that the experts have now."""
    from dfwe.reporting.plots import alpha_bars, search_trajectory

    step, output = plan.interpolation, context.output
    for path in context.store.files(step.recipe, "*.jsonl"):
        shutil.copyfile(path, output / path.name)
    record = context.store.record(step.recipe, SearchRecord)
    labels = [expert.label for expert in step.experts]
    search_trajectory(read_trials(output / TRIALS), labels, record.best, output / "search.png")
    alpha_bars(record.alpha, labels, record.groups, output / "alpha.png")


def _write_answers(plan: Plan, context: Context) -> None:
    """Each model's answers to the test split in one table, and FETA's submission files."""
    test, output = plan.evaluation, context.output
    answers = test.answers(context.store)
    labels = [step.label for step in plan.members]
    columns = [labels[key] if isinstance(key, int) else key for key in answers]
    repeated = {name for name in columns if columns.count(name) > 1}  # a checkpoint named so
    columns = [
        f"{key + 1} {name}" if isinstance(key, int) and name in repeated else name
        for key, name in zip(answers, columns, strict=True)
    ]
    rows = zip(*(column.texts for column in answers.values()), strict=True)
    with (output / "answers.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(csv_row(["id", "input", "gold", *columns]))
        for example, texts in zip(test.examples, rows, strict=True):
            writer.writerow(csv_row([example.id, example.source, example.target, *texts]))
    submissions: dict[str, Key] = {
        "predictions": "mixture",
        "baseline_predictions": "baseline",
    }
    for name, key in submissions.items():  # instance id and prediction, as they are, no header
        with (output / f"{name}.csv").open("w", newline="") as file:
            pairs = zip(test.examples, answers[key].texts, strict=True)
            csv.writer(file).writerows([example.id, text] for example, text in pairs)
