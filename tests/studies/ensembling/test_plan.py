"""The plan as a whole, on a toy corpus: what it reads, and what it notes about its noise."""

import json
import logging
import shutil
from dataclasses import replace
from functools import partial

import pytest

from dfwe.errors import UserError
from dfwe.pipeline.executor import Stage, execute
from dfwe.search.baselines import line
from dfwe.search.config import Search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present, results
from dfwe.weights.groups import matching

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
BEFORE = Stage("interpolate", ("experts", "finetune", "interpolate"))
ALL = Stage("all", (*BEFORE.makes, "evaluate"))


@pytest.fixture
def plan(make_study):
    return Plan(make_study())


def test_nothing_reads_test_before_the_evaluation(make_study, context):
    plan = Plan(make_study(closed=True))
    execute(plan.steps, BEFORE, context)
    present(plan, BEFORE, context)
    assert json.loads((context.output / "results.json").read_text())["dfwe"]["dev"] is not None
    with pytest.raises(AssertionError, match="test split was read"):
        execute(plan.steps, ALL, context)


def test_results_tell_the_noise_from_the_gain(plan, context, caplog):
    with caplog.at_level(logging.INFO):
        execute(plan.steps, ALL, context)
    said = [r.message for r in caplog.records if r.message.startswith("Dev has 16 instances in 4")]
    assert len(said) == 1
    found = results(plan, ALL, context.store)
    assert found["optimism"] == pytest.approx(found["dfwe"]["dev"] - found["dfwe"]["test"])
    low, high = found["interval"]
    assert low <= found["delta"] <= high
    plain = found["one_standard_error"]
    error = context.store.scores(plan.interpolation.recipe)["one_standard_error"]["standard_error"]
    assert found["dfwe"]["dev"] - error <= plain["dev"] <= found["dfwe"]["dev"]
    assert sum(plain["alpha"].values()) == pytest.approx(1)
    assert plain["test"] is not None
    assert found["cross_fitted"] is None


def test_two_processes_test_as_one_does(plan, context, monkeypatch):
    execute(plan.steps, ALL, context)
    address = plan.evaluation.recipe
    folder = context.store.folder(address)
    alone = context.store.scores(address)["test"], (folder / "answers.csv").read_text()
    shutil.rmtree(folder)
    monkeypatch.setattr("dfwe.data.batches.scoring_tokens", lambda device: 100)  # many batches
    execute(plan.steps, ALL, replace(context, workers=2))
    shared = context.store.scores(address)["test"], (folder / "answers.csv").read_text()
    assert shared[1] == alone[1]
    for model, scores in alone[0].items():
        assert shared[0][model]["score"] == scores["score"]
        assert shared[0][model]["log_likelihood"] == pytest.approx(
            scores["log_likelihood"], abs=1e-4
        )


def test_a_search_killed_in_its_commit_is_not_made_again(plan, context, monkeypatch):
    def kill(path):
        raise KeyboardInterrupt

    execute(plan.steps, Stage("finetune", BEFORE.makes[:2]), context)
    with monkeypatch.context() as patched:
        patched.setattr("dfwe.pipeline.store._sync", kill)
        with pytest.raises(KeyboardInterrupt):
            execute(plan.steps, BEFORE, context)
    timings = context.store.work(plan.interpolation.recipe) / "timings.jsonl"
    timed = timings.read_text()
    execute(plan.steps, BEFORE, replace(context, output=context.output / "again"))
    folder = context.store.folder(plan.interpolation.recipe)
    assert (folder / timings.name).read_text() == timed  # of what was scored, the seconds


@pytest.mark.parametrize("groups", [None, partial(matching, patterns={"a": ["enc*"], "b": ["*"]})])
def test_folds_say_how_hopeful_devs_score_is(groups, make_study, context):
    strategy = partial(nelder_mead, evaluations=9, iterations=3)
    plain, crossed = (
        Plan(make_study(sources=("tone",), search=Search(strategy, groups, folds=folds)))
        for folds in (None, 2)
    )
    for plan in (plain, crossed):
        plan.check(context.store)
        execute(plan.steps, BEFORE, context)
    present(crossed, BEFORE, context)
    found = results(crossed, BEFORE, context.store)
    assert found["dfwe"] == results(plain, BEFORE, context.store)["dfwe"]  # chosen on all of dev
    scores = found["cross_fitted"]
    assert scores["optimism"] == found["dfwe"]["dev"] - scores["score"]
    assert len(scores["alphas"]) == 2
    assert set(scores["alphas"][0]) == set(found["dfwe"]["alpha"])
    searches = [(context.output / f"fold{fold}.jsonl").read_text().splitlines() for fold in (0, 1)]
    assert scores["evaluations"] <= sum(map(len, searches)) - 2 * 4
    own, other = (context.store.scores(plan.interpolation.recipe) for plan in (plain, crossed))
    passes = other["evaluations"] + scores["evaluations"]
    assert other["tokens"] * own["evaluations"] == own["tokens"] * passes


def test_no_task_is_called_as_results_call_a_model(make_study):
    study = make_study()
    with pytest.raises(UserError, match=r"cannot have the name 'dfwe'.* set another name= "):
        replace(study, task=replace(study.task, name="dfwe"))


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (Search(partial(nelder_mead, start="middle")), "choose best or centroid"),
        (Search(partial(line, end=9)), "cannot end at 9"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_before_any_work(
    search, sentence, make_study, context
):
    with pytest.raises(UserError, match=sentence):
        Plan(make_study(search=search)).check(context.store)


def test_more_folds_than_dialogues_are_refused_before_any_work(make_study, context):
    plan = Plan(make_study(search=Search(nelder_mead, folds=5)))
    with pytest.raises(UserError, match="more than the 4 dialogues"):
        plan.check(context.store)
