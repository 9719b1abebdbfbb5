"""From a model's text to an answer that a metric can compare, and the gold answer likewise."""

from dataclasses import dataclass
from typing import Any, Protocol

from dfwe.data.dialogue import Example

INVALID = -1


class Answer(Protocol):
    """How a task reads a text."""

    def __call__(self, text: str, example: Example) -> Any: ...

    def gold(self, example: Example) -> Any: ...


@dataclass(frozen=True)
class Label:
    """The index of the option that the text names, -1 for anything else.

    By default case and surrounding blanks do not count; `exact` compares as TLiDB does.
    """

    exact: bool = False

    def __call__(self, text: str, example: Example) -> int:
        options = example.options
        if not self.exact:
            options, text = tuple(option.lower() for option in options), text.strip().lower()
        return options.index(text) if text in options else INVALID

    def gold(self, example: Example) -> int:
        return example.options.index(example.target)


@dataclass(frozen=True)
class Labels:
    """A 0/1 row over the options that the text lists, joined by `and`.

    Args:
        default: the option that stands for an answer without any (only with `substring`).
        substring: TLiDB's way: an option counts wherever it occurs in the text (`friends` in
            `girlfriends`), and an answer that names none becomes `default`.
    """

    default: str
    substring: bool = False

    def __call__(self, text: str, example: Example) -> list[int]:
        if self.substring:
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
