"""What a person finds after a run: results.json, trials.jsonl, pictures and the table."""

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Stage, Step
from dfwe.pipeline.files import write_json, write_text
from dfwe.pipeline.store import Store
from dfwe.stages.evaluate import ANSWERS, read_answers, write_answers
from dfwe.stages.import_checkpoint import by_label
from dfwe.stages.interpolate import weights
from dfwe.studies.ensembling.comparison import described, entries, gain, parts
from dfwe.studies.ensembling.plan import Plan

log = logging.getLogger(__name__)


def results(plan: Plan, stage: Stage, store: Store) -> dict[str, Any]:
    """`results.json`: what the store holds of the plan; null for what is not made yet.

    The test split is looked at only where the stage is one that evaluates.
    """
    study = plan.study
    labels = [step.label for step in plan.finetuned]
    mixture = _mixture(_scores(store, plan.interpolation), labels)
    seen = mixture.get("experts", {})  # a checkpoint brought has no dev score but the search's
    experts = [seen.get(step.label, {}) | _scores(store, step) for step in plan.finetuned]
    baseline = seen.get(plan.baseline.label, {}) | _scores(store, plan.baseline)
    evaluation = _scores(store, plan.evaluation) if "evaluate" in stage.makes else {}
    names = plan.evaluation.names(store) if evaluation else {}
    test = {names[name]: scores for name, scores in evaluation.get("test", {}).items()}
    found = entries(plan, store) if test else {}
    plain = mixture.get("one_standard_error", {})
    seconds = {
        "experts": _seconds(store, plan.experts),
        "finetune": _seconds(store, plan.finetuned),
        "interpolate": mixture.get("seconds"),
        "evaluate": evaluation.get("seconds"),
    }
    return {
        "task": study.task.name,
        "seed": study.seed,
        "model": "checkpoints" if study.checkpoints else study.model.name,
        "corpus": study.corpus.name,
        "sources": labels if study.checkpoints else [source.name for source in study.sources],
        "experts": [
            {
                "label": step.label,
                "address": step.recipe.address,
                "dev": _dev(scores),
                "test": _score(test, step.label),
            }
            for step, scores in zip(plan.finetuned, experts, strict=True)
        ],
        "baseline": {"dev": _dev(baseline), "test": _score(test, "baseline")},
        "uniform": {"dev": _dev(mixture.get("uniform", {})), "test": _score(test, "uniform")},
        "dfwe": {
            "alpha": mixture.get("alpha"),
            "dev": _dev(mixture),
            "test": _score(test, "dfwe"),
            "evaluations": mixture.get("evaluations"),
            "iterations": mixture.get("iterations"),
        },
        "one_standard_error": {  # the plainest mixture that dev cannot tell from the best
            "alpha": plain.get("alpha"),
            "dev": _dev(plain),
            "test": _score(test, "one_standard_error"),
        },
        "cross_fitted": mixture.get("cross_fitted"),
        "optimism": mixture["dev"]["score"] - test["dfwe"]["score"] if test else None,
        "delta": test["dfwe"]["score"] - test["baseline"]["score"] if test else None,
        "contenders": described(found) if test else None,
        "interval": gain([found["dfwe"]], [found["baseline"]])[1] if test else None,
        "parts": parts([found]) if test else None,
        "seconds": seconds,
        "model_dir": str(store.folder(plan.interpolation.recipe)) if mixture else None,
    }


def present(plan: Plan, stage: Stage, context: Context) -> None:
    """Write the run's folder and print the table; the last line is results.json's path."""
    from dfwe.reporting.plots import learning_curves
    from dfwe.reporting.terminal import contenders, summary

    context.output.mkdir(parents=True, exist_ok=True)
    found = results(plan, stage, context.store)
    histories = [
        {**scores, "label": step.label}  # the store has the label that it was made under
        for step in (*plan.experts, *plan.finetuned)
        if "epochs" in (scores := _scores(context.store, step))
    ]
    if histories:
        learning_curves(histories, context.output / "learning_curves.png")
    for step in (plan.interpolation, *([plan.evaluation] if found["delta"] is not None else [])):
        folder = context.store.folder(step.recipe)
        for pattern in ("*.png", "*.jsonl", "*.csv"):
            for path in folder.glob(pattern):
                shutil.copy(path, context.output / path.name)
    if plan.study.checkpoints and found["model_dir"]:
        _label(plan, found, context)
    path = context.output / "results.json"
    write_json(path, found)
    if found["model_dir"] and (
        found["delta"] is not None or not (Path(found["model_dir"]) / "README.md").exists()
    ):
        describe(plan, found, context.store)
    console = Console()
    console.print(summary(found))
    if plan.study.controls and found["contenders"]:
        console.print(contenders(found["contenders"]))
    if plan.pretraining is not None and plan.pretraining.recipe in context.store:
        folder = context.store.folder(plan.pretraining.recipe)
        console.print(f"base model   {folder}", soft_wrap=True, highlight=False)
    if found["model_dir"]:
        console.print(f"final model  {found['model_dir']}", soft_wrap=True, highlight=False)
    console.print(f"plots        {context.output}", soft_wrap=True, highlight=False)
    console.print(str(path), soft_wrap=True, highlight=False)


