"""The store: existence means complete, and weights are what they were."""

import json
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest, temporary_sibling, write_json
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.store import WEIGHTS, Store

RECIPE = Recipe("experts", 1, {"task": "emory"})


def fill(folder):
    (folder / WEIGHTS).write_bytes(b"theta")


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_committed_result_is_in_the_store_with_its_recipe_and_scores(store):
    assert RECIPE not in store
    folder = store.commit(RECIPE, fill, {"score": 41.5})
    assert RECIPE in store
    assert store.scores(RECIPE) == {"score": 41.5}
    noted = json.loads((folder / "recipe.json").read_text())
    assert noted["settings"] == {"task": "emory"}
    assert noted["weights_sha256"] == file_digest(folder / WEIGHTS)


def test_a_result_is_readable_for_whoever_may_read_its_folder(store):
    def private(folder):
        (folder / WEIGHTS).write_bytes(b"theta")
        (folder / WEIGHTS).chmod(0o600)
        (folder / "templates").mkdir()  # as of a tokenizer with several
        (folder / "templates" / "chat.jinja").write_text("{{ text }}")

    folder = store.commit(RECIPE, private, {})
    assert (folder / WEIGHTS).stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
    assert (folder / "templates").stat().st_mode == folder.stat().st_mode


def test_a_result_that_fails_half_way_leaves_nothing_but_its_work(store):
    def fail(folder):
        (folder / WEIGHTS).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="space"):
        store.commit(RECIPE, fail, {})
    assert RECIPE not in store
    assert not store.folder(RECIPE).exists()
    store.commit(RECIPE, fill, {})
    assert (store.folder(RECIPE) / WEIGHTS).read_bytes() == b"theta"


def test_changed_weights_are_refused_with_the_way_out(store):
    folder = store.commit(RECIPE, fill, {})
    assert store.weights(RECIPE) == folder
    (folder / WEIGHTS).write_bytes(b"thetb")
    with pytest.raises(UserError, match="delete that folder"):
        store.weights(RECIPE)


def test_the_work_folder_is_gone_after_the_commit(store):
    (store.work(RECIPE) / "resume.ckpt").write_text("x")
    store.commit(RECIPE, fill, {})
    assert list((store.root / ".work").glob("*")) == []


def test_damaged_scores_name_the_file_and_the_way_out(store):
    folder = store.commit(RECIPE, fill, {})
    (folder / "scores.json").write_text("{")
    with pytest.raises(UserError, match="delete the folder"):
        store.scores(RECIPE)


def test_a_recipe_is_claimed_once_at_a_time(store):
    with store.claim(RECIPE):
        assert Store(store.root).claim(RECIPE) is None
    with store.claim(RECIPE):
        store.commit(RECIPE, fill, {})
    assert list((store.root / ".work").iterdir()) == []


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    value = {"text": "x" * 100_000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_json(tmp_path / "results.json", value), range(200)))
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]
    assert json.loads((tmp_path / "results.json").read_text()) == value


def test_what_a_killed_writer_has_left_is_removed_and_a_living_one_keeps_its_own(tmp_path):
    target = tmp_path / "model"
    with ProcessPoolExecutor(1) as pool:
        dead = pool.submit(temporary_sibling, target).result()
    dead.mkdir()
    (dead / "weights").write_text("half")
    with ProcessPoolExecutor(1) as pool:
        living = pool.submit(temporary_sibling, target).result()
        living.write_text("half")
        assert temporary_sibling(target) not in (living, dead)
        assert not dead.exists()
        assert living.exists()
    temporary_sibling(target)
    assert list(tmp_path.iterdir()) == []


def test_what_is_left_of_a_result_gives_way_to_the_new_one(store):
    folder = store.commit(RECIPE, fill, {"by": "them"})
    (folder / "recipe.json").unlink()
    store.commit(RECIPE, fill, {"by": "us"})
    assert store.scores(RECIPE) == {"by": "us"}


def test_a_result_that_another_process_has_just_put_there_stays(store):
    store.commit(RECIPE, fill, {"by": "them"})
    store.commit(RECIPE, fill, {"by": "us"})
    assert store.scores(RECIPE) == {"by": "them"}
    assert list((store.root / ".work").iterdir()) == []


def test_a_store_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for root, said in (
        (None, "names no folder"),
        ("", "names no folder"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(UserError, match=said):
            Store(root)


@pytest.mark.parametrize(("name", "content"), [("recipe.json", ""), ("scores.json", "[]")])
def test_a_damaged_description_is_named(name, content, store):
    (store.commit(RECIPE, fill, {}) / name).write_text(content)
    with pytest.raises(UserError, match=f"{name} cannot be read .* delete the folder"):
        store.weights(RECIPE), store.scores(RECIPE)
