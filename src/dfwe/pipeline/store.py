"""The store: a recipe's folder exists only when it is complete, and then never changes.

A folder is named `kind-address`. `recipe.json`, written last, has the recipe and the sha256 and
size of every other file: the step's, `record.json` and `provenance.json`. A file is checked
against them before it is read: all sizes when a result is first looked at, a file's sha256 when a
process first reads it. Pruning alone deletes something, the weights, and leaves a mark; records of
a pruned result stay valid.
"""

import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar
from uuid import uuid4

from dfwe.errors import UserError
from dfwe.pipeline.files import discard, locks_work, sync, write_text
from dfwe.pipeline.manifest import FileEntry, entry_of, fault, first_fault
from dfwe.pipeline.provenance import Provenance
from dfwe.pipeline.recipe import Recipe, address_of
from dfwe.pipeline.record import Json, Record

log = logging.getLogger(__name__)
FORMAT = 1
DAMAGED = ".damaged"
WEIGHTS = "model.safetensors"
RECIPE, RECORD, PROVENANCE, PRUNED = "recipe.json", "record.json", "provenance.json", "pruned"
AnyRecord = TypeVar("AnyRecord", bound=Record)


class StoredRecipe(Record):
    """`recipe.json`: what decided a result, and its files."""

    format: Literal[1]
    kind: str
    version: int
    address: str
    settings: Json
    parents: list[str]
    files: dict[str, FileEntry]


class Store:
    """Results under `root`; unfinished work under `root/.work/<name>`, caches in `root/.cache`."""

    def __init__(self, root: str | Path) -> None:
        if not root:
            raise UserError("store= names no folder; give one, or leave it out.")
        self.root = Path(root).expanduser().absolute()
        if self.root.exists() and not self.root.is_dir():
            raise UserError(f"store={root} is a file; name a folder.")
        self._stored: dict[str, tuple[int, StoredRecipe]] = {}  # name -> time of change, content

    def folder(self, recipe: Recipe) -> Path:
        """Where the recipe's result is, or will be."""
        return self.root / recipe.name

    def __contains__(self, recipe: Recipe) -> bool:
        return _is_result(self.folder(recipe))

    def has_weights(self, recipe: Recipe) -> bool:
        """Whether the result is there with its weights: not so once they are pruned."""
        return recipe in self and not (self.folder(recipe) / PRUNED).exists()

    def work(self, recipe: Recipe) -> Path:
        """The folder of what is unfinished: checkpoints to resume from, a running ledger.

        Where locks do not work, each process has a folder of its own.
        """
        path = self.root / ".work" / f"{recipe.name}{self._private}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def output(self, recipe: Recipe) -> Path:
        """An empty folder for the files of a result; `commit` makes it the result.

        `recipe.json` beside it says what is under way and which results that starts from.
        """
        work = self.work(recipe)
        _content(recipe, {}).write(work / RECIPE)
        path = work / "result"
        discard(path, into=work)
        path.mkdir()
        return path

    @cached_property
    def _private(self) -> str:
        """What keeps the work of processes apart where locks do not."""
        place = self.root / ".work"
        place.mkdir(parents=True, exist_ok=True)
        if locks_work(place):
            return ""
        log.warning(
            "Locks do not work in %s: processes side by side may compute the same result twice.",
            self.root,
        )
        return f".{uuid4().hex[:16]}"

    def cache(self, name: str) -> Path:
        """A folder of what can be computed again: token tables, flat copies of checkpoints."""
        path = self.root / ".cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    def claim(self, recipe: Recipe) -> AbstractContextManager[object] | None:
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
            sync(path)
        files = {path.relative_to(output).as_posix(): entry_of(path) for path in paths}
        _content(recipe, files).write(output / RECIPE)
        for path in (output / RECIPE, *(p for p in output.rglob("*") if p.is_dir()), output):
            sync(path)
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
        if recipe not in self:
            raise UserError(
                f"The store {self.root} has no {recipe.name}; run the command again with "
                "stage=all to compute it."
            )
        folder = self.folder(recipe)
        changed = (folder / RECIPE).stat().st_mtime_ns
        known = self._stored.get(recipe.name)
        if known is None or known[0] != changed:
            stored, words = _described(folder)
            if stored is None or words is not None:
                raise self._damaged(folder, words or "")
            known = self._stored[recipe.name] = (changed, stored)
        return known[1]

    def file(self, recipe: Recipe, name: str) -> Path:
        """A file of a result, checked against its digest.

        Raises:
            UserError: the result is missing, or the file is not as it was stored.
        """
        stored, folder = self.stored(recipe), self.folder(recipe)
        if name not in stored.files:
            raise self._damaged(folder, f"it has no {name}")
        if (words := fault(folder, name, stored.files[name])) is not None:
            raise self._damaged(folder, words)
        return folder / name

    def files(self, recipe: Recipe, pattern: str) -> list[Path]:
        """The files of a result whose names match, checked and sorted."""
        names = sorted(self.stored(recipe).files)
        return [self.file(recipe, name) for name in names if Path(name).match(pattern)]

    def record(self, recipe: Recipe, record: type[AnyRecord]) -> AnyRecord:
        """What the step measured."""
        return record.read(self.file(recipe, RECORD))

    def provenance(self, recipe: Recipe) -> Provenance:
        """Where and how fast the result was computed."""
        return Provenance.read(self.file(recipe, PROVENANCE))

    def weights(self, recipe: Recipe) -> Path:
        """The folder of a result's weights, every file checked.

        Raises:
            UserError: the result is missing, its weights are pruned, or a file is damaged, missing
                or foreign.
        """
        folder = self.whole(recipe)
        if not self.has_weights(recipe):
            raise UserError(
                f"The weights of {folder} were pruned; run the command again with stage=all to "
                "compute them again."
            )
        return folder

    def whole(self, recipe: Recipe) -> Path:
        """The folder of a result, with or without its weights, every file checked.

        Raises:
            UserError: the result is missing, or a file is damaged, missing or foreign.
        """
        stored, folder = self.stored(recipe), self.folder(recipe)
        if (words := _change(folder, stored)) is not None:
            raise self._damaged(folder, words)
        return folder

    def damaged(self) -> Iterator[tuple[Path, str]]:
        """Every result that is not as it was stored, and why, in words."""
        for folder in self.folders():
            stored, words = _described(folder)
            if stored is not None and words is None:
                words = _change(folder, stored)
            if words is not None:
                yield folder, words

    def folders(self) -> list[Path]:
        """The folders of all results, sorted by name."""
        if not self.root.exists():
            return []
        names = sorted(path for path in self.root.iterdir() if path.name[0] != ".")
        return [path for path in names if _is_result(path)]

    def move_aside(self, folder: Path) -> Path:
        """Takes a damaged result out of the store; where it is now."""
        target = self.root / DAMAGED / f"{folder.name}.{uuid4().hex[:8]}"
        target.parent.mkdir(exist_ok=True)
        os.replace(folder, target)
        sync(self.root)
        return target

    def prune(self, folder: Path) -> int:
        """Deletes the weights of a result and marks it; returns the bytes that this frees.

        Raises:
            UserError: the folder's recipe cannot be read or has changed.
        """
        stored, words = _described(folder)
        if stored is None or words is not None:
            raise self._damaged(folder, words or "")
        if WEIGHTS not in stored.files or (folder / PRUNED).exists():
            return 0
        write_text(folder / PRUNED, "The weights were pruned; running the stage restores them.\n")
        (folder / WEIGHTS).unlink(missing_ok=True)
        return stored.files[WEIGHTS].size

    def _restore(self, recipe: Recipe, output: Path) -> None:
        """Puts recomputed weights back into the folder that they were pruned from."""
        folder, entry = self.folder(recipe), self.stored(recipe).files[WEIGHTS]
        if entry_of(output / WEIGHTS).sha256 != entry.sha256:
            raise UserError(
                f"The recomputed weights of {folder} are not those that were pruned (another "
                "machine or other versions); delete that folder and run the command again."
            )
        os.replace(output / WEIGHTS, folder / WEIGHTS)
        sync(folder)
        (folder / PRUNED).unlink()
        sync(folder)

    def _publish(self, recipe: Recipe, output: Path, folder: Path) -> None:
        if recipe not in self:
            discard(folder, into=self.work(recipe))  # what is left of one without recipe.json
        try:
            os.replace(output, folder)
        except OSError:
            if recipe not in self:  # there already: a network disk may hide it for a while
                raise
        sync(self.root)

    def _lock(self, recipe: Recipe) -> Path:
        return self.root / ".work" / f"{recipe.name}.lock"

    def _damaged(self, folder: Path, words: str) -> UserError:
        return UserError(
            f"{folder} is damaged: {words}; `dfwe store repair --store {self.root}` moves it "
            "aside, and the same command then computes it again."
        )


