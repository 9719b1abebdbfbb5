"""A search resumed where scores differ, or after failures: it says so, and uses what it can."""

import json
import os

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.provenance import environment
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead

TARGET = np.array([0.5, 0.3, 0.2])


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def scorer(offset=0.0, texts=None):
    """A score that another machine measures higher by `offset` points."""

    def score(alpha):
        value = 50 - 100 * float(np.sum((alpha - TARGET) ** 2)) + offset
        answers = None if texts is None else Answers((texts, f"{alpha[0]:.3f}"), (-1.0, -2.0))
        return Evaluation(value, answers=answers)

    return score


def run(path, score, resume="check", **options):
    ledger = Ledger(path, resume=resume, threads=1)
    return search(nelder_mead(3, evaluations=25), score, ledger=ledger, **options), ledger


@pytest.fixture
def begun(tmp_path):
    """A ledger of ten trials: of a search stopped there, at scores as given."""

    def begin(score):
        path = tmp_path / "trials.jsonl"

        def stop(trial, best):
            if trial.index == 9:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(path, score, on_trial=stop)
        return path

    return begin


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_scores_that_differ_by_rounding_are_the_same(begun):
    path = begun(scorer(1e-9))
    found, ledger = run(path, scorer())
    assert found.evaluations > 10
    assert ledger.remeasured == ()
    attempts = lines(path.with_name("attempts.jsonl"))
    assert [attempt["first"] for attempt in attempts] == [0, 10]
    for attempt in attempts:
        assert (attempt["machine"], attempt["threads"]) == (environment().machine, 1)
        assert attempt["versions"]["numpy"] == np.__version__
        assert attempt["remeasured"] == []


@pytest.mark.parametrize("offset", [1e-5, 0.5], ids=["1e-5", "one example"])
def test_scores_that_differ_stop_the_search_and_name_both_machines(begun, offset, monkeypatch):
    monkeypatch.setattr("dfwe.pipeline.provenance.machine", lambda: "Linux x86_64, Old CPU")
    path = begun(scorer(offset))
    before = path.read_bytes()
    monkeypatch.setattr("dfwe.pipeline.provenance.machine", lambda: "Linux x86_64, New CPU")
    scored = []
    with pytest.raises(UserError) as stopped:
        run(path, lambda alpha: scored.append(alpha) or scorer()(alpha))
    sentence = str(stopped.value)
    assert "\n" not in sentence
    best = max(lines(path), key=lambda row: row["score"])
    assert f"Trial {best['index']} of {path} scores {best['score'] - offset:.8g} here" in sentence
    assert f"but scored {best['score']:.8g} where it was recorded" in sentence
    assert sentence.index("New CPU") < sentence.index("Old CPU") < sentence.index("resume=anyway")
    assert [alpha.tolist() for alpha in scored] == [best["alpha"]]  # nothing new
    assert path.read_bytes() == before


def test_a_search_resumed_anyway_keeps_both_scores(begun):
    path = begun(scorer(0.5))
    recorded = lines(path)
    best = max(recorded, key=lambda row: row["score"])
    found, ledger = run(path, scorer(), resume="anyway")
    (both,) = ledger.remeasured
    assert both.alpha.tolist() == best["alpha"]
    assert (both.recorded, both.measured) == (best["score"], pytest.approx(best["score"] - 0.5))
    first, second = lines(path.with_name("attempts.jsonl"))
    assert (first["first"], first["remeasured"]) == (0, [])
    assert second["first"] == 10
    assert second["remeasured"] == [both.model_dump(mode="json")]
    assert [trial.score for trial in found.trials[:10]] == [row["score"] for row in recorded]
    for trial in found.trials[10:]:
        assert trial.score == scorer()(trial.alpha).score
    assert Ledger(path).remeasured[0].model_dump() == both.model_dump()


def test_other_scores_of_the_same_answers_are_no_other_answers(begun):
    path = begun(scorer(0.5, "yes"))
    with pytest.raises(UserError, match="resume=anyway"):
        run(path, scorer(0.0, "no"))
    found, ledger = run(path, scorer(0.0, "yes"))
    assert (found.evaluations > 10, ledger.remeasured) == (True, ())


def test_a_best_trial_that_cannot_be_scored_here_stops_the_search(begun):
    path = begun(scorer())
    with pytest.raises(UserError, match=r"cannot be scored here .* but scored \d"):
        run(path, lambda alpha: np.nan)


def test_a_whole_ledger_asks_for_no_score(tmp_path):
    path = tmp_path / "trials.jsonl"
    first, _ = run(path, scorer())
    again, _ = run(path, None)
    assert [trial.score for trial in again.trials] == [trial.score for trial in first.trials]
    assert len(lines(path.with_name("attempts.jsonl"))) == 1


def test_an_unknown_way_to_resume_is_refused(tmp_path):
    with pytest.raises(UserError, match="resume=never is unknown; choose check or anyway"):
        Ledger(tmp_path / "trials.jsonl", resume="never")


def test_a_failed_trial_that_can_be_scored_later_changes_the_path_and_the_rest_is_used(tmp_path):
    """Failing scores make other steps; what both paths ask for is scored once."""
    path, scored = tmp_path / "trials.jsonl", []

    def failing(alpha):
        scored.append(alpha.tolist())
        if failures and 0.5 < alpha[0] < 0.57 and alpha[1] > 0.2:
            raise RuntimeError("connection lost")
        return scorer()(alpha)

    failures = True
    first, _ = run(path, failing)
    undisturbed = search(nelder_mead(3, evaluations=25), scorer())
    alphas = {trial.alpha.tobytes() for trial in first.trials if trial.score is not None}
    wanted = {trial.alpha.tobytes() for trial in undisturbed.trials}
    assert first.failed
    assert wanted - alphas
    assert alphas - wanted
    failures, scored[:] = False, []
    again, _ = run(path, failing)
    assert [t.alpha.tolist() for t in again.trials] == [
        t.alpha.tolist() for t in undisturbed.trials
    ]
    assert again.failed == ()
    assert len(scored) == len(wanted - alphas) + 1  # the best one, scored again, is the other
    whole = tmp_path / "undisturbed.jsonl"
    run(whole, scorer())
    assert path.read_bytes() == whole.read_bytes()
