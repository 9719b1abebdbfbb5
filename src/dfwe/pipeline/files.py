"""Files written aside, synced and renamed; digests."""

import hashlib
import json
import os
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from uuid import uuid4

from pydantic import JsonValue, TypeAdapter, ValidationError

BLOCK = 1 << 22
PART, LOCK = ".part", ".lock"
_OBJECT = TypeAdapter(dict[str, JsonValue])


@contextmanager
def written_aside(path: Path) -> Generator[Path]:
    """Where to write the file or folder that becomes `path` when the block ends without error.

    The temporary name is random and locked while the block runs, so that what a killed process
    left is told from what another one is writing; what was left beside `path` is removed. A
    folder replaces no other one.

    Raises:
        OSError: `path` is a folder that is not empty, or cannot be written.
    """
    from filelock import FileLock

    _remove_left(path)
    temporary = path.with_name(f".{path.name}.{uuid4().hex[:16]}{PART}")
    lock = temporary.with_name(temporary.name + LOCK)
    with FileLock(lock):
        try:
            yield temporary
            if temporary.is_file():
                sync(temporary)
            os.replace(temporary, path)
        finally:
            _remove(temporary)
            lock.unlink(missing_ok=True)


def locks_work(folder: Path) -> bool:
    """Whether a lock in `folder` keeps others out: not so on some network file systems."""
    from filelock import FileLock, Timeout

    path = folder / f".{uuid4().hex[:16]}{LOCK}"
    try:
        with FileLock(path):
            try:
                FileLock(path).acquire(blocking=False).__exit__(None, None, None)
            except Timeout:
                return True
            return False
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def in_umask_mode(path: Path) -> Generator[None]:
    """Leaves a file in the mode that the umask gives, whoever writes it in the block.

    Some libraries write a temporary file, which nobody else may read, and rename it: safetensors.
    """
    path.touch()
    mode = path.stat().st_mode & 0o777
    yield
    path.chmod(mode)


def copy_folder(source: Path, target: Path) -> None:
    """Copies a folder's files; their modes are those that the umask gives, not the source's."""
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def discard(folder: Path, into: Path) -> None:
    """Removes a folder, at once for whoever looks; that it is not there is no error.

    Args:
        folder: to remove.
        into: an existing folder on the same disk, where a process killed in between leaves it.

    Raises:
        OSError: it may not be removed.
    """
    left = into / f".{folder.name}.{uuid4().hex[:16]}{PART}"
    try:
        os.replace(folder, left)
    except FileNotFoundError:
        return
    _remove(left)


def sync(path: Path) -> None:
    """Returns when a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _remove_left(path: Path) -> None:
    """Removes what killed processes left beside `path`, where locks tell them from living ones."""
    from filelock import FileLock, Timeout

    beside = path.parent.glob(f".{escape(path.name)}.*{PART}*")  # files and their locks
    left = {str(part).removesuffix(LOCK) for part in beside}
    if not left or not locks_work(path.parent):
        return
    for name in left:
        lock = Path(name + LOCK)
        try:
            with FileLock(lock).acquire(blocking=False):
                _remove(Path(name))
                lock.unlink(missing_ok=True)
        except (Timeout, PermissionError):  # somebody writes it, or it is another user's
            continue


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)  # another process may be at it too
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write text aside, sync it and rename it into place."""
    with written_aside(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1))


def read_json(path: Path) -> dict[str, JsonValue]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not contain a JSON object.
    """
    try:
        return _OBJECT.validate_python(json.loads(path.read_bytes()))
    except ValidationError:
        raise ValueError("it is not a JSON object") from None


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()
