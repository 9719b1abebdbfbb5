"""`dfwe store verify` and `dfwe store repair`, as a person runs them."""

import pytest

from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record
from dfwe.pipeline.store import RECORD, Store
from dfwe.store_command import store_command

RECIPES = [Recipe("train", 1, {"task": task}) for task in ("emory", "meld")]


class Score(Record):
    score: float


@pytest.fixture
def store(tmp_path):
    """A store of two results."""
    store = Store(tmp_path / "store")
    for recipe in RECIPES:
        store.output(recipe)
        store.commit(recipe, Score(score=1.0), provenance("x", 1.0, "cpu"))
    return store


def test_a_whole_store_is_said_to_be_whole(store, capsys):
    assert store_command(["verify", str(store.root)]) == 0
    assert capsys.readouterr().out == "2 of 2 results are whole.\n"


def test_a_damaged_result_is_named_moved_aside_and_gone(store, capsys):
    (store.folder(RECIPES[0]) / RECORD).write_text("{}")
    assert store_command(["verify", str(store.root)]) == 1
    text = capsys.readouterr().out
    assert f"damaged  {RECIPES[0].name}: {RECORD} has 2 bytes" in text
    assert "1 of 2 results are whole." in text
    assert f"`dfwe store repair {store.root}`" in text
    assert store_command(["repair", str(store.root)]) == 0
    assert f"moved  {RECIPES[0].name}" in capsys.readouterr().out
    assert RECIPES[0] not in store
    assert RECIPES[1] in store
    assert store_command(["verify", str(store.root)]) == 0


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert store_command(["verify", str(tmp_path / "nothing")]) == 1
    assert "There is no store in" in capsys.readouterr().err