def describe(plan: Plan, found: dict[str, Any], store: Store) -> None:
    """Write the final model's card and its mergekit file into its folder.

    A card is written when the model is made and again when it is tested; a later run that does not
    look at the test split leaves it as it is.
    """
    from dfwe.reporting.model_card import model_card
    from dfwe.weights.hub import HUB_ID
    from dfwe.weights.merge import mergekit_yaml

    model, step = plan.study.model, plan.interpolation
    folder = store.folder(step.recipe)
    known = not plan.study.checkpoints and HUB_ID.fullmatch(model.path or "")
    base = model.path if known and not Path(str(model.path)).exists() else None
    texts = {"README.md": model_card(found, step.recipe.describe(), model.family, base)}
    alpha = list(found["dfwe"]["alpha"].values())
    if not any(isinstance(weight, dict) for weight in alpha):  # mergekit knows no such groups
        parents = [store.folder(expert.recipe) for expert in plan.finetuned]
        texts["mergekit.yml"] = mergekit_yaml(alpha, parents)
    for name, text in texts.items():  # a finished store may be read-only
        if not (path := folder / name).exists() or path.read_text() != text:
            write_text(path, text)


def publish(plan: Plan, store: Store, name: str | bool) -> None:
    """Push the final model to the Hub, under `name` or, for True, a name of its own.

    Raises:
        UserError: the Hub refuses.
    """
    from dfwe.weights.hub import push

    recipe = plan.interpolation.recipe
    own = f"dfwe-{plan.study.group}-{recipe.address[:8]}"
    log.info("Pushed to %s", push(store.folder(recipe), own if name is True else str(name)))


def _scores(store: Store, step: Step) -> dict[str, Any]:
    return store.scores(step.recipe) if step.recipe in store else {}


def _mixture(noted: dict[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """What the store has of a search, under the labels that its experts have now."""
    if not noted:
        return {}
    first = next(iter(noted["alpha"].values()))
    then = first if isinstance(first, dict) else noted["alpha"]
    names = dict(zip(then, labels, strict=True))
    plain, crossed = noted.get("one_standard_error", {}), noted.get("cross_fitted")
    alphas = [by_label(alpha, labels) for alpha in crossed["alphas"]] if crossed else []
    return {
        **noted,
        "alpha": by_label(noted["alpha"], labels),
        "experts": {names[label]: dev for label, dev in noted.get("experts", {}).items()},
        "one_standard_error": plain and {**plain, "alpha": by_label(plain["alpha"], labels)},
        "cross_fitted": crossed and {**crossed, "alphas": alphas},
    }


def _label(plan: Plan, found: dict[str, Any], context: Context) -> None:
    """The run's pictures and answers under the labels that the checkpoints have now."""
    from dfwe.reporting.plots import alpha_bars, search_trajectory

    lines = (context.output / "trials.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    labels = [row["label"] for row in found["experts"]]
    alpha = weights(found["dfwe"]["alpha"]).tolist()
    chosen = next(row["index"] for row in reversed(rows) if row["alpha"] == alpha)  # in float32
    search_trajectory(rows, labels, chosen, context.output / "search.png")
    alpha_bars(found["dfwe"]["alpha"], context.output / "alpha.png")
    if found["delta"] is not None:
        names, path = plan.evaluation.names(context.store), context.output / ANSWERS
        answers = {names[name]: texts for name, texts in read_answers(path).items()}
        write_answers(path, plan.evaluation.examples, answers)


def _seconds(store: Store, steps: tuple[Step, ...]) -> float | None:
    made = [scores["seconds"] for step in steps if (scores := _scores(store, step))]
    return sum(made) if made else None


def _dev(scores: dict[str, Any]) -> float | None:
    return scores["dev"]["score"] if "dev" in scores else None


def _score(test: dict[str, Any], name: str) -> float | None:
    return test[name]["score"] if name in test else None
