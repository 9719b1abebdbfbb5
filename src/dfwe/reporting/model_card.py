"""The model card of DFWE's mixture, from what a run's results have."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from dfwe.card import Card, Data, Measured, Parent
from dfwe.markup import markdown, markdown_code
from dfwe.pipeline.recipe import Recipe
from dfwe.reporting.results import ModelScores, Results
from dfwe.reporting.terminal import DASH, points


@dataclass(frozen=True)
class Origin:
    """Where a model that was mixed comes from.

    Args:
        name: the folder or Hub id that was given.
        licence: as its card states it, if it does.
    """

    name: str
    licence: str | None = None


def model_card(
    results: Results,
    recipe: Recipe,
    family: str,
    origins: Mapping[str, Origin],
    *,
    base: str | None = None,
    data: Data | None = None,
    place: str = "this folder",
    reads_mean: bool = False,
) -> str:
    """README.md of a model folder, with the metadata that the Hub reads.

    Args:
        results: the content of `results.json`; test scores are given where it has them.
        recipe: the mixture's.
        family: seq2seq, causal or encoder.
        origins: label of an expert -> where it comes from.
        base: folder or Hub id of the model that the experts started from, where it is known.
        data: the corpus; its name alone where nothing is known of it.
        place: what the example loads, a folder or a repository.
        reads_mean: whether an encoder's head reads the mean of the tokens.
    """
    groups, weights = _weights(results)
    return Card(
        title=f"{results.task}, a mixture of {len(results.experts)} models",
        parents=[
            Parent(
                row.label,
                origins[row.label].name,
                weights[row.label],
                origins[row.label].licence,
                (points(row.dev), f"`{row.address}`"),
            )
            for row in results.experts
        ],
        groups=groups,
        family=family,
        base=base,
        data=data or Data(results.corpus),
        task=results.task,
        scores=_measured(results),
        place=place,
        name=f"dfwe-{results.task}-{recipe.address[:8]}",
        reads_mean=reads_mean,
        columns=("dev", "recipe"),
        sections=[*_scores(results), *_recipe(results, recipe)],
    ).text()


def _weights(results: Results) -> tuple[list[str], dict[str, list[float]]]:
    """The groups' names, and of each expert its weight in each."""
    alpha = results.dfwe.alpha or {}
    single = {label: weight for label, weight in alpha.items() if isinstance(weight, float)}
    grouped = {name: weights for name, weights in alpha.items() if isinstance(weights, dict)}
    groups = grouped or {"alpha": single}
    labels = [row.label for row in results.experts]
    return [*groups], {label: [row[label] for row in groups.values()] for label in labels}


def _measured(results: Results) -> list[Measured]:
    """The score, and each metric that it is the mean of, on the splits where they are known."""
    dfwe = results.dfwe
    known = {"dev": (dfwe.dev, dfwe.dev_metrics), "test": (dfwe.test, dfwe.test_metrics)}
    return [
        Measured(name, split, value)
        for split, (score, metrics) in known.items()
        for name, value in {"score": score, **(metrics or {})}.items()
        if value is not None
    ]


def _scores(results: Results) -> list[str]:
    named: dict[str, ModelScores] = {
        "baseline": results.baseline,
        "uniform average": results.uniform,
        "this mixture": results.dfwe,
    }
    lines = [
        "## Scores",
        "",
        f"Points of the task {markdown_code(results.task)} on {markdown_code(results.corpus)}; "
        "the search used dev alone.",
        "",
        "| model | dev | test |",
        "|---|---:|---:|",
    ]
    for name, row in named.items():
        lines.append(f"| {name} | {points(row.dev)} | {points(row.test)} |")
    if all(row.test is None for row in named.values()):
        lines += ["", f"{DASH}: not tested yet."]
    return [*lines, ""]


def _recipe(results: Results, recipe: Recipe) -> list[str]:
    return [
        "## Recipe",
        "",
        f"Data: corpus {markdown_code(results.corpus)}, target {markdown_code(results.task)}, "
        f"from {', '.join(map(markdown, results.sources))}; model "
        f"{markdown_code(results.model)}, seed {results.seed}. "
        "What decided these weights, data by digest and parents by address; `mergekit.yml`, where "
        "there is one, computes them from the parents alone:",
        "",
        "```json",
        json.dumps(recipe.describe(), indent=1),
        "```",
        "",
    ]
