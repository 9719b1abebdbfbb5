"""The store: a recipe's address names a folder that exists only when it is complete."""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from glob import escape
from pathlib import Path
from typing import Any
from uuid import uuid4

from dfwe.errors import UserError
from dfwe.recipe import Recipe

WEIGHTS = "model.safetensors"
BLOCK = 1 << 22


def aside_of(path: Path) -> Path:
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
    aside = aside_of(path)
    with aside.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_text` does."""
    write_text(path, json.dumps(value, indent=1))


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hex."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            sha.update(block)
    return sha.hexdigest()


class Store:
    """Folders by address under `root`; unfinished work under `root/.work/<address>`."""

    def __init__(self, root: str | Path) -> None:
        if not root:
            raise UserError("store= names no folder; give one, or leave it out.")
        self.root = Path(root).expanduser().absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"store={root} is a file; name a folder.")

    def folder(self, recipe: Recipe) -> Path:
        """Where the recipe's result is, or will be."""
        return self.root / recipe.address

    def __contains__(self, recipe: Recipe) -> bool:
        return (self.folder(recipe) / "recipe.json").is_file()

    def work(self, recipe: Recipe) -> Path:
        """The folder of what is unfinished: checkpoints to resume from, a running ledger."""
        path = self.root / ".work" / recipe.address
        path.mkdir(parents=True, exist_ok=True)
        return path

    def cache(self, name: str) -> Path:
        """A folder of things that can be made again: token tables, flat copies of checkpoints."""
        path = self.root / ".cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def claim(self, recipe: Recipe) -> AbstractContextManager[Any] | None:
        """The right to work on a recipe, given back on exit; None while another process has it.

        The system takes it back from a process that dies.
        """
        from filelock import FileLock, Timeout

        lock = self._lock(recipe)
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(lock).acquire(blocking=False)
        except Timeout:
            return None

    def _lock(self, recipe: Recipe) -> Path:
        return self.root / ".work" / f"{recipe.address}.lock"

    def commit(self, recipe: Recipe, fill: Callable[[Path], None], scores: Any) -> Path:
        """Let `fill` write the result's files aside, then make them the recipe's folder at once.

        The digest of the weights is noted beside them; the recipe's unfinished work is dropped.
        """
        work = self.work(recipe)
        aside = work / "result"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        fill(aside)
        weights = aside / WEIGHTS
        write_json(aside / "scores.json", scores)
        described = recipe.describe()
        if weights.is_file():
            described["weights_sha256"] = file_digest(weights)
        write_json(aside / "recipe.json", described)
        shared = aside.stat().st_mode & 0o666  # safetensors leaves the others no right to read
        for path in aside.rglob("*"):
            if path.is_file():
                path.chmod(shared)
            _sync(path)
        _sync(aside)
        folder = self.folder(recipe)
        if recipe not in self:
            shutil.rmtree(folder, ignore_errors=True)  # of a result that lost its recipe.json
        try:
            os.replace(aside, folder)
        except OSError:
            if recipe not in self:  # there already: a network disk may hide it for a while
                raise
        _sync(self.root)
        shutil.rmtree(work, ignore_errors=True)
        # Whoever waits for this file's lock finds the result once it has it.
        self._lock(recipe).unlink(missing_ok=True)
        return folder

    def scores(self, recipe: Recipe) -> dict[str, Any]:
        """What the stage measured when it made the result."""
        self._check(recipe)
        return _read(self.folder(recipe) / "scores.json")

    def weights(self, recipe: Recipe) -> Path:
        """The folder of a result's weights, checked against the digest noted at its making.

        Raises:
            UserError: the result is missing or its weights were changed or damaged.
        """
        self._check(recipe)
        folder = self.folder(recipe)
        noted = _read(folder / "recipe.json").get("weights_sha256")
        weights = folder / WEIGHTS
        if not weights.is_file() or file_digest(weights) != noted:
            raise UserError(
                f"The weights in {folder} are not the ones that were stored (their sha256 "
                "differs); delete that folder and run the stage again."
            )
        return folder

    def _check(self, recipe: Recipe) -> None:
        if recipe not in self:
            raise UserError(
                f"The store {self.root} has no {recipe.stage} {recipe.address}; give the command "
                "again with stage=all to make it."
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
        if not isinstance(found, dict):
            raise ValueError("it holds no table")
        return found
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path} cannot be read ({error}); delete the folder {path.parent} and run the "
            "stage again."
        ) from None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
