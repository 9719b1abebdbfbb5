"""In which settings a result differs from the nearest one that a store has, parents included."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from textwrap import shorten

from dfwe.pipeline.inventory import Result
from dfwe.pipeline.recipe import Recipe
from dfwe.plain import is_mapping

DIGEST = re.compile(r"[0-9a-f]{64}")
LONGEST = 40  # characters of a value
Values = Mapping[str, frozenset[str]]  # dotted key -> its values in a result and its ancestors


@dataclass(frozen=True)
class Difference:
    """A setting that two results do not share.

    Args:
        key: dotted.
        wanted: its value in the one, as JSON; several, where steps differ; empty for none.
        stored: its value in the other.
    """

    key: str
    wanted: str
    stored: str

    @property
    def is_inner(self) -> bool:
        """Whether nobody sets it: a content's digest, a version."""
        return bool(DIGEST.search(self.wanted + self.stored)) or self.key.endswith("version")

    def __str__(self) -> str:
        if DIGEST.search(self.wanted + self.stored):
            return f"{self.key} (other content)"
        wanted, stored = (_short(text) for text in (self.wanted, self.stored))
        return f"{self.key}={wanted} ({stored} there)"


def values_of(recipe: Recipe) -> Values:
    """Every setting of a recipe and of what it starts from."""
    found: dict[str, set[str]] = {}
    for one in _ancestors(recipe):
        _add(found, one.kind, one.version, one.describe()["settings"])
    return {key: frozenset(values) for key, values in found.items()}


def stored_values(result: Result, results: Mapping[str, Result]) -> Values:
    """Every setting of a stored result and of those of its ancestors that are stored.

    Args:
        result: the result.
        results: name -> result, of its store.
    """
    found: dict[str, set[str]] = {}
    pending, seen = [result.name], set[str]()
    while pending:
        name = pending.pop()
        if name in results and name not in seen:
            seen.add(name)
            one = results[name].recipe
            _add(found, one.kind, one.version, one.settings)
            pending += one.parents
    return {key: frozenset(values) for key, values in found.items()}


def differences(wanted: Values, stored: Values) -> tuple[Difference, ...]:
    """The settings that two results do not share, those that a person sets first."""
    found = (
        Difference(key, _text(wanted.get(key)), _text(stored.get(key)))
        for key in sorted({*wanted, *stored})
        if wanted.get(key) != stored.get(key)
    )
    return tuple(sorted(found, key=lambda one: one.is_inner))


def nearest(recipe: Recipe, results: Mapping[str, Result]) -> tuple[Difference, ...] | None:
    """The differences from the stored result of the same kind that has the fewest of them.

    None where the store has none of this kind.
    """
    wanted = values_of(recipe)
    known = (
        differences(wanted, stored_values(result, results))
        for result in results.values()
        if result.recipe.kind == recipe.kind and result.recipe.address != recipe.address
    )
    return min(known, key=len, default=None)


def _text(values: frozenset[str] | None) -> str:
    """Values as a person writes them."""
    texts = sorted(value.strip('"') for value in values or ())
    return " and ".join(texts)


def _short(text: str) -> str:
    return shorten(text, LONGEST, placeholder=" ...") or "none"


def _ancestors(recipe: Recipe) -> Iterator[Recipe]:
    pending, seen = [recipe], set[str]()
    while pending:
        one = pending.pop()
        if one.name not in seen:
            seen.add(one.name)
            yield one
            pending += one.parents


def _add(
    found: dict[str, set[str]], kind: str, version: int, settings: Mapping[str, object]
) -> None:
    for key, value in ((f"{kind} version", str(version)), *_leaves(settings)):
        found.setdefault(key, set()).add(value)


def _leaves(node: object, place: str = "") -> Iterator[tuple[str, str]]:
    """Dotted key -> value as JSON; of a part that `describe` describes, its name and arguments."""
    if not is_mapping(node) or not node:
        yield place, json.dumps(node)
        return
    inner = dict(node)
    if "arguments" in inner and "name" in inner:
        yield place, json.dumps(inner.pop("name"))
        arguments = inner.pop("arguments")
        inner |= arguments if is_mapping(arguments) else {}
        if inner.get("version") == 1:
            del inner["version"]
    for name, value in inner.items():
        yield from _leaves(value, f"{place}.{name}".lstrip("."))
