"""The store: existence means complete, and weights are what they were."""

import os

import filelock
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record
from dfwe.pipeline.store import PROVENANCE, PRUNED, RECIPE, RECORD, WEIGHTS, Store

EXPERT = Recipe("train", 1, {"task": "emory"})
WHERE = provenance("emory", 1.5, "cpu")
CONFIG, TEMPLATE = "config.json", "templates/chat.jinja"
FILES = {WEIGHTS: b"theta", CONFIG: b"{}", TEMPLATE: b"{{ text }}"}


class Score(Record):
    score: float


def commit(store, recipe=EXPERT, score=41.5, **changed):
    """Stores a result of a model's files and a score."""
    output = store.output(recipe)
    for name, content in {**FILES, **changed}.items():
        (output / name).parent.mkdir(exist_ok=True)
        (output / name).write_bytes(content)
    return store.commit(recipe, Score(score=score), WHERE)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def test_a_committed_result_is_in_the_store_with_its_recipe_record_and_provenance(store):
    assert EXPERT not in store
    folder = commit(store)
    assert EXPERT in store
    assert folder == store.root / f"train-{EXPERT.address}"
    assert store.record(EXPERT, Score) == Score(score=41.5)
    assert store.provenance(EXPERT) == WHERE
    stored = store.stored(EXPERT)
    assert (stored.kind, stored.address, stored.settings, stored.parents) == (
        "train",
        EXPERT.address,
        {"task": "emory"},
        [],
    )


def test_the_recipe_lists_digest_and_size_of_every_other_file(store):
    folder = commit(store)
    paths = {path for path in folder.rglob("*") if path.is_file()} - {folder / RECIPE}
    listed = store.stored(EXPERT).files
    assert set(listed) == {*FILES, RECORD, PROVENANCE}
    assert {folder / name for name in listed} == paths
    for name, entry in listed.items():
        assert entry.sha256 == file_digest(folder / name)
        assert entry.size == (folder / name).stat().st_size


def test_a_result_is_readable_for_whoever_may_read_its_folder(store):
    output = store.output(EXPERT)
    (output / WEIGHTS).write_bytes(b"theta")
    (output / WEIGHTS).chmod(0o600)
    (output / "templates").mkdir()  # as of a tokenizer with several
    (output / TEMPLATE).write_text("{{ text }}")
    folder = store.commit(EXPERT, Score(score=1.0), WHERE)
    assert (folder / WEIGHTS).stat().st_mode & 0o777 == folder.stat().st_mode & 0o666
    assert (folder / "templates").stat().st_mode == folder.stat().st_mode


def test_a_commit_that_fails_half_way_leaves_nothing_but_its_work(store, monkeypatch):
    def full(*unused):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(OSError, match="space"):
            commit(store, **{WEIGHTS: b"half"})
    assert EXPERT not in store
    assert not store.folder(EXPERT).exists()
    commit(store)
    assert (store.folder(EXPERT) / WEIGHTS).read_bytes() == b"theta"


def test_the_output_folder_is_empty_whatever_an_earlier_attempt_left(store):
    (store.output(EXPERT) / WEIGHTS).write_bytes(b"half")
    (store.work(EXPERT) / "resume-0.ckpt").write_text("x")
    assert list(store.output(EXPERT).iterdir()) == []
    assert (store.work(EXPERT) / "resume-0.ckpt").exists()


CHANGES = [
    (WEIGHTS, b"thetb", "has another sha256"),
    (WEIGHTS, b"thet", "has 4 bytes, not 5"),
    (CONFIG, b"[]", "has another sha256"),
    (WEIGHTS, None, "is missing"),
    (TEMPLATE, None, "is missing"),
    ("adapter_config.json", b"{}", "is not one of its files"),
    ("templates/other.jinja", b"", "is not one of its files"),
]


