"""Plain data: what settings, recipes and JSON consist of."""

from collections.abc import Mapping, Sequence, Set
from typing import TypeAlias, TypeGuard

Plain: TypeAlias = "Mapping[str, Plain] | Sequence[Plain] | Set[Plain] | str | float | bool | None"


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Whether a value is a mapping, of whatever types."""
    return isinstance(value, Mapping)


def is_list(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is a sequence of whatever type, and no text."""
    return isinstance(value, Sequence) and not isinstance(value, str)


def is_set(value: object) -> TypeGuard[Set[object]]:
    """Whether a value is a set of whatever type."""
    return isinstance(value, Set)
