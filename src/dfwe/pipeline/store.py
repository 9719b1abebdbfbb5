"""The store: a recipe's folder exists only when it is complete, and then never changes.

A folder is named `kind-address`. `recipe.json`, written last, has the recipe and the sha256 and
size of every other file: the step's, `record.json` and `provenance.json`. Pruning alone
deletes something, the weights, and leaves a mark; records of a pruned result stay valid.
"""

import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, TypeVar

from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest, write_text
from dfwe.pipeline.provenance import Provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record

FORMAT = 1
WEIGHTS = "model.safetensors"
RECIPE, RECORD, PROVENANCE, PRUNED = "recipe.json", "record.json", "provenance.json", "pruned"
AnyRecord = TypeVar("AnyRecord", bound=Record)


class StoredFile(Record):
    """A file of a finished result."""

    sha256: str
    size: int


class StoredRecipe(Record):
    """`recipe.json`: what decided a result, and its files."""

    format: Literal[1]
    kind: str
    version: int
    address: str
    settings: dict[str, Any]
    parents: list[str]
    files: dict[str, StoredFile]


class Store:
    """Results under `root`; unfinished work under `root/.work/<name>`, caches in `root/.cache`."""

    def __init__(self, root: str | Path) -> None:
        if not root:
            raise UserError("store= names no folder; give one, or leave it out.")
        self.root = Path(root).expanduser().absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"store={root} is a file; name a folder.")

    def folder(self, recipe: Recipe) -> Path:
        """Where the recipe's result is, or will be."""
        return self.root / recipe.name

    def __contains__(self, recipe: Recipe) -> bool:
        return (self.folder(recipe) / RECIPE).is_file()

    def has_weights(self, recipe: Recipe) -> bool:
        """Whether the result is there with its weights: not so once they are pruned."""
        return recipe in self and not (self.folder(recipe) / PRUNED).exists()

    def work(self, recipe: Recipe) -> Path:
        """The folder of what is unfinished: checkpoints to resume from, a running ledger."""
        path = self.root / ".work" / recipe.name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def output(self, recipe: Recipe) -> Path:
        """An empty folder for the files of a result; `commit` makes it the result."""
        path = self.work(recipe) / "result"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def cache(self, name: str) -> Path:
        """A folder of what can be computed again: token tables, flat copies of checkpoints."""
        path = self.root / ".cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def claim(self, recipe: Recipe) -> AbstractContextManager[Any] | None:
        """The right to work on a recipe, returned on exit; None while another process has it.

        The system takes it back from a process that dies.
        """
        from filelock import FileLock, Timeout

        lock = self._lock(recipe)
        lock.parent.mkdir(parents=True, exist_ok=True)
        try:
            return FileLock(lock).acquire(blocking=False)
        except Timeout:
            return None

    def commit(self, recipe: Recipe, record: Record, provenance: Provenance) -> Path:
        """Makes what lies in `output(recipe)` the recipe's folder, at once and for good.

        The recipe's unfinished work is dropped. Weights that were pruned are put back.

        Raises:
            UserError: recomputed weights are not those that were pruned.
        """
        output = self.work(recipe) / "result"
        record.write(output / RECORD)
        provenance.write(output / PROVENANCE)
        shared = output.stat().st_mode & 0o666  # safetensors leaves others no right to read
        paths = sorted(path for path in output.rglob("*") if path.is_file())
        for path in paths:
            path.chmod(shared)
            _sync(path)
        files = {path.relative_to(output).as_posix(): stored_file(path) for path in paths}
        stored = StoredRecipe(format=FORMAT, **recipe.describe(), files=files)
        stored.write(output / RECIPE)
        for path in (output / RECIPE, *(p for p in output.rglob("*") if p.is_dir()), output):
            _sync(path)
        folder = self.folder(recipe)
        if recipe in self and not self.has_weights(recipe):
            self._restore(recipe, output)
        else:
            self._publish(recipe, output, folder)
        shutil.rmtree(self.work(recipe), ignore_errors=True)
        # Whoever waits for this file's lock finds the result once it has it.
        self._lock(recipe).unlink(missing_ok=True)
        return folder

    def stored(self, recipe: Recipe) -> StoredRecipe:
        """The recipe as it was stored, with the digests of the result's files."""
        self._check(recipe)
        return StoredRecipe.read(self.folder(recipe) / RECIPE)

    def record(self, recipe: Recipe, record: type[AnyRecord]) -> AnyRecord:
        """What the step measured."""
        self._check(recipe)
        return record.read(self.folder(recipe) / RECORD)

    def provenance(self, recipe: Recipe) -> Provenance:
        """Where and how fast the result was computed."""
        self._check(recipe)
        return Provenance.read(self.folder(recipe) / PROVENANCE)

    def weights(self, recipe: Recipe) -> Path:
        """The folder of a result's weights, checked against the list of its files.

        Raises:
            UserError: the result is missing, its weights are pruned, or a file is damaged, missing
                or foreign.
        """
        stored, folder = self.stored(recipe), self.folder(recipe)
        if not self.has_weights(recipe):
            raise UserError(
                f"The weights of {folder} were pruned; give the command again with stage=all to "
                "compute them again."
            )
        assert WEIGHTS in stored.files
        if (change := _change(folder, stored.files)) is not None:
            raise UserError(
                f"{folder} is not as it was stored: {change}; delete that folder and run the "
                "stage again."
            )
        return folder

    def prune(self, recipe: Recipe) -> int:
        """Deletes the weights of a result and marks it; returns the bytes that this frees."""
        stored, folder = self.stored(recipe), self.folder(recipe)
        if WEIGHTS not in stored.files or not self.has_weights(recipe):
            return 0
        write_text(folder / PRUNED, "The weights were pruned; running the stage restores them.\n")
        (folder / WEIGHTS).unlink(missing_ok=True)
        return stored.files[WEIGHTS].size

    def _restore(self, recipe: Recipe, output: Path) -> None:
        """Puts recomputed weights back into the folder that they were pruned from."""
        folder, entry = self.folder(recipe), self.stored(recipe).files[WEIGHTS]
        if stored_file(output / WEIGHTS).sha256 != entry.sha256:
            raise UserError(
                f"The recomputed weights of {folder} are not those that were pruned (another "
                "machine or other versions); delete that folder and run the stage again."
            )
        os.replace(output / WEIGHTS, folder / WEIGHTS)
        _sync(folder)
        (folder / PRUNED).unlink()
        _sync(folder)

    def _publish(self, recipe: Recipe, output: Path, folder: Path) -> None:
        if recipe not in self:
            shutil.rmtree(folder, ignore_errors=True)  # of a result that lost its recipe.json
        try:
            os.replace(output, folder)
        except OSError:
            if recipe not in self:  # there already: a network disk may hide it for a while
                raise
        _sync(self.root)

    def _lock(self, recipe: Recipe) -> Path:
        return self.root / ".work" / f"{recipe.name}.lock"

    def _check(self, recipe: Recipe) -> None:
        if recipe not in self:
            raise UserError(
                f"The store {self.root} has no {recipe.name}; give the command again with "
                "stage=all to compute it."
            )


def stored_file(path: Path) -> StoredFile:
    """Digest and size of a file."""
    return StoredFile(sha256=file_digest(path), size=path.stat().st_size)


def _change(folder: Path, files: Mapping[str, StoredFile]) -> str | None:
    """How a folder differs from the list of its files, in words; hidden files are the system's."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in paths if path.name[0] != "."}
    for name in sorted(names - {RECIPE, *files}):
        return f"{name} is not one of its files"
    for name, entry in files.items():
        if name not in names:
            return f"{name} is missing"
        if stored_file(folder / name) != entry:
            return f"{name} is damaged (its sha256 differs)"
    return None


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
