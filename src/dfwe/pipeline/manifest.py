"""Lists of files with their digests: what is read from disk is checked before it is believed."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from dfwe.errors import UserError
from dfwe.pipeline.files import discard, file_digest, written_aside
from dfwe.pipeline.record import Record

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"
_digests: dict[tuple[int, ...], str] = {}  # of the files that this process has read


class FileEntry(Record):
    """A file's digest and size in bytes."""

    sha256: str
    size: int


class Manifest(Record):
    """Files of a folder: name -> entry."""

    files: dict[str, FileEntry]


def content_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex; read once per process while the file stays as it is."""
    stat = path.stat()
    signature = (stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns)
    if signature not in _digests:
        _digests[signature] = file_digest(path)
    return _digests[signature]


def entry_of(path: Path) -> FileEntry:
    """Digest and size of a file."""
    return FileEntry(sha256=content_digest(path), size=path.stat().st_size)


def fault(folder: Path, name: str, entry: FileEntry, *, content: bool = True) -> str | None:
    """How a file differs from its entry, in words; None where it does not.

    Args:
        folder: where the file is.
        name: its path in `folder`.
        entry: what it was.
        content: whether its bytes are read, or its size alone is looked at.
    """
    path = folder / name
    try:
        size = path.stat().st_size
    except (FileNotFoundError, NotADirectoryError):
        return f"{name} is missing"
    if size != entry.size:
        return f"{name} has {size} bytes, not {entry.size}"
    if content and content_digest(path) != entry.sha256:
        return f"{name} has another sha256 than when it was stored"
    return None


def first_fault(
    folder: Path, files: Mapping[str, FileEntry], *, content: bool = True
) -> str | None:
    """How the first of the files differs from its entry, in words; None where none does."""
    faults = (fault(folder, name, entry, content=content) for name, entry in files.items())
    return next((words for words in faults if words is not None), None)


def cached_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """A folder of files that can be computed again: written where it is missing or damaged.

    Args:
        folder: its name is a digest of what it is computed from.
        write: writes the files, without subfolders, into the folder that it is given.
    """
    if (words := _fault_of(folder)) is None:
        return folder
    if folder.exists():
        log.warning("%s is damaged (%s): it is computed again.", folder, words)
        discard(folder, into=folder.parent)
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with written_aside(folder) as temporary:
            temporary.mkdir()
            write(temporary)
            files = {path.name: entry_of(path) for path in sorted(temporary.iterdir())}
            Manifest(files=files).write(temporary / MANIFEST)
    except OSError:
        if _fault_of(folder) is not None:  # else another process has just put the same there
            raise
    return folder


def _fault_of(folder: Path) -> str | None:
    """Why a cached folder cannot be used, in words."""
    try:
        return first_fault(folder, Manifest.read(folder / MANIFEST).files)
    except UserError:
        return f"{MANIFEST} is missing or damaged"
