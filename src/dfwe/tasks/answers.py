"""From a model's text to an answer that a metric can compare, and the gold answer likewise."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dfwe.data.dialogue import Example
from dfwe.errors import UserError

INVALID = -1
Compatibility = Literal["tlidb"] | None


class Answer(Protocol):
    """How a task reads a text."""

    def __call__(self, text: str, example: Example) -> Any: ...

    def gold(self, example: Example) -> Any: ...


@dataclass(frozen=True)
class Label:
    """The index of the option that the text names, -1 for anything else.

    By default case and surrounding blanks do not count; TLiDB counts both.
    """

    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        check_compatibility(self.compatibility)

    def __call__(self, text: str, example: Example) -> int:
        options = example.options
        if self.compatibility is None:
            options, text = tuple(option.lower() for option in options), text.strip().lower()
        return options.index(text) if text in options else INVALID

    def gold(self, example: Example) -> int:
        return example.options.index(example.target)


@dataclass(frozen=True)
class Labels:
    """A 0/1 row over the options that the text lists, joined by `and`.

    By default each part must be an option's whole name, and an answer without any is an empty
    row. In TLiDB an option counts wherever it occurs in the text (`friends` in `girlfriends`),
    and an answer that names none becomes `default`.

    Args:
        default: the option that stands for an answer without any, in TLiDB's way only.
    """

    default: str
    compatibility: Compatibility = None

    def __post_init__(self) -> None:
        check_compatibility(self.compatibility)

    def __call__(self, text: str, example: Example) -> list[int]:
        if self.compatibility == "tlidb":
            row = [int(option in text) for option in example.options]
            return row if any(row) else [int(o == self.default) for o in example.options]
        said = {part.strip().lower() for part in text.split(" and ")}
        return [int(option.lower() in said) for option in example.options]

    def gold(self, example: Example) -> list[int]:
        said = example.target.split(" and ")
        return [int(option in said) for option in example.options]


@dataclass(frozen=True)
class FreeText:
    """The text as it is, compared with every accepted answer."""

    def __call__(self, text: str, example: Example) -> str:
        return text

    def gold(self, example: Example) -> tuple[str, ...]:
        return example.references


def check_compatibility(compatibility: Any) -> None:
    """Raise UserError unless it is a known way of scoring: None (correct) or `tlidb`."""
    if compatibility not in (None, "tlidb"):
        raise UserError(f"compatibility={compatibility} is unknown; choose null or tlidb.")
