"""Texts become answers: forgiving by default, as TLiDB reads them on demand."""

import pytest

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.tasks.answers import FreeText, Label, Labels

OPTIONS = ("boss", "friends", "girlfriend or boyfriend", "alumni")


def example(target: str, *more: str, options=OPTIONS) -> Example:
    return Example("i", "d", "context:", "p", target, (target, *more), options)


@pytest.mark.parametrize(
    ("text", "forgiving", "exact"),
    [("boss", 0, 0), (" Boss\n", 0, -1), ("bos", -1, -1), ("", -1, -1), ("alumni", 3, 3)],
)
def test_a_label_is_found_whole(text, forgiving, exact):
    assert Label()(text, example("boss")) == forgiving
    assert Label(compatibility="tlidb")(text, example("boss")) == exact


def test_labels_that_differ_in_case_alone_are_told_apart_by_their_gold():
    assert Label().gold(example("alumni")) == 3
    assert Label().gold(example("Boss", options=("Boss", "Clerk"))) == 0


@pytest.mark.parametrize(
    ("text", "correct", "tlidb"),
    [
        ("boss and friends", [1, 1, 0, 0], [1, 1, 0, 0]),
        ("Friends ", [0, 1, 0, 0], [0, 0, 0, 1]),  # TLiDB: case counts; the default instead
        ("girlfriends", [0, 0, 0, 0], [0, 1, 0, 0]),  # TLiDB: a part of a word counts
        ("girlfriend or boyfriend and boss", [1, 0, 1, 0], [1, 0, 1, 0]),
        ("", [0, 0, 0, 0], [0, 0, 0, 1]),
    ],
)
def test_relations_are_listed_with_and(text, correct, tlidb):
    gold = example("boss")
    assert Labels("alumni")(text, gold) == correct
    assert Labels("alumni", compatibility="tlidb")(text, gold) == tlidb


def test_the_gold_row_of_several_relations():
    gold = example("girlfriend or boyfriend and boss")
    assert Labels("alumni").gold(gold) == [1, 0, 1, 0]


def test_free_text_is_compared_with_every_reference():
    assert FreeText()(" As is.", example("x")) == " As is."
    assert FreeText().gold(example("x", "y", options=())) == ("x", "y")


@pytest.mark.parametrize("make", [lambda c: Label(c), lambda c: Labels("boss", c)])
def test_an_unknown_compatibility_is_named(make):
    with pytest.raises(UserError, match="compatibility=old should be 'tlidb' or None"):
        make("old")


def test_one_set_of_labels_is_not_several_accepted_answers():
    with pytest.raises(UserError, match=r"^i has several accepted answers, but"):
        Labels("alumni").gold(example("boss", "friends"))
