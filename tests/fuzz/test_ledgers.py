"""Ledgers of searches that were stopped, damaged and resumed: they end as if undisturbed."""

import hashlib
import json
import os
import shutil
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from fuzzing import junk, texts
from hypothesis import strategies as st

from dfwe.search.baselines import coordinate, dirichlet
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger, read_trials
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead

SEARCHES = {
    "nelder_mead": partial(nelder_mead, evaluations=14),
    "dirichlet": partial(dirichlet, evaluations=12),
    "coordinate": partial(coordinate, evaluations=12),
}
FILES = ("trials.jsonl", "answers.jsonl", "timings.jsonl", "attempts.jsonl")


class Case(NamedTuple):
    """A search, where it is stopped, which trials fail until then, and the damage between.

    `damages` are (file, how): bytes for the whole file by `damaged`, or lines changed by a seed.
    """

    strategy: str
    target: tuple[float, ...]
    steps: int  # a score has so many values between 0 and 100
    words: tuple[str, ...]
    stop: int
    failing: frozenset[int]
    damages: tuple[tuple[str, str, int, object], ...] = ()


def sound():
    return st.integers(2, 4).flatmap(
        lambda n: st.builds(
            Case,
            st.sampled_from(sorted(SEARCHES)),
            st.tuples(*[st.floats(0, 1)] * n),
            st.sampled_from([3, 20, 10**6]),
            st.tuples(texts(), texts()),
            st.integers(2, 16),
            st.frozensets(st.integers(n, 20), max_size=2),
            st.just(()),
        )
    )


LINES = ("flip", "cut", "zeros", "lost", "doubled", "swapped", "whole", "retyped", "gone", "other")


def unsound():
    damage = st.tuples(
        st.sampled_from(FILES), st.sampled_from(LINES), st.integers(0, 10**6), junk()
    )
    return st.builds(
        lambda case, damages: case._replace(damages=tuple(damages)),
        sound(),
        st.lists(damage, min_size=1, max_size=2),
    )


def scorer(case):
    """Points by the distance from the target, in steps; answers by alpha."""

    def score(alpha):
        distance = float(np.sum((alpha - np.array(case.target)) ** 2))
        value = round(case.steps * np.exp(-distance)) / case.steps * 100
        answers = Answers((*case.words, f"{alpha[0]:.3f}"), (-distance, -1.0, -2.0))
        return Evaluation(value, -distance, {"f1": value / 2}, answers=answers)

    return score


def begun(case, path):
    """Runs the search until it is stopped."""
    inner, count = scorer(case), [0]

    def stop(trial, best):
        count[0] = trial.index + 1
        if trial.index >= case.stop:
            raise KeyboardInterrupt

    def score(alpha):
        if count[0] in case.failing and alpha.max() < 1:
            raise RuntimeError("out of luck")
        return inner(alpha)

    try:
        search(SEARCHES[case.strategy](len(case.target)), score, ledger=path, on_trial=stop)
    except KeyboardInterrupt:
        return


def harm(place, how, seed, value):
    """Changes a file as a bad disk, or another program, would."""
    if not place.exists():
        return
    content = place.read_bytes()
    at = seed % max(1, len(content))
    lines = content.splitlines(keepends=True)
    line = seed % max(1, len(lines))
    if how == "flip":
        content = content[:at] + bytes([content[at] ^ (1 << seed % 8)]) + content[at + 1 :]
    elif how == "cut":
        content = content[:at]
    elif how == "zeros":
        content = content[:at] + bytes(len(content[at : at + 30])) + content[at + 30 :]
    elif how == "lost":
        content = b"".join(lines[:line] + lines[line + 1 :])
    elif how == "doubled":
        content = b"".join([*lines, lines[line]])
    elif how == "swapped":
        content = b"".join(lines[::-1])
    elif how == "whole":
        content = content * 2
    elif how == "other":
        content = json.dumps(value).encode() + b"\n" + content
    elif how == "retyped":
        content = b"".join([*lines[:line], retyped(lines[line], seed, value), *lines[line + 1 :]])
    if how == "gone":
        place.unlink()
    else:
        place.write_bytes(content)


def retyped(line, seed, value):
    """A line with another value in one field, and the seal of its new text."""
    try:
        row = json.loads(line)
    except ValueError:  # damaged before
        return line
    row.pop("sha256", None)
    name = sorted(row)[seed % len(row)]
    plain = isinstance(value, int | float | str | list) and name in ("alpha", "score", "index")
    row[name] = "x" if plain else value
    text = json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()
    return b'%s,"sha256":"%s"}\n' % (text[:-1], hashlib.sha256(text).hexdigest().encode())


def judge(folder, case):
    """Resumed, the search ends with the trials of an undisturbed one, and its ledger has them."""
    shutil.rmtree(folder / "search", ignore_errors=True)
    path = folder / "search" / "trials.jsonl"
    begun(case, path)
    for name, how, seed, value in case.damages:
        harm(path.with_name(name), how, seed, value)
    found = search(SEARCHES[case.strategy](len(case.target)), scorer(case), ledger=Ledger(path))
    due = search(SEARCHES[case.strategy](len(case.target)), scorer(case))
    assert len(found.trials) == len(due.trials)
    for trial, other in zip(found.trials, due.trials, strict=True):
        assert trial.alpha.tolist() == other.alpha.tolist()
        known = (trial.index, trial.score, trial.log_likelihood, trial.metrics, trial.answers)
        assert known == (
            other.index,
            other.score,
            other.log_likelihood,
            other.metrics,
            other.answers,
        )
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    scores = [scorer(case)(np.array(row["alpha"])) for row in rows]
    assert [row["score"] for row in rows] == [score.score for score in scores]
    best = max(range(len(rows)), key=lambda n: (scores[n].score, scores[n].log_likelihood, -n))
    assert found.alpha.tolist() == rows[best]["alpha"]
    again = read_trials(path, answers=True)
    assert [trial.answers for trial in again] == [score.answers for score in scores]
    return True


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def test_a_search_ends_as_if_its_ledger_had_not_been_damaged(tmp_path, fuzz):
    fuzz("ledgers", partial(judge, tmp_path), sound(), unsound())
