"""The model card: what the model is, how it was computed and what it scores."""

import json
import re

from huggingface_hub import ModelCard
from unfinished import unfinished

from dfwe.card import Data
from dfwe.pipeline.recipe import Recipe
from dfwe.reporting.model_card import Origin, model_card
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
        dfwe=DfweResult(
            alpha=alpha,
            dev=44.0,
            test=test,
            evaluations=9,
            iterations=2,
            dev_metrics={"f1_micro": 45.0, "f1_weighted": 43.0},
            test_metrics=None if test is None else {"f1_micro": test, "f1_weighted": test},
        ),
    )


RESULTS = results({"emory": 0.25, "meld": 0.75})
TESTED = results({"emory": 0.25, "meld": 0.75}, test=43.5)


TRAINED = dict.fromkeys(("emory", "meld"), Origin("google/flan-t5-base", "apache-2.0"))
MIXED = {"emory": Origin("someone/a", "mit"), "meld": Origin("models/b")}


def card(results=RESULTS, family="seq2seq", origins=TRAINED, **settings):
    return model_card(results, RECIPE, family, origins, **settings)


def test_the_metadata_is_what_the_hub_reads():
    data = ModelCard(card(base="google/flan-t5-base")).data
    assert data.library_name == "transformers"
    assert data.pipeline_tag == "text-generation"
    assert data.base_model == ["google/flan-t5-base"]
    assert data.tags == ["dfwe", "weight-averaging", "merge"]
    assert data.metrics == ["score", "f1_micro", "f1_weighted"]
    mixed = ModelCard(card(origins=MIXED, base="google/flan-t5-base")).data.to_dict()
    assert mixed["base_model"] == ["someone/a", "models/b"]
    assert mixed["base_model_relation"] == "merge"
    local = ModelCard(card(origins=dict.fromkeys(("emory", "meld"), Origin("/models/a")))).data
    assert local.base_model is None


def test_the_licence_is_that_of_all_that_went_in():
    data = Data("glue", "nyu-mll/glue", "apache-2.0")
    read = ModelCard(text := card(data=data))
    assert (read.data.license, read.data.datasets) == ("apache-2.0", ["nyu-mll/glue"])
    assert (
        "- the data, [nyu-mll/glue](https://huggingface.co/datasets/nyu-mll/glue): apache-2.0"
        in text
    )
    for other in (Data("own"), Data("own", None, "mit")):
        read = ModelCard(text := card(data=other))
        assert read.data.license is None
        assert read.data.datasets is None
        assert "None is given here" in text
        assert f"- the data, `own`: {other.licence or 'not stated'}" in text


def test_the_hub_reads_the_metrics_on_dev_and_where_there_are_some_on_test():
    read = [ModelCard(card(r, "encoder")).data for r in (RESULTS, TESTED)]
    assert [data.model_name for data in read] == [f"dfwe-emory-{RECIPE.address[:8]}"] * 2
    assert [data.pipeline_tag for data in read] == ["text-classification"] * 2
    scores = [
        {(r.dataset_split, r.metric_type): r.metric_value for r in data.eval_results}
        for data in read
    ]
    dev = {("dev", "score"): 44.0, ("dev", "f1_micro"): 45.0, ("dev", "f1_weighted"): 43.0}
    tested = dict.fromkeys([("test", name) for name in ("score", "f1_micro", "f1_weighted")], 43.5)
    assert scores == [dev, dev | tested]
    result = read[1].eval_results[1]
    assert (result.task_type, result.task_name, result.dataset_name) == (
        "text-classification",
        "emory",
        "feta_friends",
    )


def test_it_has_alpha_scores_recipe_and_where_each_parent_comes_from():
    text = card(family="encoder", origins=MIXED, place="me/mixture")
    assert (
        "| emory | 0.250000 | 40.00 | `ab0` | [someone/a](https://huggingface.co/someone/a)"
        in text
    )
    assert "| meld | 0.750000 | 41.00 | `ab1` | [models/b]" in text
    assert "| this mixture | 44.00 | – |" in text  # noqa: RUF001
    assert "not tested yet" in text
    assert json.loads(re.search(r"```json\n(.*?)```", text, re.DOTALL)[1]) == RECIPE.describe()
    assert 'AutoModelForSequenceClassification.from_pretrained("me/mixture")' in text


def test_a_model_that_is_read_at_the_mean_is_loaded_by_us():
    text = card(family="encoder", reads_mean=True)
    assert "transformers' own classifier would read the first token" in text
    assert 'from dfwe import load_model\n\nmodel, tokenizer = load_model("this folder")' in text
    assert "AutoModel" not in text


def test_test_scores_stand_where_there_are_some_and_groups_have_their_columns():
    alpha = {"encoder": {"emory": 1.0, "meld": 0.0}, "head": {"emory": 0.5, "meld": 0.5}}
    tested = results(alpha, test=43.5)
    text = card(tested)
    assert "| this mixture | 44.00 | 43.50 |" in text
    assert "not tested yet" not in text
    assert "| model | encoder | head | dev | recipe | from |" in text
    assert "| emory | 1.000000 | 0.500000 | 40.00 | `ab0` | [google/flan-t5-base]" in text