@pytest.mark.parametrize(("name", "content", "change"), CHANGES)
def test_weights_in_a_folder_that_changed_are_refused_with_the_way_out(
    name, content, change, store
):
    folder = commit(store)
    assert store.weights(EXPERT) == folder
    if content is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} {change}.*; `dfwe store repair"):
        store.weights(EXPERT)


def test_a_systems_hidden_file_changes_no_weights(store):
    folder = commit(store)
    (folder / ".nfs0001").write_text("x")
    assert store.weights(EXPERT) == folder


def test_the_work_folder_is_gone_after_the_commit(store):
    (store.work(EXPERT) / "resume-0.ckpt").write_text("x")
    commit(store)
    assert list((store.root / ".work").glob("*")) == []


def test_a_recipe_is_claimed_once_at_a_time(store):
    with store.claim(EXPERT):
        assert Store(store.root).claim(EXPERT) is None
    with store.claim(EXPERT):
        commit(store)
    assert list((store.root / ".work").iterdir()) == []


def test_pruning_takes_the_weights_alone_and_leaves_a_mark(store):
    folder = commit(store)
    assert store.prune(store.folder(EXPERT)) == len(b"theta")
    assert store.prune(store.folder(EXPERT)) == 0
    assert EXPERT in store
    assert not store.has_weights(EXPERT)
    assert not (folder / WEIGHTS).exists()
    assert (folder / PRUNED).exists()
    assert store.record(EXPERT, Score) == Score(score=41.5)
    with pytest.raises(UserError, match=r"were pruned; run the command again with stage=all"):
        store.weights(EXPERT)


def test_recomputed_weights_are_to_be_those_that_were_pruned(store):
    folder = commit(store)
    store.prune(store.folder(EXPERT))
    with pytest.raises(UserError, match="are not those that were pruned"):
        commit(store, **{WEIGHTS: b"thetb"})
    assert not store.has_weights(EXPERT)
    commit(store, score=40.0)
    assert store.weights(EXPERT) == folder
    assert store.record(EXPERT, Score) == Score(score=41.5)  # what was stored stays


def test_nothing_is_pruned_where_there_are_no_weights(store):
    folder = store.folder(EXPERT)
    store.output(EXPERT)
    store.commit(EXPERT, Score(score=1.0), WHERE)
    assert store.prune(store.folder(EXPERT)) == 0
    assert not (folder / PRUNED).exists()


def test_what_is_left_of_a_result_gives_way_to_the_new_one(store):
    (commit(store, score=1.0) / RECIPE).unlink()
    assert EXPERT not in store
    commit(store, score=2.0)
    assert store.record(EXPERT, Score) == Score(score=2.0)


def test_a_result_that_another_process_has_just_put_there_stays(store):
    commit(store, score=1.0)
    commit(store, score=2.0)
    assert store.record(EXPERT, Score) == Score(score=1.0)
    assert list((store.root / ".work").iterdir()) == []


def test_a_store_is_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    for root, message in (
        (None, "names no folder"),
        ("", "names no folder"),
        (tmp_path / "file", "is a file"),
    ):
        with pytest.raises(UserError, match=message):
            Store(root)


DAMAGE = [(RECIPE, ""), (RECIPE, "{}"), (RECORD, "{"), (RECORD, "[]"), (RECORD, '{"score": "1"}')]


@pytest.mark.parametrize(("name", "content"), DAMAGE)
def test_a_damaged_description_is_named_with_the_way_out(name, content, store):
    (commit(store) / name).write_text(content)
    with pytest.raises(UserError, match=f"is damaged: {name} .*; `dfwe store repair"):
        store.stored(EXPERT), store.record(EXPERT, Score)


def test_a_result_that_is_missing_is_named(store):
    for read in (store.stored, store.provenance, store.weights):
        with pytest.raises(UserError, match=f"has no {EXPERT.name}; run the command again"):
            read(EXPERT)


@pytest.mark.parametrize("name", [*FILES, RECORD, PROVENANCE, RECIPE])
@pytest.mark.parametrize("damage", ["flipped", "cut", "emptied", "zeros", "deleted"])
def test_no_damaged_file_is_read_and_repair_makes_room_for_a_new_result(name, damage, store):
    """At 60dbe5b ten of 24 such changes were used without a word, five ended in a traceback."""
    path = commit(store) / name
    content = path.read_bytes()
    if damage == "deleted":
        path.unlink()
    else:
        middle = len(content) // 2
        flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
        changed = {"flipped": flipped, "cut": content[:middle], "emptied": b""}
        path.write_bytes(changed.get(damage, bytes(len(content))))
    read = Store(store.root)  # as another process reads it
    if name == RECIPE and damage == "deleted":
        assert EXPERT not in read
    else:
        with pytest.raises(UserError, match=f"is damaged: .*{name}.*; `dfwe store repair"):
            read.file(EXPERT, name) if name != RECIPE else read.stored(EXPERT)
        with pytest.raises(UserError, match="is damaged"):
            read.whole(EXPERT)
        ((folder, words),) = read.damaged()
        assert (folder, name in words) == (read.folder(EXPERT), True)
        moved = read.move_aside(folder)
        assert (moved / name).exists() == path_existed(damage)
    commit(read)
    assert list(Store(store.root).damaged()) == []
    assert read.record(EXPERT, Score) == Score(score=41.5)


def path_existed(damage):
    return damage != "deleted"


def test_a_recipe_of_another_address_is_not_believed(store):
    folder = commit(store)
    text = (folder / RECIPE).read_text()
    (folder / RECIPE).write_text(text.replace('"emory"', '"meld"'))
    with pytest.raises(UserError, match="is not the recipe of this address"):
        Store(store.root).record(EXPERT, Score)


def test_pruned_weights_are_no_damage(store):
    commit(store)
    store.prune(store.folder(EXPERT))
    assert list(store.damaged()) == []
    assert store.whole(EXPERT) == store.folder(EXPERT)


def test_a_file_is_hashed_once_per_process_while_it_stays_as_it_is(store, monkeypatch):
    hashed = []

    def counted(path):
        hashed.append(path.name)
        return file_digest(path)

    monkeypatch.setattr("dfwe.pipeline.manifest.file_digest", counted)
    commit(store)
    hashed.clear()
    read = Store(store.root)
    for _ in range(3):
        read.weights(EXPERT), read.record(EXPERT, Score)
    assert hashed == []  # the commit has read them
    (store.folder(EXPERT) / WEIGHTS).write_bytes(b"thetb")
    with pytest.raises(UserError, match="another sha256"):
        read.weights(EXPERT)
    assert hashed == [WEIGHTS]


def test_where_locks_do_not_work_each_process_has_work_of_its_own(store, monkeypatch, caplog):
    always = lambda lock, **unused: filelock.AcquireReturnProxy(lock)  # noqa: E731
    monkeypatch.setattr(filelock.FileLock, "acquire", always)
    one, other = Store(store.root), Store(store.root)
    assert one.work(EXPERT) != other.work(EXPERT)
    assert one.claim(EXPERT)
    assert other.claim(EXPERT)
    commit(one, score=1.0)
    commit(other, score=2.0)
    assert Store(store.root).record(EXPERT, Score) == Score(score=1.0)
    assert "Locks do not work" in caplog.text
