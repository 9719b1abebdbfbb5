"""From a model's text to an answer that a metric can compare, and the gold answer likewise."""

from typing import Protocol, runtime_checkable

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.settings import Compatibility, settings

INVALID = -1  # the index of an answer that is no option
# What a metric compares: an option's index, a text, a 0/1 row over the options, accepted texts.
Value = int | float | str | list[int] | tuple[str, ...]


@runtime_checkable
class Answer(Protocol):
    """How a task reads a text."""

    def __call__(self, text: str, example: Example) -> Value:
        """A model's answer, read from its text."""
        ...

    def gold(self, example: Example) -> Value:
        """The gold answer, for comparison with a model's."""
        ...


@settings("task.answer")
class Label:
    """The index of the option that the text names, -1 for anything else.

    Of an example with several accepted options each counts as the first. By default case and
    surrounding blanks do not count; TLiDB counts both.

    Args:
        compatibility: `tlidb` reads a text as TLiDB does.

    Raises:
        UserError: the compatibility is unknown.
    """

    compatibility: Compatibility = None

    def __call__(self, text: str, example: Example) -> int:
        options, accepted = example.options, example.references
        if self.compatibility is None:
            options, text = tuple(option.lower() for option in options), text.strip().lower()
            accepted = tuple(option.lower() for option in accepted)
        if len(accepted) > 1 and text in accepted:
            return self.gold(example)
        return options.index(text) if text in options else INVALID

    def gold(self, example: Example) -> int:
        return example.options.index(example.target)


@settings("task.answer")
class Labels:
    """A 0/1 row over the options that the text lists, joined by `and`.

    By default each part must be an option's whole name, and an answer without any is a row of
    zeros. In TLiDB an option counts wherever it occurs in the text (`friends` in `girlfriends`),
    and an answer that names none becomes `default`.

    Args:
        default: the option that stands for an answer without any; used by `tlidb` only.
        compatibility: `tlidb` reads a text as TLiDB does.

    Raises:
        UserError: the compatibility is unknown; an example has several accepted answers.
    """

    default: str
    compatibility: Compatibility = None

    def __call__(self, text: str, example: Example) -> list[int]:
        if self.compatibility == "tlidb":
            row = [int(option in text) for option in example.options]
            return row if any(row) else [int(o == self.default) for o in example.options]
        parts = {part.strip().lower() for part in text.split(" and ")}
        return [int(option.lower() in parts) for option in example.options]

    def gold(self, example: Example) -> list[int]:
        if len(example.references) > 1:
            raise UserError(
                f"{example.id} has several accepted answers, but task.answer reads one set of "
                "labels; join the labels of a set with ' and ', or set task.answer to Label."
            )
        parts = example.target.split(" and ")
        return [int(option in parts) for option in example.options]


@settings("task.answer")
class FreeText:
    """The text as it is, compared with every accepted answer."""

    def __call__(self, text: str, example: Example) -> str:
        return text

    def gold(self, example: Example) -> tuple[str, ...]:
        return example.references
