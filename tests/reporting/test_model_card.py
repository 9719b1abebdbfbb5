"""The model card: what the model is, how it was computed and what it scores."""

import json
import re

from huggingface_hub import ModelCard
from unfinished import unfinished

from dfwe.pipeline.recipe import Recipe
from dfwe.reporting.model_card import model_card
from dfwe.reporting.results import (
    DfweResult,
    ExpertResult,
    ModelScores,
    Named,
    Results,
)

RECIPE = Recipe("interpolate", 1, {"search": {"name": "single_experts"}})


def results(alpha: Named, test: float | None = None) -> Results:
    """Of two experts; only this mixture may have a test score."""
    return unfinished(
        task="emory",
        model="flan_t5_base",
        corpus="feta_friends",
        sources=["meld", "qa"],
        experts=[
            ExpertResult(label=label, address=f"ab{i}", dev=40.0 + i, test=None)
            for i, label in enumerate(("emory", "meld"))
        ],
        baseline=ModelScores(dev=39.0, test=None),
        uniform=ModelScores(dev=41.0, test=None),
        dfwe=DfweResult(alpha=alpha, dev=44.0, test=test, evaluations=9, iterations=2),
    )


RESULTS = results({"emory": 0.25, "meld": 0.75})
TESTED = results({"emory": 0.25, "meld": 0.75}, test=43.5)


def test_the_metadata_is_what_the_hub_reads():
    data = ModelCard(model_card(RESULTS, RECIPE, "seq2seq", "google/flan-t5-base")).data
    assert data.library_name == "transformers"
    assert data.base_model == "google/flan-t5-base"
    assert data.tags == ["dfwe", "weight-averaging", "merge"]
    assert ModelCard(model_card(RESULTS, RECIPE, "causal")).data.base_model is None


def test_the_hub_reads_the_scores_on_dev_and_where_there_is_one_on_test():
    read = [ModelCard(model_card(r, RECIPE, "encoder")).data for r in (RESULTS, TESTED)]
    assert [data.model_name for data in read] == [f"dfwe-emory-{RECIPE.address[:8]}"] * 2
    scores = [{r.dataset_split: r.metric_value for r in data.eval_results} for data in read]
    assert scores == [{"dev": 44.0}, {"dev": 44.0, "test": 43.5}]
    tested = read[1].eval_results[1]
    assert (tested.task_type, tested.task_name, tested.dataset_name) == (
        "text-classification",
        "emory",
        "feta_friends",
    )


def test_it_has_alpha_scores_recipe_and_a_word_on_the_licence():
    text = model_card(RESULTS, RECIPE, "encoder")
    assert "| meld | 0.750000 | 41.00 | `ab1` |" in text
    assert "| this mixture | 44.00 | – |" in text  # noqa: RUF001
    assert "not tested yet" in text
    assert json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1]) == RECIPE.describe()
    assert "## Licence" in text
    assert "AutoModelForSequenceClassification.from_pretrained" in text


def test_a_model_that_is_read_at_the_mean_is_loaded_by_us():
    text = model_card(RESULTS, RECIPE, "encoder", reads_mean=True)
    assert "transformers' own classifier would read the first token" in text
    assert 'from dfwe import load_model\nmodel, tokenizer = load_model("this folder")' in text
    assert "AutoModel" not in text


def test_test_scores_stand_where_there_are_some_and_groups_have_their_columns():
    alpha = {"encoder": {"emory": 1.0, "meld": 0.0}, "head": {"emory": 0.5, "meld": 0.5}}
    tested = results(alpha, test=43.5)
    text = model_card(tested, RECIPE, "seq2seq")
    assert "| this mixture | 44.00 | 43.50 |" in text
    assert "not tested yet" not in text
    assert "| model | encoder | head | dev | recipe |" in text
    assert "| emory | 1.000000 | 0.500000 | 40.00 | `ab0` |" in text
