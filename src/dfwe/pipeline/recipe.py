"""Recipes: results named by what decides them."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypedDict

from pydantic import JsonValue

from dfwe.plain import Plain, is_list, is_mapping, is_set

ADDRESS_LENGTH = 20  # hex digits: 80 bits, short enough for a W&B run id and a folder name


def canonical(value: object) -> JsonValue:
    """Plain JSON data, one spelling for each value: sets sorted, tuples as lists, keys as text.

    Raises:
        TypeError: for a value that has no canonical form (an object, a NaN).
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise TypeError(f"{value} cannot stand in a recipe")
        return int(value) if value.is_integer() else value  # 1.0 and 1 are one setting
    if is_mapping(value):
        return {str(key): canonical(value[key]) for key in sorted(value, key=str)}
    if is_set(value):
        return sorted((canonical(item) for item in value), key=json.dumps)
    if is_list(value):
        return [canonical(item) for item in value]
    raise TypeError(f"{type(value).__name__} {value!r} cannot stand in a recipe")


def digest(value: object) -> str:
    """sha256, in hex, of the canonical JSON of `value`."""
    text = json.dumps(canonical(value), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def address_of(
    kind: str, version: int, settings: Mapping[str, Plain], parents: Sequence[str]
) -> str:
    """The address of a recipe; `parents` are those of its parents."""
    return digest([kind, version, settings, list(parents)])[:ADDRESS_LENGTH]


@dataclass(frozen=True)
class Recipe:
    """What decides a result: its kind, the kind's version, settings, and the parents' recipes."""

    kind: str
    version: int
    settings: Mapping[str, Plain]
    parents: tuple["Recipe", ...] = field(default=())

    @cached_property
    def address(self) -> str:
        """The result's name among those of its kind."""
        return address_of(
            self.kind, self.version, self.settings, [p.address for p in self.parents]
        )

    @property
    def name(self) -> str:
        """The result's folder in the store and its artifact's name: kind and address."""
        return f"{self.kind}-{self.address}"

    def describe(self) -> "RecipeContent":
        """The recipe as plain data, for `recipe.json` and the logger's config."""
        return {
            "kind": self.kind,
            "version": self.version,
            "address": self.address,
            "settings": {key: canonical(self.settings[key]) for key in sorted(self.settings)},
            "parents": [parent.name for parent in self.parents],
        }


class RecipeContent(TypedDict):
    """A recipe as plain data."""

    kind: str
    version: int
    address: str
    settings: dict[str, JsonValue]
    parents: list[str]
