"""Why a disk refused a file, and which file system it was."""

import errno
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

REASONS = {  # errno -> why a file cannot be written
    errno.EACCES: "no permission",
    errno.EPERM: "no permission",
    errno.ENOENT: "no such file or directory",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than a limit allows (ulimit -f, or the file system's)",
}
PROBE = 1 << 16  # bytes: more than Hydra writes into a run's folder


def refusal(error: BaseException, places: Sequence[Path] = ()) -> str | None:
    """Why a disk refused a file, with the place; None for any other error.

    Args:
        error: an `OSError`, or what safetensors, torch or NumPy make of one.
        places: where the command writes: of these, the fullest is named by an error without place,
            and somebody else's folder in one of them can be opened by its owner.
    """
    number = _errno(error)
    why = None if number is None else REASONS.get(number)
    if why is None:
        return None
    name = getattr(error, "filename", None)
    place = Path(os.fsdecode(name)) if isinstance(name, str | bytes) else _fullest(places)
    if place is None:
        return f"the output folder: {why}"
    if number == errno.ENOSPC:
        mount = _mount(place)
        free = shutil.disk_usage(mount).free / 1e6
        return f"{place}: {why}: the file system of {mount} has {free:.0f} MB left"
    if why == REASONS[errno.EACCES] and (closed := _closed(place)) is not None:
        why = f"{why}: {_holder(closed)}"
        for folder in places:
            if closed.is_relative_to(folder):
                why += f", who can open it to a group with `chmod -R g+rwX {folder}`"
                break
    return f"{place}: {why}"


def check_writable(folder: Path) -> None:
    """Writes a small file into a folder and removes it.

    Raises:
        OSError: the disk refuses it.
    """
    path = folder / f".dfwe-{os.getpid()}"
    try:
        path.write_bytes(bytes(PROBE))
    finally:
        path.unlink(missing_ok=True)


def _closed(place: Path) -> Path | None:
    """The innermost of a path's folders, itself included, that this user may not use."""
    for path in (place, *place.absolute().parents):
        try:
            needed = os.R_OK | os.W_OK | (os.X_OK if path.is_dir() else 0)
            if path.exists() and not os.access(path, needed):
                return path
        except PermissionError:  # a folder further out is closed
            continue
    return None


def _holder(path: Path) -> str:
    try:
        owner = path.owner()
    except KeyError:
        owner = f"user {path.stat().st_uid}"
    return f"{path} has mode {path.stat().st_mode & 0o7777:o} and belongs to {owner}"


def _errno(error: BaseException) -> int | None:
    """The system's error number; safetensors and torch.save have it in words alone."""
    if isinstance(error, OSError):
        return error.errno or 0
    if number := re.search(r"os error (\d+)", str(error)):
        return int(number[1])
    return errno.ENOSPC if "inline_container.cc" in str(error) else None


def _fullest(places: Sequence[Path]) -> Path | None:
    return min(places, key=lambda place: shutil.disk_usage(_mount(place)).free, default=None)


def _mount(place: Path) -> Path:
    """The top folder of the file system that a path is, or would be, on."""
    path = place.absolute()
    while not os.path.ismount(path):
        path = path.parent
    return path
