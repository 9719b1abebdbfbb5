"""The plan as a whole, on a toy corpus: what it reads, and what it notes about its noise."""

import json
import logging
import shutil
from dataclasses import replace

import pytest

from dfwe.execute import Stage, execute
from dfwe.plan import Plan
from dfwe.summary import present, results

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
BEFORE = Stage("interpolate", ("experts", "finetune", "interpolate"))
ALL = Stage("all", (*BEFORE.makes, "evaluate"))


@pytest.fixture
def plan(make_study):
    return Plan(make_study())


def test_nothing_reads_test_before_the_evaluation(make_study, lab):
    plan = Plan(make_study(closed=True))
    execute(plan.steps, BEFORE, lab)
    present(plan, BEFORE, lab)
    assert json.loads((lab.output / "results.json").read_text())["dfwe"]["dev"] is not None
    with pytest.raises(AssertionError, match="test split was read"):
        execute(plan.steps, ALL, lab)


def test_results_tell_the_noise_from_the_gain(plan, lab, caplog):
    with caplog.at_level(logging.INFO):
        execute(plan.steps, ALL, lab)
    said = [r.message for r in caplog.records if r.message.startswith("Dev has 16 instances in 4")]
    assert len(said) == 1
    found = results(plan, ALL, lab.store)
    assert found["optimism"] == pytest.approx(found["dfwe"]["dev"] - found["dfwe"]["test"])
    low, high = found["interval"]
    assert low <= found["delta"] <= high
    plain = found["one_standard_error"]
    error = lab.store.scores(plan.interpolation.recipe)["one_standard_error"]["standard_error"]
    assert found["dfwe"]["dev"] - error <= plain["dev"] <= found["dfwe"]["dev"]
    assert sum(plain["alpha"].values()) == pytest.approx(1)
    assert plain["test"] is not None


def test_two_processes_test_as_one_does(plan, lab, monkeypatch):
    execute(plan.steps, ALL, lab)
    address = plan.evaluation.recipe
    folder = lab.store.folder(address)
    alone = lab.store.scores(address)["test"], (folder / "answers.csv").read_text()
    shutil.rmtree(folder)
    monkeypatch.setattr("dfwe.model.batches.scoring_tokens", lambda device: 100)  # many batches
    execute(plan.steps, ALL, replace(lab, workers=2))
    shared = lab.store.scores(address)["test"], (folder / "answers.csv").read_text()
    assert shared[1] == alone[1]
    for model, scores in alone[0].items():
        assert shared[0][model]["score"] == scores["score"]
        assert shared[0][model]["loglik"] == pytest.approx(scores["loglik"], abs=1e-4)
