"""A search killed anywhere and called again ends with the ledger of an unbroken one."""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger, recorded_seconds, row_of
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead


def score(alpha):
    """A stepwise score that fails at one corner and is NaN at another."""
    if alpha[1] == 1.0:
        raise RuntimeError("no such expert")
    if alpha[2] == 1.0:
        return math.nan
    value = -float(np.sum((alpha - [0.5, 0.3, 0.2]) ** 2))
    return Evaluation(round(value, 2), value / 3, {"f1": value, "empty": math.nan})


def run(path, score=score, **options):
    return search(nelder_mead(3, evaluations=30), score, ledger=Ledger(path), **options)


ROW = (
    b'{"index": %s, "alpha": [0.5, 0.5, 0.0], "score": 1.0, "log_likelihood": null, '
    b'"metrics": {}, "precision": "fp32", "error": null, "answers": null}\n'
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "trials.jsonl"
    run(path)
    return path.read_bytes()


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_a_ledger_cut_within_any_line_is_completed_to_the_same_bytes(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    lines = whole.splitlines(keepends=True)
    for number, line in enumerate(lines):
        for kept in (0, 1, len(line) // 2, len(line) - 1):
            path.write_bytes(b"".join(lines[:number]) + line[:kept])
            run(path)
            assert path.read_bytes() == whole


def test_every_line_is_synced(tmp_path, monkeypatch, whole):
    synced = []
    monkeypatch.setattr(os, "fsync", synced.append)
    run(tmp_path / "trials.jsonl")
    assert len(synced) == 2 * len(whole.splitlines())  # the ledger's and the timings'


def answered(alpha):
    """A score with answers, whose texts and likelihoods depend on alpha."""
    likelihoods = tuple((alpha - 1.5).tolist())
    answers = Answers(tuple(f"{weight:.3f} \u00e9" for weight in alpha), likelihoods)
    return Evaluation(score_of(answers), sum(likelihoods), answers=answers)


def score_of(answers):
    return answers.rescore(lambda texts: -max(abs(float(text[:5]) - 0.4) for text in texts))


@pytest.fixture(scope="module")
def with_answers(tmp_path_factory):
    path = tmp_path_factory.mktemp("answered") / "trials.jsonl"
    run(path, answered)
    return path


def copied(whole, folder):
    for path in whole.parent.glob("*.jsonl"):
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / whole.name


def test_kept_answers_repeat_every_score_of_the_ledger(with_answers, tmp_path):
    path = copied(with_answers, tmp_path)
    trials = run(path, score=None).trials
    assert len(trials) == len(path.read_bytes().splitlines())
    assert [score_of(trial.answers) for trial in trials] == [trial.score for trial in trials]


def test_ledger_and_answers_are_cut_to_what_both_have(with_answers, tmp_path):
    whole = {path.name: path.read_bytes() for path in with_answers.parent.glob("*s.jsonl")}
    path = copied(with_answers, tmp_path)
    answers = path.with_name("answers.jsonl")
    lines = whole["answers.jsonl"].splitlines(keepends=True)
    for kept in range(len(lines)):
        answers.write_bytes(b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2])
        assert len(Ledger(path).rows) == kept
        run(path, answered)  # completes both
        copied(with_answers, tmp_path)
    rows = whole["trials.jsonl"].splitlines(keepends=True)
    for kept in range(len(rows)):
        path.write_bytes(b"".join(rows[:kept]))
        run(path, answered)
        assert path.read_bytes() == whole["trials.jsonl"]
        assert answers.read_bytes() == whole["answers.jsonl"]


def test_changed_answers_are_scored_again(with_answers, tmp_path, caplog):
    path = copied(with_answers, tmp_path)
    answers = path.with_name("answers.jsonl")
    whole = answers.read_bytes()
    lines = whole.splitlines(keepends=True)
    lines[3] = lines[2]
    answers.write_bytes(b"".join(lines))
    run(path, answered)
    assert answers.read_bytes() == whole
    assert "lacks the answers of trial 3" in caplog.text


def test_what_is_noted_is_not_scored_again(tmp_path, whole):
    lines = whole.splitlines(keepends=True)
    for kept in range(len(lines) + 1):
        scored = []
        path = tmp_path / str(kept) / "trials.jsonl"
        path.parent.mkdir()
        path.write_bytes(b"".join(lines[:kept]))
        found = run(path, lambda alpha: scored.append(alpha) or score(alpha))  # noqa: B023
        assert len(scored) == len(lines) - kept
        assert found.evaluations == len(lines)


class Killed(BaseException):
    """Ends a process like a signal does: nothing catches it."""


@pytest.mark.parametrize("strategy", [nelder_mead, parallel_nelder_mead])
@pytest.mark.parametrize("workers", [1, 3])
def test_a_search_killed_at_ten_random_moments_ends_with_the_same_bytes(
    tmp_path, strategy, workers
):
    def attempt(path, lives):
        def mortal(alpha):
            nonlocal lives
            lives -= 1
            if lives < 0:
                raise Killed
            return score(alpha)

        with ThreadPoolExecutor(workers) as pool:
            return search(strategy(3, evaluations=60), mortal, ledger=Ledger(path), map=pool.map)

    unbroken = attempt(tmp_path / "unbroken" / "trials.jsonl", 1000)
    path = tmp_path / "broken" / "trials.jsonl"
    deaths = 0
    for lives in np.random.default_rng(0).integers(1, 6, size=10).tolist():
        try:
            attempt(path, lives)
        except Killed:
            deaths += 1
    again = attempt(path, 1000)
    assert deaths >= 8
    assert path.read_bytes() == (tmp_path / "unbroken" / "trials.jsonl").read_bytes()
    assert row_of(again.best) == row_of(unbroken.best)


def test_a_screened_search_cut_within_any_line_is_completed_to_the_same_bytes(tmp_path):
    def screen(alpha):
        return Evaluation(round(score(alpha).score, 1), precision="bf16")

    path = tmp_path / "trials.jsonl"
    first = run(path, screen=screen, top=3)
    whole = path.read_bytes()
    assert whole.count(b'"bf16"') > 10
    assert first.best.precision == "fp32"
    lines = whole.splitlines(keepends=True)
    for number, line in enumerate(lines):
        path.write_bytes(b"".join(lines[:number]) + line[: len(line) // 2])
        again = run(path, screen=screen, top=3)
        assert path.read_bytes() == whole
        assert row_of(again.best) == row_of(first.best)


def test_floats_and_failures_are_read_back_as_they_were(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(whole)
    found = run(path, score=None)
    fresh = search(nelder_mead(3, evaluations=30), score)
    assert [row_of(t) for t in found.trials] == [row_of(t) for t in fresh.trials]
    assert found.trials[1].error == "RuntimeError: no such expert"
    assert found.trials[2].error == "the score is nan"
    assert found.trials[1].score is None
    assert "NaN" not in whole.decode()


def test_every_trial_is_on_disk_before_the_next_batch_is_asked(tmp_path):
    path = tmp_path / "trials.jsonl"

    def strategy():
        for alpha in np.random.default_rng(0).dirichlet(np.ones(3), size=5):
            yield alpha[None]
            assert json.loads(path.read_text().splitlines()[-1])["alpha"] == alpha.tolist()

    found = search(strategy(), lambda alpha: alpha[0], ledger=Ledger(path))
    assert found.evaluations == 5


def test_timings_lie_beside_the_ledger_one_line_a_trial(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    run(path)
    timings = path.with_name("timings.jsonl")
    timings.write_bytes(timings.read_bytes() + b'{"index": 99, "sec')  # killed there
    run(path)
    rows = [json.loads(line) for line in timings.read_text().splitlines()]
    assert [row["index"] for row in rows] == list(range(len(whole.splitlines())))
    assert all(row["seconds"] >= 0 for row in rows)


def test_two_ledgers_in_a_folder_have_timings_of_their_own(tmp_path):
    for name in ("trials", "other"):
        run(tmp_path / f"{name}.jsonl")
    assert (tmp_path / "timings.jsonl").is_file()
    assert (tmp_path / "other_timings.jsonl").is_file()
    assert recorded_seconds(tmp_path) == pytest.approx(
        sum(
            json.loads(line)["seconds"]
            for path in tmp_path.glob("*timings.jsonl")
            for line in path.read_text().splitlines()
        )
    )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (ROW % b"0", "another search"),
        (ROW % b"1", "another search"),
        (b"nonsense\n", "damaged"),
        (b"[]\n", "no search's"),
    ],
)
def test_a_ledger_of_something_else_is_refused(tmp_path, content, found):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(content)
    with pytest.raises(UserError, match=found):
        run(path)


def test_a_ledger_of_a_longer_search_is_refused(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(whole)
    with pytest.raises(UserError, match="longer search"):
        search(nelder_mead(3, evaluations=10), score, ledger=Ledger(path))


def test_a_ledger_at_home_lies_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    search(nelder_mead(3, evaluations=10), score, ledger="~/found.jsonl")
    assert (tmp_path / "found.jsonl").is_file()
