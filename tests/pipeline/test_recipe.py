"""Addresses: what decides a result names it, and nothing else does."""

import hashlib

import pytest

from dfwe.pipeline.recipe import Recipe, canonical, digest


def recipe(**settings):
    return Recipe("experts", 1, settings)


def test_digest_is_sha256_of_sorted_compact_json():
    assert digest({"b": [1, 2], "a": "x"}) == hashlib.sha256(b'{"a":"x","b":[1,2]}').hexdigest()


def test_order_of_keys_and_sets_does_not_change_the_address():
    one = recipe(a={"x", "y", "z"}, b=1)
    other = recipe(b=1, a={"z", "x", "y"})
    assert one.address == other.address


def test_whole_floats_and_integers_are_one_setting():
    assert recipe(epochs=5).address == recipe(epochs=5.0).address


@pytest.mark.parametrize(
    "other",
    [
        Recipe("finetune", 1, {"a": 1}),
        Recipe("experts", 2, {"a": 1}),
        Recipe("experts", 1, {"a": 2}),
        Recipe("experts", 1, {"a": 1}, (recipe(a=1),)),
    ],
    ids=["stage", "version", "setting", "parent"],
)
def test_everything_that_decides_the_result_changes_the_address(other):
    assert other.address != recipe(a=1).address


def test_the_order_of_parents_counts():
    a, b = recipe(a=1), recipe(a=2)
    assert Recipe("s", 1, {}, (a, b)).address != Recipe("s", 1, {}, (b, a)).address


@pytest.mark.parametrize("value", [object(), float("nan"), {"a": float("inf")}])
def test_a_value_without_a_canonical_form_is_refused(value):
    with pytest.raises(TypeError):
        canonical(value)
