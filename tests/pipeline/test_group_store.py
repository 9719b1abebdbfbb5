"""A store of a group: its users go on where others stopped; what is closed is said."""

import json
import os
import sys
import tempfile
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import dfwe
import users
from dfwe.pipeline.disk import refusal
from dfwe.pipeline.files import copy_folder, in_umask_mode, write_json, written_aside
from dfwe.pipeline.manifest import MANIFEST, cached_folder
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record
from dfwe.pipeline.store import RECORD, WEIGHTS, Store
from dfwe.store_command import store_command
from users import ALICE, BOB, GROUP, acting, living

EXPERT, OTHER = (Recipe("train", 1, {"task": task}) for task in ("emory", "meld"))
HINDRANCE = users.hindrance(Path(dfwe.__file__))
two_users = pytest.mark.skipif(HINDRANCE is not None, reason=str(HINDRANCE))


class Score(Record):
    score: float


def commit(store, recipe=EXPERT):
    """Stores a result with weights as safetensors writes them, for the owner alone."""
    output = store.output(recipe)
    save_file({"theta": torch.zeros(3)}, output / WEIGHTS)
    (output / "templates").mkdir()
    write_json(output / "templates" / "chat.json", {})
    store.commit(recipe, Score(score=41.5), provenance("emory", 1.0, "cpu"))


def modes(folder):
    """The modes of a folder's folders, and of its files."""
    found = {True: set(), False: set()}
    for path in (folder, *folder.rglob("*")):
        found[path.is_dir()].add(path.stat().st_mode & 0o777)
    return found[True], found[False]


@pytest.fixture
def store():
    """An empty store that two users share, beside what pytest keeps to itself."""
    commit(Store(tempfile.mkdtemp()))  # all is imported that others may not read
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
        Path(folder).chmod(0o755)
        yield Store(users.shared(Path(folder) / "store"))


@pytest.mark.parametrize("umask", [0o077, 0o027, 0o002])
def test_every_file_has_the_mode_that_the_umask_gives(umask, tmp_path):
    """Commit fc7331c: the best epoch's weights and a copy of another's file had modes of their
    own."""
    tensors = {"theta": torch.zeros(3)}
    before = os.umask(umask)
    try:
        store = Store(tmp_path / "store")
        commit(store)
        with store.claim(OTHER):
            work = store.work(OTHER)
            with written_aside(work / "best.safetensors") as path, in_umask_mode(path):
                save_file(tensors, path)
            write_json(work / "resume.json", {})
            cached_folder(store.cache("flat") / "a", lambda folder: write_json(folder / "b", {}))
            store.folder(EXPERT).chmod(0o755)
            copy_folder(store.folder(EXPERT), tmp_path / "store" / "copy")
            store.folder(EXPERT).chmod(0o777 & ~umask)
            assert modes(store.root) == ({0o777 & ~umask}, {0o666 & ~umask})
    finally:
        os.umask(before)


@two_users
def test_another_user_goes_on_where_one_was_killed(store, capfd):
    def dies():
        store.claim(EXPERT).__enter__()
        (store.output(EXPERT) / WEIGHTS).write_bytes(b"half")
        with (store.work(EXPERT) / "trials.jsonl").open("a") as ledger:
            ledger.write("1\n")
        os.kill(os.getpid(), 9)

    def goes_on():
        with store.claim(EXPERT):
            ledger = store.work(EXPERT) / "trials.jsonl"
            with ledger.open("a") as file:
                file.write("2\n")
            assert ledger.read_text() == "1\n2\n"
            commit(store)

    assert acting(ALICE, dies) == -9
    assert acting(BOB, goes_on) == 0
    assert acting(ALICE, lambda: store.record(EXPERT, Score).score != 41.5) == 0
    assert list((store.root / ".work").iterdir()) == []
    assert {path.stat().st_gid for path in store.root.rglob("*")} == {GROUP}
    assert capfd.readouterr().err == ""


@two_users
def test_what_one_user_computes_is_no_other_users(store):
    taken = lambda: store.claim(EXPERT) is None  # noqa: E731
    with living(ALICE, partial(store.claim, EXPERT)):
        assert acting(BOB, taken) == 1
    assert acting(BOB, taken) == 0


@two_users
def test_another_user_verifies_prunes_and_repairs(store, capfd):
    def repairs():
        assert store_command(["verify", "--store", str(store.root)]) == 1
        assert store.prune(store.folder(OTHER)) > 0
        assert store_command(["repair", "--store", str(store.root)]) == 0
        commit(store)
        return store_command(["verify", "--store", str(store.root)])

    assert acting(ALICE, lambda: (commit(store), commit(store, OTHER))) == 0
    (store.folder(EXPERT) / RECORD).write_text("{}")
    assert acting(BOB, repairs) == 0
    assert capfd.readouterr().out.endswith("2 of 2 results are whole.\n")


@two_users
@pytest.mark.parametrize("whole", [False, True])
def test_a_closed_folder_is_named_with_the_way_out(whole, store, capfd):
    """Commit fc7331c: a traceback; with the store open and a result closed, "0 of 0 are whole"."""
    if whole:  # the store itself is another user's
        store.root.chmod(0o700)
    assert acting(ALICE, lambda: commit(store), umask=0o077) == 0
    closed = store.root if whole else store.folder(EXPERT)

    def looks():
        try:
            return 1 + (EXPERT in store)
        except PermissionError as error:
            sys.stdout.write(f"{refusal(error, [store.root])}\n")
            sys.stdout.flush()

    assert acting(BOB, looks) == 0
    assert acting(BOB, lambda: store_command(["verify", "--store", str(store.root)])) == 1
    assert acting(BOB, lambda: store_command(["repair", "--store", str(store.root)])) == 1
    told = capfd.readouterr()
    mode = f"{closed.stat().st_mode & 0o7777:o}"
    way = f"{closed} has mode {mode} and belongs to user {ALICE}, who can open it to a group with "
    assert told.out.count("\n") == 1
    assert told.err.count("\n") == told.err.count("Error: ") == 2
    for line in (told.out + told.err).splitlines():
        assert f"no permission: {way}`chmod -R g+rwX {store.root}`" in line
    assert (store.folder(EXPERT) / WEIGHTS).exists()


@two_users
def test_a_damaged_cache_of_another_user_is_never_used(store, capfd):
    """Commit fc7331c: where it could not be removed, it was."""
    folder = store.root / ".cache" / "flat"

    def write(into):
        write_json(into / "theta", {"theta": 1})

    assert acting(ALICE, lambda: cached_folder(folder, write), umask=0o022) == 0
    assert acting(BOB, lambda: not cached_folder(folder, write).exists()) == 0
    (folder / "theta").write_text("{}")
    assert acting(BOB, lambda: cached_folder(folder, write)) == 99
    assert "PermissionError" in capfd.readouterr().err
    folder.parent.chmod(0o775)
    folder.chmod(0o775)
    assert acting(BOB, lambda: cached_folder(folder, write)) == 0
    assert json.loads((folder / "theta").read_text()) == {"theta": 1}
    assert (folder / MANIFEST).stat().st_uid == BOB
