"""The model card of a mixture: what a stranger needs to use it, and to compute it again."""

import json
from typing import TYPE_CHECKING

from dfwe.markup import markdown, markdown_code
from dfwe.pipeline.recipe import Recipe
from dfwe.reporting.results import ModelScores, Results
from dfwe.reporting.terminal import DASH, points

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

AUTO = {
    "seq2seq": "AutoModelForSeq2SeqLM",
    "causal": "AutoModelForCausalLM",
    "encoder": "AutoModelForSequenceClassification",
}
USE_AT_MEAN = (
    "The head reads the mean of the tokens (`1_Pooling/config.json`), where transformers' own "
    "classifier would read the first token: load it with dfwe, which gives transformers' model.",
    "",
    "```python",
    "from dfwe import load_model",
    'model, tokenizer = load_model("this folder")',
    "```",
    "",
)
HUB_TASK = {
    "seq2seq": "text-generation",
    "causal": "text-generation",
    "encoder": "text-classification",
}


def model_card(
    results: Results,
    recipe: Recipe,
    family: str,
    base: str | None = None,
    *,
    reads_mean: bool = False,
) -> str:
    """README.md of a model folder, with the metadata that the Hub reads.

    Args:
        results: the content of `results.json`; test scores are given where it has them.
        recipe: the mixture's.
        family: seq2seq, causal or encoder.
        base: Hub id of the model that the experts started from, where there is one.
        reads_mean: whether an encoder's head reads the mean of the tokens.
    """
    from huggingface_hub import ModelCard, ModelCardData

    data = ModelCardData(
        library_name="transformers",
        base_model=base,
        tags=["dfwe", "weight-averaging", "merge"],
        model_name=f"dfwe-{results.task}-{recipe.address[:8]}",
        eval_results=_eval_results(results, family),
    )
    lines = [
        *_head(results),
        *(USE_AT_MEAN if reads_mean else _use(family)),
        *_mixture(results),
        *_scores(results),
        *_recipe(results, recipe),
        *_licence(results, base),
        "",
    ]
    text = "\n".join(lines)
    return str(ModelCard(f"---\n{data}\n---\n\n{text}"))


def _eval_results(results: Results, family: str) -> "list[EvalResult]":
    """The mixture's scores on the splits that it has been scored on."""
    from huggingface_hub import EvalResult

    scores = {"dev": results.dfwe.dev, "test": results.dfwe.test}
    return [
        EvalResult(
            task_type=HUB_TASK[family],
            task_name=results.task,
            dataset_type=results.corpus,
            dataset_name=results.corpus,
            dataset_split=split,
            metric_type="score",
            metric_name="mean of the task's metrics, in points",
            metric_value=score,
        )
        for split, score in scores.items()
        if score is not None
    ]


def _head(results: Results) -> list[str]:
    return [
        f"# {markdown(results.task)}, a mixture of {len(results.experts)} models",
        "",
        "The weights are a convex combination of the models below, `theta(alpha) = sum_i alpha_i "
        "theta_i`. A search without gradients chose the alpha with the best score on the dev "
        "split (derivative-free weight-space ensembling, "
        "[arXiv 2307.03506](https://arxiv.org/abs/2307.03506)). It runs like any one of them.",
        "",
    ]


def _use(family: str) -> list[str]:
    return [
        "```python",
        f"from transformers import {AUTO[family]}, AutoTokenizer",
        "",
        f'model = {AUTO[family]}.from_pretrained("this folder")',
        'tokenizer = AutoTokenizer.from_pretrained("this folder")',
        "```",
        "",
    ]


def _mixture(results: Results) -> list[str]:
    alpha = results.dfwe.alpha or {}
    single = {label: weight for label, weight in alpha.items() if isinstance(weight, float)}
    grouped = {name: weights for name, weights in alpha.items() if isinstance(weights, dict)}
    groups = grouped or {"alpha": single}
    lines = [
        "## Mixture",
        f"| model | {' | '.join(map(markdown, groups))} | dev | recipe |",
        "|---|" + "---:|" * (len(groups) + 1) + "---|",
    ]
    for row in results.experts:
        weights = [f"{weights[row.label]:.6f}" for weights in groups.values()]
        cells = [markdown(row.label), *weights, points(row.dev), f"`{row.address}`"]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def _scores(results: Results) -> list[str]:
    named: dict[str, ModelScores] = {
        "baseline": results.baseline,
        "uniform average": results.uniform,
        "this mixture": results.dfwe,
    }
    lines = [
        "## Scores",
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


def _licence(results: Results, base: str | None) -> list[str]:
    origin = f"[{base}](https://huggingface.co/{base})" if base else "the models it consists of"
    return [
        "## Licence",
        f"None is given here. The terms of {origin} and of the data "
        f"({markdown_code(results.corpus)}) apply "
        "to a mixture too: read them before you share it.",
    ]
