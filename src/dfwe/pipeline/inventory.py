"""What a store holds, for people: each result, what it was computed from, who uses its weights."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from dfwe.errors import UserError
from dfwe.pipeline.provenance import Provenance
from dfwe.pipeline.record import Cost, SplitScores
from dfwe.pipeline.store import PROVENANCE, PRUNED, RECIPE, RECORD, WEIGHTS, Store, StoredRecipe

SHORT = 8  # digits of an address that a person reads and types


@dataclass(frozen=True)
class Result:
    """One result of a store.

    Args:
        folder: where it is.
        recipe: what decided it.
        provenance: where, when and as what it was computed.
        dev: its dev score in points; None where it has none.
        cost: of a training or a search.
        changed: when it was committed, in seconds since 1970.
        pruned: whether its weights were deleted.
    """

    folder: Path
    recipe: StoredRecipe
    provenance: Provenance
    dev: float | None
    cost: Cost | None
    changed: float
    pruned: bool

    @property
    def name(self) -> str:
        """Kind and address: the folder's name."""
        return self.folder.name

    @property
    def short(self) -> str:
        """The kind and the first digits of the address."""
        return f"{self.recipe.kind}-{self.recipe.address[:SHORT]}"

    @property
    def weights(self) -> int:
        """Bytes of the weights that are there."""
        entry = self.recipe.files.get(WEIGHTS)
        return 0 if entry is None or self.pruned else entry.size

    @property
    def size(self) -> int:
        """Bytes of all its files that are there."""
        others = (entry.size for name, entry in self.recipe.files.items() if name != WEIGHTS)
        return sum(others) + self.weights


@dataclass(frozen=True)
class Inventory:
    """A store's results, the oldest first, and what is unfinished in it.

    Args:
        results: name -> result, those that can be read.
        unfinished: name of each result under way -> the names of its parents.
        unreadable: names of the results that cannot be read.
    """

    results: Mapping[str, Result]
    unfinished: Mapping[str, Sequence[str]]
    unreadable: Sequence[str]

    @cached_property
    def uses(self) -> Mapping[str, Sequence[str]]:
        """Result -> the stored results that were computed from it."""
        children: dict[str, list[str]] = {name: [] for name in self.results}
        for result in self.results.values():
            for parent in result.recipe.parents:
                if parent in children:
                    children[parent].append(result.name)
        return children

    @cached_property
    def waiting(self) -> Mapping[str, Sequence[str]]:
        """Result -> what is unfinished and starts from it."""
        return {
            name: [child for child, parents in self.unfinished.items() if name in parents]
            for name in self.results
        }

    def find(self, word: str) -> Result:
        """The result whose name, or whose address, begins with a word.

        Raises:
            UserError: none, or several, do.
        """
        found = [
            result
            for name, result in self.results.items()
            if word and (name.startswith(word) or result.recipe.address.startswith(word))
        ]
        if not found:
            raise UserError(
                f"No result's name or address begins with {word!r}; `dfwe store list` names them."
            )
        if len(found) > 1:
            several = ", ".join(result.name for result in found[:3])
            raise UserError(
                f"{len(found)} results begin with {word!r}: {several}, ...; type more of it."
            )
        return found[0]

    def prunable(self) -> list[Result]:
        """The results whose weights nothing needs.

        Weights are needed if no other model was computed from them, so that the last models of
        every study stay, or if something unfinished starts from them.
        """
        return [
            result
            for name, result in self.results.items()
            if result.weights
            and not self.waiting[name]
            and any(WEIGHTS in self.results[child].recipe.files for child in self.uses[name])
        ]


class _Common(BaseModel):
    """What the records of models and searches have in common."""

    model_config = ConfigDict(extra="ignore", strict=True)
    dev: SplitScores | None = None
    cost: Cost | None = None


def inventory(store: Store) -> Inventory:
    """Reads every result's recipe, record and provenance; weights are not read."""
    results: list[Result] = []
    unreadable: list[str] = []
    for folder in store.folders():
        try:
            results.append(_result(folder))
        except UserError:
            unreadable.append(folder.name)
    results.sort(key=lambda result: (result.changed, result.name))
    return Inventory({result.name: result for result in results}, _unfinished(store), unreadable)


def _result(folder: Path) -> Result:
    record = _common(folder / RECORD)
    return Result(
        folder,
        StoredRecipe.read(folder / RECIPE),
        Provenance.read(folder / PROVENANCE),
        None if record.dev is None else record.dev.score,
        record.cost,
        (folder / RECIPE).stat().st_mtime,
        (folder / PRUNED).exists(),
    )


def _common(path: Path) -> _Common:
    try:
        return _Common.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return _Common()


def _unfinished(store: Store) -> dict[str, Sequence[str]]:
    parents: dict[str, Sequence[str]] = {}
    for path in sorted(store.root.glob(f".work/*/{RECIPE}")):
        try:
            recipe = StoredRecipe.read(path)
        except UserError:  # its process has just finished it
            continue
        parents[f"{recipe.kind}-{recipe.address}"] = recipe.parents
    return parents
