"""What is damaged of a ledger is scored again, with one line that says so."""

import hashlib
import json
import os

import numpy as np
import pytest

from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


def score(alpha):
    value = -float(np.sum((alpha - [0.5, 0.3, 0.2]) ** 2))
    answers = Answers(tuple(f"{weight:.3f}" for weight in alpha), tuple(-alpha), ((1.0,), (2.0,)))
    return Evaluation(value, value / 3, {"f1": value}, answers=answers)


def run(path):
    """The search, and how many alphas it scored."""
    scored = []
    strategy = nelder_mead(3, evaluations=20)
    search(strategy, lambda alpha: scored.append(alpha) or score(alpha), ledger=path)
    return len(scored)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    run(folder / "trials.jsonl")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def damaged(tmp_path, whole):
    """A copy of the ledger with one of its files changed."""

    def change(name, content):
        for file, kept in {**whole, name: content}.items():
            (tmp_path / file).write_bytes(kept)
        return tmp_path / "trials.jsonl"

    return change


def assert_completed(path, whole):
    for name in ("trials.jsonl", "answers.jsonl"):
        assert path.with_name(name).read_bytes() == whole[name]


def sealed(row):
    """A line as a program would write it that knows how the digest is made."""
    text = json.dumps(row, separators=(",", ":")).encode()
    return text[:-1] + b',"sha256":"%s"}\n' % hashlib.sha256(text).hexdigest().encode()


def changed(line, **values):
    return json.dumps(json.loads(line) | values, separators=(",", ":")).encode() + b"\n"


CHANGES = {
    "another digit": lambda line: line.replace(b'"index":5', b'"index":6'),
    "null as score": lambda line: changed(line, score=None),
    "text as score": lambda line: changed(line, score="good"),
    "no score": lambda line: line.replace(b'"score"', b'"scored"'),
    "no metrics": lambda line: changed(line, metrics={}),
    "no digest": lambda line: line[: line.index(b',"sha256"')] + b"}\n",
    "zeros": lambda line: bytes(len(line) - 1) + b"\n",
    "half": lambda line: line[: len(line) // 2] + b"\n",
    "no line feed": lambda line: line[:-1],
    "nonsense": lambda line: b"nonsense\n",
    "not UTF-8": lambda line: b"\xff" + line,
    "of another schema": lambda line: sealed({"index": 5, "value": 1.0}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_damaged_trial_is_scored_again(name, damaged, whole, caplog):
    lines = whole["trials.jsonl"].splitlines(keepends=True)
    lines[5] = CHANGES[name](lines[5])
    path = damaged("trials.jsonl", b"".join(lines))
    lost = 2 if name == "no line feed" else 1  # the next one is part of the same line
    assert run(path) == lost + 1  # the best one too
    assert_completed(path, whole)
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{path}: 1 of {20 + 1 - lost} trials are damaged" in line


@pytest.mark.parametrize("kind", ["trials.jsonl", "answers.jsonl"])
def test_any_bit_may_flip(kind, damaged, whole):
    rng = np.random.default_rng(0)
    for _ in range(60):
        content = bytearray(whole[kind])
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path = damaged(kind, bytes(content))
        run(path)
        assert_completed(path, whole)


def test_lines_may_be_lost_doubled_and_out_of_order(damaged, whole, caplog):
    lines = whole["trials.jsonl"].splitlines(keepends=True)
    for kept, scored in ((lines[:7] + lines[8:], 2), (lines + lines, 0), (lines[::-1], 0)):
        path = damaged("trials.jsonl", b"".join(kept))
        assert run(path) == scored
        assert_completed(path, whole)
    assert not caplog.records


@pytest.mark.parametrize("rest", [b"", bytes(1000)], ids=["emptied", "zeros"])
def test_a_ledger_may_be_lost_as_a_whole(rest, damaged, whole):
    path = damaged("trials.jsonl", rest)
    assert run(path) == 20
    assert_completed(path, whole)


@pytest.mark.parametrize("rest", [None, b"", b'{"texts": []}\n'], ids=["lost", "emptied", "other"])
def test_trials_without_their_answers_are_scored_again(rest, damaged, whole, caplog):
    path = damaged("answers.jsonl", rest or b"")
    if rest is None:
        path.with_name("answers.jsonl").unlink()
    assert run(path) == 20
    assert_completed(path, whole)
    assert "20 of 20 trials are damaged, or lack their answers" in caplog.text


def test_answers_are_found_by_their_digest_wherever_they_stand(damaged, whole):
    lines = whole["answers.jsonl"].splitlines(keepends=True)
    path = damaged("answers.jsonl", b"".join([*lines[::-1], lines[3]]))
    assert run(path) == 0
    assert_completed(path, whole)


def test_answers_in_another_form_than_this_versions_are_scored_again(damaged, whole):
    lines = whole["trials.jsonl"].splitlines(keepends=True)
    other = b'{"words": ["a"]}\n'
    row = json.loads(lines[4]) | {"answers": hashlib.sha256(other).hexdigest()}
    del row["sha256"]
    lines[4] = sealed(row)
    path = damaged("trials.jsonl", b"".join(lines))
    path.with_name("answers.jsonl").write_bytes(whole["answers.jsonl"] + other)
    assert run(path) == 2
    assert_completed(path, whole)


@pytest.mark.parametrize("name", ["timings.jsonl", "attempts.jsonl"])
@pytest.mark.parametrize("rest", [b"", b"nonsense\n", b'{"index":0,"seconds":"long"}\n'])
def test_provenance_that_is_damaged_keeps_nothing_from_being_used(name, rest, damaged, whole):
    path = damaged(name, rest)
    assert run(path) == 0
    assert_completed(path, whole)
    assert Ledger(path).remeasured == ()
