"""Why a disk refuses a file, and which one."""

import errno
import os
from collections import namedtuple

import pytest

from dfwe.pipeline import disk
from dfwe.pipeline.disk import check_writable, refusal

Usage = namedtuple("Usage", "total used free")


def test_the_fullest_of_the_places_is_named_where_the_error_names_none(tmp_path, monkeypatch):
    free = {tmp_path / "store": 10e6, tmp_path / "run": 0.0}
    monkeypatch.setattr(disk, "_mount", lambda place: place)
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda place: Usage(1, 1, free[place]))
    words = refusal(OSError(errno.ENOSPC, "No space left on device"), list(free))
    run = tmp_path / "run"
    assert words == f"{run}: the disk is full: the file system of {run} has 0 MB left"


def test_other_errors_are_no_refusals(tmp_path):
    assert refusal(OSError(errno.EIO, "?"), [tmp_path]) is None
    assert refusal(ValueError("disk"), [tmp_path]) is None


def test_a_folder_is_probed_without_a_trace(tmp_path, monkeypatch):
    check_writable(tmp_path)
    assert os.listdir(tmp_path) == []

    def full(*unused):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(disk.Path, "write_bytes", full)
    with pytest.raises(OSError, match="space"):
        check_writable(tmp_path)
    assert os.listdir(tmp_path) == []
