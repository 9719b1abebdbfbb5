"""`dfwe store`, as a person runs it."""

import pytest

from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record, SplitScores
from dfwe.pipeline.store import RECORD, WEIGHTS, Store
from dfwe.store_command import store_command

EXPERTS = [Recipe("train", 1, {"task": task}) for task in ("emory", "meld")]
MIXTURE = Recipe("interpolate", 1, {}, tuple(EXPERTS))
TEST = Recipe("evaluate", 1, {}, (MIXTURE,))
THETA = b"theta"


class Scored(Record):
    dev: SplitScores | None


def add(store, recipe, label, dev=None):
    """Stores a result: with a dev score it is a model, with weights."""
    scores = None if dev is None else SplitScores(score=dev, metrics={}, log_likelihood=None)
    output = store.output(recipe)
    if dev is not None:
        (output / WEIGHTS).write_bytes(THETA)
    where = provenance(label, 90.0, "cpu", stage="experts", group="emory-seed0")
    store.commit(recipe, Scored(dev=scores), where)


def command(store, *words):
    return store_command([words[0], "--store", str(store.root), *words[1:]])


@pytest.fixture
def store(tmp_path):
    """A store of two experts, their mixture and its test."""
    store = Store(tmp_path / "store")
    add(store, EXPERTS[0], "emory", 41.25)
    add(store, EXPERTS[1], "meld", 37.5)
    add(store, MIXTURE, "emory", 43.0)
    add(store, TEST, "emory")
    return store


def test_the_list_names_each_result_with_its_score_and_how_many_use_it(store, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    store.output(Recipe("train", 1, {}, (EXPERTS[1],)))
    assert command(store, "list") == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines()[:-2])) <= 80
    rows = {line.split()[0]: line.split() for line in text.splitlines() if line.strip()}
    expert = rows[f"train-{EXPERTS[0].address[:8]}"]
    assert expert[1:4] == ["experts", "emory", "41.25"]
    assert expert[-1] == "1"
    assert rows[f"evaluate-{TEST.address[:8]}"][3] == "–"  # noqa: RUF001
    assert "emory-seed0" in rows
    assert "4 results" in text
    assert "Unfinished: train-" in text


def test_one_result_is_shown_with_settings_parents_and_files(store, capsys):
    assert command(store, "show", MIXTURE.address[:8]) == 0
    text = capsys.readouterr().out
    for expert in EXPERTS:
        assert f"  {expert.name}  experts, " in text
    assert f"used by:\n  {TEST.name}" in text
    assert "dev          43.00" in text
    assert "5 B" in text
    assert command(store, "show", EXPERTS[0].name) == 0
    assert "settings:\n  task: emory" in capsys.readouterr().out


@pytest.mark.parametrize(("word", "sentence"), [("x", "begins with 'x'"), ("train", "2 results")])
def test_a_name_that_is_none_or_several_is_named(word, sentence, store, capsys):
    assert command(store, "show", word) == 1
    assert sentence in capsys.readouterr().err


def test_pruning_says_what_it_would_delete_and_deletes_it_only_when_told(store, capsys):
    assert command(store, "prune") == 0
    assert "--yes would delete the weights of 2 results and free 10 B" in capsys.readouterr().out
    assert all(store.has_weights(expert) for expert in EXPERTS)
    assert command(store, "prune", "--keep", EXPERTS[0].name, "--yes") == 0
    assert [store.has_weights(expert) for expert in EXPERTS] == [True, False]
    assert store.has_weights(MIXTURE)  # no model was made from it
    assert store.record(EXPERTS[1], Scored).dev.score == 37.5
    capsys.readouterr()
    assert command(store, "verify") == 0
    assert command(store, "list") == 0
    assert "pruned" in capsys.readouterr().out
    assert command(store, "prune", MIXTURE.name, "--yes") == 0  # where it is named
    assert not store.has_weights(MIXTURE)


def test_nothing_is_pruned_that_unfinished_work_starts_from_or_that_is_young(store, capsys):
    child = Recipe("train", 1, {}, (EXPERTS[1],))
    store.output(child)
    assert command(store, "prune", EXPERTS[1].name, "--yes") == 1
    assert f"{child.name} is unfinished and starts from train-" in capsys.readouterr().err
    assert command(store, "prune", "--yes", "--older-than", "1") == 0
    assert all(store.has_weights(expert) for expert in EXPERTS)
    assert command(store, "prune", "--yes") == 0
    assert [store.has_weights(expert) for expert in EXPERTS] == [False, True]


def test_a_whole_store_is_said_to_be_whole(store, capsys):
    assert command(store, "verify") == 0
    assert capsys.readouterr().out == "4 of 4 results are whole.\n"


def test_a_damaged_result_is_named_moved_aside_and_gone(store, capsys):
    (store.folder(TEST) / RECORD).write_text("{}")
    assert command(store, "verify") == 1
    text = capsys.readouterr().out
    assert f"damaged  {TEST.name}: {RECORD} has 2 bytes" in text
    assert "3 of 4 results are whole." in text
    assert f"`dfwe store repair --store {store.root}`" in text
    assert command(store, "repair") == 0
    assert f"moved  {TEST.name}" in capsys.readouterr().out
    assert TEST not in store
    assert MIXTURE in store
    assert command(store, "verify") == 0


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    assert store_command(["verify", "--store", str(tmp_path / "nothing")]) == 1
    assert "There is no store in" in capsys.readouterr().err
