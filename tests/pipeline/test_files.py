"""Files that appear whole or not at all, whoever else writes or was killed."""

import json
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import filelock
import pytest

from dfwe.pipeline.files import locks_work, write_json, written_aside


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_half(path):
    """Dies while it writes a folder that becomes `path`."""
    with written_aside(path) as temporary:
        temporary.mkdir()
        (temporary / "weights").write_text("half")
        os._exit(1)


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    value = {"text": "x" * 100_000}
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: write_json(tmp_path / "results.json", value), range(200)))
    assert names(tmp_path) == ["results.json"]
    assert json.loads((tmp_path / "results.json").read_text()) == value


def test_what_a_killed_writer_left_is_removed_and_a_living_one_keeps_its_file(tmp_path):
    target = tmp_path / "model"
    with ProcessPoolExecutor(1) as pool, pytest.raises(Exception, match="terminated abruptly"):
        pool.submit(write_half, target).result()
    (left,) = [path for path in tmp_path.iterdir() if path.is_dir()]
    with written_aside(target) as living:
        assert not left.exists()
        living.mkdir()
        with written_aside(tmp_path / "model") as other:
            assert living.exists()
            other.mkdir()
    assert names(tmp_path) == ["model"]


def test_where_locks_do_not_work_nothing_of_others_is_removed(tmp_path, monkeypatch):
    assert locks_work(tmp_path)
    left = tmp_path / f".model.{16 * '0'}.part"
    left.mkdir()
    always = lambda lock, **unused: filelock.AcquireReturnProxy(lock)  # noqa: E731
    monkeypatch.setattr(filelock.FileLock, "acquire", always)
    assert not locks_work(tmp_path)
    with written_aside(tmp_path / "model") as temporary:
        temporary.mkdir()
    assert names(tmp_path) == [left.name, "model"]


def test_what_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "results.json"
    path.write_text("before")
    with pytest.raises(TypeError), written_aside(path) as temporary:
        temporary.write_text(None)
    assert path.read_text() == "before"
    assert names(tmp_path) == ["results.json"]
