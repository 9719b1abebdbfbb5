"""The store: a recipe's address names a folder that exists only when it is complete."""

import json
import os
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest, write_json
from dfwe.pipeline.recipe import Recipe

WEIGHTS = "model.safetensors"


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
        temporary = work / "result"
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()
        fill(temporary)
        weights = temporary / WEIGHTS
        write_json(temporary / "scores.json", scores)
        described = recipe.describe()
        if weights.is_file():
            described["weights_sha256"] = file_digest(weights)
        write_json(temporary / "recipe.json", described)
        shared = temporary.stat().st_mode & 0o666  # safetensors leaves the others no right to read
        for path in temporary.rglob("*"):
            if path.is_file():
                path.chmod(shared)
            _sync(path)
        _sync(temporary)
        folder = self.folder(recipe)
        if recipe not in self:
            shutil.rmtree(folder, ignore_errors=True)  # of a result that lost its recipe.json
        try:
            os.replace(temporary, folder)
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