def _content(recipe: Recipe, files: dict[str, FileEntry]) -> StoredRecipe:
    return StoredRecipe(format=FORMAT, **recipe.describe(), files=files)


def _is_result(folder: Path) -> bool:
    """Whether a result is there.

    Raises:
        PermissionError: the folder is somebody's who lets this user not look.
    """
    try:
        (folder / RECIPE).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _described(folder: Path) -> tuple[StoredRecipe | None, str | None]:
    """A result's recipe.json; what is wrong with it or with the sizes of its files, in words."""
    try:
        stored = StoredRecipe.read(folder / RECIPE)
    except UserError:
        return None, f"{RECIPE} cannot be read"
    parents = [parent.rpartition("-")[2] for parent in stored.parents]
    address = address_of(stored.kind, stored.version, stored.settings, parents)
    if folder.name != f"{stored.kind}-{address}" or stored.address != address:
        return stored, f"{RECIPE} is not the recipe of this address"
    return stored, first_fault(folder, _present(folder, stored), content=False)


def _present(folder: Path, stored: StoredRecipe) -> dict[str, FileEntry]:
    """The files that should be there: all, or all but pruned weights."""
    pruned = (folder / PRUNED).exists()
    return {name: entry for name, entry in stored.files.items() if not pruned or name != WEIGHTS}


def _change(folder: Path, stored: StoredRecipe) -> str | None:
    """How a folder differs from the list of its files, in words; hidden files are the system's."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix() for path in paths if path.name[0] != "."}
    for name in sorted(names - {RECIPE, PRUNED, *stored.files}):
        return f"{name} is not one of its files"
    return first_fault(folder, _present(folder, stored))
