"""The stage around a search: what its record says of failures and of scores that differ."""

import json
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.store import Store
from dfwe.scoring.scorer import Scorer
from dfwe.search.baselines import dirichlet
from dfwe.search.config import Search
from dfwe.search.ledger import Ledger, read_trials
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import results
from dfwe.weights.loading import save

STAGE = Stage("interpolate", ("import", "interpolate"))


@pytest.fixture(scope="module")
def plan(make_study, make_network, tokenizer, tmp_path_factory):
    """A search over two checkpoints."""
    folders = [tmp_path_factory.mktemp(name) for name in "ab"]
    for seed, folder in enumerate(folders):
        save(make_network(seed), tokenizer, folder)
    return Plan(make_study(sources=(), checkpoints=tuple(map(str, folders))))


@pytest.fixture
def searched(plan, context):
    """The record of the search, and its trials with their answers."""

    def run(**changes):
        execute(plan.steps, STAGE, replace(context, **changes))
        folder = context.store.folder(plan.interpolation.recipe)
        record = context.store.record(plan.interpolation.recipe, SearchRecord)
        return record, read_trials(folder / TRIALS, answers=True)

    return run


@pytest.fixture
def failing(monkeypatch):
    """Makes the scoring of some alphas fail; how often that was tried."""
    measure, tried = Scorer._measure, []

    def fail(which):
        def maybe(scorer, alpha, precision):
            if alpha is not None and which(alpha):
                tried.append(alpha)
                raise RuntimeError("no such mixture")
            return measure(scorer, alpha, precision)

        monkeypatch.setattr(Scorer, "_measure", maybe)
        return tried

    return fail


def test_candidates_that_fail_twice_stand_in_the_record_and_the_results(
    searched, plan, context, failing
):
    tried = failing(lambda alpha: alpha.max() == 0.65)
    record, trials = searched()
    assert record.failed == tuple(trial.index for trial in trials if trial.score is None)
    assert len(tried) == 2 * len(record.failed) > 0
    assert results(plan, STAGE, context.store).dfwe.failed == len(record.failed)
    assert record.uniform is not None


def test_an_average_that_cannot_be_scored_leaves_a_result_without_it(
    searched, plan, context, failing
):
    failing(lambda alpha: bool(np.ptp(alpha) == 0))
    record, _ = searched()
    assert (record.uniform, record.failed[0]) == (None, 2)
    assert results(plan, STAGE, context.store).uniform.dev is None


def test_an_expert_that_cannot_be_scored_is_named(searched, plan, failing):
    failing(lambda alpha: alpha[1] == 1.0)
    label = plan.interpolation.experts[1].label
    with pytest.raises(UserError, match=f"Expert '{label}' cannot be scored"):
        searched()


def test_a_search_continued_on_another_machine_has_both_scores_in_its_record(
    searched, context, plan, tmp_path, monkeypatch
):
    recipe = plan.interpolation.recipe
    _, trials = searched()
    context.store.folder(recipe).rename(tmp_path / "here")
    elsewhere = [
        replace(t, score=t.score + 10, answers=replace(t.answers, texts=("other",) * 16))
        for t in trials
    ]
    Ledger(context.store.work(recipe) / TRIALS).finish(elsewhere[:4])
    with pytest.raises(UserError, match=r"resume=anyway continues with both scores") as stopped:
        searched()
    assert "\n" not in str(stopped.value)
    record, continued = searched(resume="anyway")
    best = max(elsewhere[:4], key=lambda trial: (trial.score, trial.log_likelihood))
    (both,) = record.remeasured
    np.testing.assert_array_equal(both.alpha, best.alpha)
    assert (both.recorded, both.measured) == (best.score, best.score - 10)
    assert [t.score for t in continued[:4]] == [t.score for t in elsewhere[:4]]
    lines = (context.store.folder(recipe) / "attempts.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["remeasured"] == [both.model_dump(mode="json")]
    assert results(plan, STAGE, context.store).dfwe.remeasured == 1


def kept(context, recipe):
    """Name -> bytes of a result's files, but those that say where and when it was computed."""
    apart = ("timings.jsonl", "attempts.jsonl", "provenance.json", "recipe.json")
    folder = context.store.folder(recipe)
    return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(apart)}


def test_a_search_that_signals_stop_ends_with_the_bytes_of_an_undisturbed_one(
    plan, context, tmp_path, stopped
):
    """With folds, shrinkage and two processes now and then."""
    strategy = partial(dirichlet, evaluations=25)
    plan = Plan(replace(plan.study, search=Search(strategy, folds=2, shrinkage=True)))
    recipe = plan.interpolation.recipe
    execute(plan.steps, STAGE, context)
    whole = kept(context, recipe)
    assert {"fold0.jsonl", "fold1.jsonl", "trials.jsonl", "model.safetensors"} < set(whole)
    other = replace(context, store=Store(tmp_path / "other"))
    ledger = other.store.root / ".work" / recipe.name / TRIALS
    moments = [(signal.SIGTERM, 5, 1), (signal.SIGUSR1, 12, 2), (signal.SIGINT, 19, 1)]
    for number, rows, workers in moments:
        work = partial(execute, plan.steps, STAGE, replace(other, workers=workers))
        assert stopped(work, number, ledger, "\n", rows) == 128 + number
    execute(plan.steps, STAGE, other)
    assert kept(other, recipe) == whole
    attempts = (other.store.folder(recipe) / "attempts.jsonl").read_text().splitlines()
    firsts = [json.loads(line)["first"] for line in attempts]
    assert firsts == sorted(set(firsts))
    assert 2 <= len(firsts) <= 4


def test_another_way_to_resume_is_unknown(context):
    with pytest.raises(UserError, match="resume=always is unknown; choose check or anyway"):
        replace(context, resume="always")
