"""Files written aside, synced and renamed; digests."""

import hashlib
import json
import os
import platform
import shutil
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from pydantic import JsonValue, TypeAdapter, ValidationError

BLOCK = 1 << 22
_OBJECT = TypeAdapter(dict[str, JsonValue])


def temporary_sibling(path: Path) -> Path:
    """Where to write what is then renamed to `path`; no other process writes there.

    What killed processes of this machine had left there is removed.
    """
    ours = f".{path.name}.{platform.node()}-"
    for left in path.parent.glob(f"{escape(ours)}*.part"):
        process = left.name.removeprefix(ours).partition("-")[0]
        if process.isdecimal() and not _alive(int(process)):
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)  # another process may be at it too
            else:
                left.unlink(missing_ok=True)
    return path.with_name(f"{ours}{os.getpid()}-{uuid4().hex[:8]}.part")


def _alive(process: int) -> bool:
    if os.name != "posix":  # elsewhere signal 0 is no question
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's
        pass
    return True


def write_text(path: Path, text: str) -> None:
    """Write text aside, sync it and rename it into place."""
    temporary = temporary_sibling(path)
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1))


def read_json(path: Path) -> dict[str, JsonValue]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it does not contain a JSON object.
    """
    try:
        return _OBJECT.validate_python(json.loads(path.read_text()))
    except ValidationError:
        raise ValueError("it is not a JSON object") from None


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()
