"""A search killed anywhere and called again ends with the ledger of an unbroken one."""

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger, recorded_seconds, row_of
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead, parallel_nelder_mead


def score(alpha):
    """A stepwise score that fails in one strip of the simplex and is NaN in another."""
    if 0.24 < alpha[1] < 0.26:
        raise RuntimeError("no such mixture")
    if 0.26 < alpha[1] < 0.28:
        return math.nan
    value = -float(np.sum((alpha - [0.5, 0.3, 0.2]) ** 2))
    return Evaluation(round(value, 2), value / 3, {"f1": value, "empty": math.nan})


def run(path, score=score, **options):
    return search(nelder_mead(3, evaluations=30), score, ledger=Ledger(path), **options)


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
    trials_and_timings, attempts = 2 * len(whole.splitlines()), 1
    assert len(synced) == trials_and_timings + attempts


def test_a_finished_ledger_stays_the_same_file(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    run(path, answered)
    before = {file.name: file.stat() for file in tmp_path.iterdir()}
    assert run(path, score=None).evaluations == len(path.read_bytes().splitlines())
    after = {file.name: file.stat() for file in tmp_path.iterdir()}
    assert {name: (s.st_ino, s.st_mtime_ns) for name, s in before.items()} == {
        name: (s.st_ino, s.st_mtime_ns) for name, s in after.items()
    }


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


def test_a_ledger_and_its_answers_cut_anywhere_are_completed_to_the_same_bytes(
    with_answers, tmp_path
):
    whole = {path.name: path.read_bytes() for path in with_answers.parent.glob("*s.jsonl")}
    for name in ("trials.jsonl", "answers.jsonl"):
        lines = whole[name].splitlines(keepends=True)
        for kept in range(len(lines)):
            path = copied(with_answers, tmp_path)
            torn = b"".join(lines[:kept]) + lines[kept][: len(lines[kept]) // 2]
            path.with_name(name).write_bytes(torn)
            run(path, answered)
            for same in ("trials.jsonl", "answers.jsonl"):
                assert path.with_name(same).read_bytes() == whole[same]


def test_what_is_recorded_is_not_scored_again_but_the_best_one_and_failures(tmp_path, whole):
    lines = whole.splitlines(keepends=True)
    rows = [json.loads(line) for line in lines]
    assert 1 < sum(row["score"] is None for row in rows) < len(rows) / 2
    for kept in range(len(lines) + 1):
        scored = []
        path = tmp_path / str(kept) / "trials.jsonl"
        path.parent.mkdir()
        path.write_bytes(b"".join(lines[:kept]))
        found = run(path, lambda alpha: scored.append(alpha.tolist()) or score(alpha))  # noqa: B023
        able = [row for row in rows[:kept] if row["score"] is not None]
        best = sorted(able, key=lambda row: (-row["score"], -row["log_likelihood"]))[:1]
        assert scored == [row["alpha"] for row in best] + [
            row["alpha"]
            for row in rows
            if row["score"] is None or row["index"] >= kept
            for _ in range(2 if row["score"] is None else 1)
        ]
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
    for lives in np.random.default_rng(0).integers(1, 8, size=10).tolist():
        try:
            attempt(path, lives)
        except Killed:
            deaths += 1
    again = attempt(path, 1000)
    assert deaths >= 8
    assert path.read_bytes() == (tmp_path / "unbroken" / "trials.jsonl").read_bytes()
    assert row_of(again.best) == row_of(unbroken.best)


def coarse(alpha):
    return Evaluation(round(answered(alpha).score, 1), precision="bf16")


@pytest.mark.parametrize(
    ("groups", "options"),
    [
        (1, {"screen": coarse, "top": 3}),
        (1, {"shrinkage": 0.5}),
        (1, {"screen": coarse, "top": 2, "shrinkage": 0.25}),
        (2, {}),
        (1, {"objective": "log_likelihood"}),
    ],
    ids=["screen", "shrinkage", "both", "groups", "likelihood"],
)
def test_any_kind_of_search_cut_within_any_line_is_completed_to_the_same_bytes(
    tmp_path, groups, options
):
    def run():
        score = answered if groups == 1 else lambda alpha: answered(alpha.mean(axis=0))
        return search(nelder_mead(3, evaluations=25, groups=groups), score, ledger=path, **options)

    path = tmp_path / "trials.jsonl"
    first = run()
    whole = path.read_bytes()
    assert (whole.count(b'"bf16"') > 10) is ("screen" in options)
    assert first.best.precision == "fp32"
    lines = whole.splitlines(keepends=True)
    for number, line in enumerate(lines):
        path.write_bytes(b"".join(lines[:number]) + line[: len(line) // 2])
        assert row_of(run().best) == row_of(first.best)
        assert path.read_bytes() == whole


def test_floats_and_failures_are_read_back_as_they_were(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(whole)
    found = run(path)
    fresh = search(nelder_mead(3, evaluations=30), score)
    assert [row_of(t) for t in found.trials] == [row_of(t) for t in fresh.trials]
    errors = {trial.error for trial in found.trials if trial.score is None}
    assert errors == {"RuntimeError: no such mixture", "the score is nan"}
    assert found.failed == tuple(t.index for t in fresh.trials if t.error is not None)
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


def test_two_ledgers_in_a_folder_have_files_of_their_own(tmp_path):
    run(tmp_path / "trials.jsonl", answered)
    run(tmp_path / "other.jsonl", answered)
    for kind in ("answers", "timings", "attempts"):
        assert (tmp_path / f"{kind}.jsonl").is_file()
        assert (tmp_path / f"other_{kind}.jsonl").is_file()
    assert recorded_seconds(tmp_path) == pytest.approx(
        sum(
            json.loads(line)["seconds"]
            for path in tmp_path.glob("*timings.jsonl")
            for line in path.read_text().splitlines()
        )
    )


def test_a_search_with_the_ledger_of_a_longer_one_keeps_what_it_proposes(tmp_path, whole):
    path = tmp_path / "trials.jsonl"
    path.write_bytes(whole)
    scored = []
    search(
        nelder_mead(3, evaluations=10),
        lambda alpha: scored.append(alpha) or score(alpha),
        ledger=path,
    )
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:10])
    failures = sum(json.loads(line)["score"] is None for line in whole.splitlines()[:10])
    assert len(scored) == 2 * failures + (failures > 0)


def test_a_ledger_at_home_lies_there(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    search(nelder_mead(3, evaluations=10), score, ledger="~/found.jsonl")
    assert (tmp_path / "found.jsonl").is_file()
