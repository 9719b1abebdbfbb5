"""Mutants of small functions, written down by hand, and what becomes of them."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mutations import changes, mutants

TOOL = Path(__file__).parents[2] / "tools" / "mutants.py"


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("a + b", ["a - b"]),
        ("a <= b < c", ["a < b < c", "a <= b <= c"]),
        ("a and b", ["a or b"]),
        ("not a", ["a"]),
        ("2", ["3"]),
        ("True", ["False"]),
        ("'yes'", ["'XXyesXX'"]),
        ("lambda: a", ["lambda: None"]),
        ("a if b else c", ["a if not b else c"]),
        ("f(a, b=c)", ["f(None, b=c)", "f(b=c)", "f(a, b=None)", "f(a)"]),
        ("f(None, a)", ["f(a)", "f(None, None)", "f(None)"]),
        ("zip(a, strict=True)", ["zip(None, strict=True)", "zip(strict=True)"]),
        ("len(a)", []),
        ("a[b]", []),
    ],
)
def test_an_expression_has_these_mutants(code, changed):
    node = ast.parse(code, mode="eval").body
    assert [ast.unparse(new) for new in changes(node)] == changed


@pytest.mark.parametrize(
    ("code", "changed"),
    [
        ("a = b", ["a = None"]),
        ("a = None", ["a = ''"]),
        ("a += b", ["a -= b", "a = b"]),
        ("break", ["return"]),
        ("continue", ["break"]),
        ("f()", ["pass"]),
        ("yield from f()", ["pass"]),
        ("while a:\n    b", ["while not a:\n    b"]),
    ],
)
def test_a_statement_has_these_mutants(code, changed):
    (node,) = ast.parse(code).body
    assert [ast.unparse(ast.copy_location(new, node)) for new in changes(node)] == changed


MODULE = '''
from functools import lru_cache

@lru_cache
def half(x, share=2):
    """Half of it."""
    assert x > 0, "positive"
    return x / share

class Sizes:
    @property
    def last(self):
        return -1

    @classmethod
    def of(cls, *, at=0):
        for _ in range(3):
            at += 1
        return at
'''


def test_a_mutant_replaces_the_function_wherever_it_is_used(tmp_path, monkeypatch):
    path = tmp_path / "sized.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    from sized import Sizes, half  # pyright: ignore

    assert (half(6), Sizes().last, Sizes.of()) == (3, -1, 3)
    changed = {mutant.name: mutant for mutant in mutants(path, "sized")}
    assert list(changed) == [
        "sized:half#1 2 -> 3",
        "sized:half#2 x / share -> x * share",
        "sized:Sizes.last#1 -1 -> 1",
        "sized:Sizes.last#2 1 -> 2",
        "sized:Sizes.of#1 0 -> 1",
        "sized:Sizes.of#2 range(3) -> range(None)",
        "sized:Sizes.of#3 3 -> 4",
        "sized:Sizes.of#4 at += 1 -> at -= 1",
        "sized:Sizes.of#5 at += 1 -> at = 1",
        "sized:Sizes.of#6 1 -> 2",
    ]
    changed["sized:half#1 2 -> 3"].apply()
    changed["sized:Sizes.last#1 -1 -> 1"].apply()
    changed["sized:Sizes.of#5 at += 1 -> at = 1"].apply()
    assert (half(6), Sizes().last, Sizes.of()) == (2, 1, 1)
    changed["sized:Sizes.of#1 0 -> 1"].apply()
    assert (half(6), Sizes().last, Sizes.of()) == (2, 1, 4)


FUNCTIONS = """
def larger(a, b):
    return a if a > b else b

def down(n):
    while n > 0:
        n -= 1
    return n

def unused(a):
    return -a
"""
TESTS = """
from counted import down, larger

def test_the_larger_is_the_larger():
    assert larger(1, 2) == larger(2, 1) == larger(2, 2) == 2

def test_it_ends_at_zero():
    assert down(3) == 0
"""


def test_mutants_are_killed_by_a_test_or_by_time_or_survive(tmp_path):
    for name, text in (("src/counted.py", FUNCTIONS), ("tests/test_counted.py", TESTS)):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    results = tmp_path / "results.jsonl"
    killed = {"mutant": "counted:down#1 n > 0 -> n >= 0", "line": 6, "outcome": "killed"}
    results.write_text(json.dumps(killed) + "\n")
    options = ["results.jsonl", "--code", "src", "--tests", "tests", "--seconds", "0.2"]
    run = subprocess.run(
        [sys.executable, TOOL, *options], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    *living, counts = run.stdout.splitlines()
    assert living == [
        "survived counted:larger#1 a > b -> a >= b",
        "untested counted:unused#1 -a -> a",
    ]
    assert ast.literal_eval(counts) == {"killed": 3, "timeout": 2, "survived": 1, "untested": 1}
    assert len(results.read_text().splitlines()) == 7  # the killed one is not tried again
