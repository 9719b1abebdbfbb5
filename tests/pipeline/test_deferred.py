"""Parts that a person chose: named, called late, distinguished by what they compute."""

import pickle
import sys
from dataclasses import dataclass
from functools import partial

import pytest

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred, describe
from dfwe.tasks.metrics import F1, Accuracy


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a person's module and names its function `score`."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text, name="own_metric"):
        (tmp_path / f"{name}.py").write_text(text)
        sys.modules.pop(name, None)
        return Deferred(f"{name}.score")

    yield write
    for name in ("own_metric", "own_helper"):
        sys.modules.pop(name, None)


METRIC = """
from own_helper import TOP

def score(texts):
    '''Points.'''
    return TOP * len(texts)  # a comment
"""


def test_an_edited_part_is_another_and_an_edited_comment_is_not(own):
    own("TOP = 100\n", "own_helper")
    first = describe(own(METRIC))
    assert first["name"] == "own_metric.score"
    assert set(first["source"]) == {"own_metric.py", "own_helper.py"}
    worded = METRIC.replace("a comment", "other words").replace("Points.", "Score.")
    assert describe(own(worded)) == first
    assert describe(own(METRIC.replace("len(texts)", "len(texts) / 2"))) != first
    own(METRIC)
    own("TOP = 10\n", "own_helper")
    second = describe(Deferred("own_metric.score"))
    changed = [name for name in first["source"] if first["source"][name] != second["source"][name]]
    assert changed == ["own_helper.py"]


def test_two_classes_of_one_name_differ():
    ours = describe(Accuracy())

    @dataclass(frozen=True)
    class Theirs:
        name: str = "accuracy"

    Theirs.__qualname__ = "Accuracy"
    theirs = describe(Theirs())
    assert theirs != ours
    assert ours["name"] == "Accuracy"
    assert ours["arguments"]["name"] == theirs["arguments"]["name"] == "accuracy"


def test_our_own_parts_are_named_without_their_module():
    described = describe(F1("micro"))
    assert described == {
        "name": "F1",
        "version": 1,
        "arguments": {"average": "micro", "compatibility": None},
    }


def test_a_librarys_part_has_its_version():
    import sklearn
    from sklearn.metrics import accuracy_score

    described = describe(accuracy_score)
    assert described["version"] == sklearn.__version__
    assert described["arguments"]["normalize"] is True


def test_defaults_that_are_spelled_out_change_nothing():
    from dfwe.search import nelder_mead

    target = Deferred("dfwe.search.nelder_mead", {"iterations": 40})
    assert describe(target) == describe(nelder_mead) == describe(partial(nelder_mead, shrink=0.35))


def test_a_deferred_part_is_called_with_both_keywords_and_pickles():
    part = Deferred("builtins.dict", {"a": 1, "b": 2})
    assert part(b=3) == {"a": 1, "b": 3}
    assert pickle.loads(pickle.dumps(part)) == part
    assert len(pickle.dumps(part)) < 200


@pytest.mark.parametrize("target", ["nowhere.at_all", "dfwe.search.serch", "plain", ""])
def test_a_path_to_nothing_is_refused(target):
    with pytest.raises(UserError, match="cannot be imported"):
        Deferred(target)()


def test_what_cannot_be_called_is_refused():
    with pytest.raises(UserError, match="cannot be called"):
        Deferred("dfwe.search.loop.FLAT").resolve()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"average": "micro", "averag": 1}, "averag"), ({}, "average")],
)
def test_a_part_with_keys_that_do_not_fit_is_a_sentence(arguments, words):
    part = Deferred("dfwe.tasks.metrics.TokenF1", arguments)
    with pytest.raises(UserError, match=words):
        part()
    with pytest.raises(
        UserError, match="cannot be called as it is configured: missing a required"
    ):
        Deferred("dfwe.data.table.classification", {"context": "{text}"})([], "t", [])
