"""The one exception that is shown to the user, and checks of plain settings that raise it."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING

from dfwe.markup import printable

if TYPE_CHECKING:
    from pydantic import ValidationError


class UserError(ValueError):
    """A mistake that the user can fix.

    Its message is one sentence: what stands there, what was expected, the way out. `dfwe.cli`
    prints it without a traceback and exits with code 1.

    Args:
        sentence: stays on one line, whatever characters the names in it have.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(printable(sentence))


class ScoreError(UserError):
    """A person's own metric or score fails on what a model answers.

    A search counts such a candidate as the worst; everything else ends with its sentence.
    """


def check_whole(name: str, value: object, least: int = 0) -> None:
    """Check that a setting is a whole number.

    Args:
        name: the setting's key, for the message.
        value: its value.
        least: the smallest value allowed.

    Raises:
        UserError: it is no whole number, or below `least`.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} must be a whole number of at least {least}.")


def check_number(name: str, value: object) -> float:
    """A setting that is a number.

    Args:
        name: the setting's key, for the message.
        value: its value.

    Raises:
        UserError: it is no number.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name}={value} must be a number.")
    return value


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Check that a setting is one of a few words.

    Args:
        name: the setting's key, for the message.
        value: its value.
        choices: the words allowed.

    Raises:
        UserError: it is none of them.
    """
    if value not in choices:
        known = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        raise UserError(f"{name}={value} is unknown; choose {known}.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question to end a sentence with, ` did you mean X?`; blank where nothing is like it.

    Of dotted keys the last parts are compared, their initials and beginnings too: `training.lr` is
    like `training.learning_rate`. Keys in the same place come first.

    Args:
        word: what was typed.
        known: what could have been.
    """
    place, _, typed = word.lower().replace("-", "_").rpartition(".")
    others = [key for key in known if key != word]
    beside = [key for key in others if key.rpartition(".")[0] == place]
    for keys, cutoff in ((beside, 0.7), (others, 0.9)):
        names = {key.rpartition(".")[2].lower().replace("-", "_"): key for key in reversed(keys)}
        initials = [n for n in names if "".join(part[:1] for part in n.split("_")) == typed]
        longer = [name for name in names if len(typed) > 2 and name.startswith(typed)]
        close = [*initials, *longer, *get_close_matches(typed, names, n=1, cutoff=cutoff)]
        if close:
            return f" did you mean {names[close[0]]}?"
    return ""


def machine_failed(error: BaseException) -> bool:
    """Whether a device or its memory failed, which is no fault of what was computed there."""
    kinds = ("OutOfMemoryError", "AcceleratorError")  # torch's, by name: torch is not imported
    phrases = ("out of memory", "DefaultCPUAllocator")  # of an Apple GPU; of the CPU
    if isinstance(error, MemoryError) or type(error).__name__ in kinds:
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error) for phrase in phrases)


def reason(error: BaseException) -> str:
    """The first line of a library's message, else the error's class, for use in a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".!")


def schema_fault(error: "ValidationError") -> str:
    """How data first differ from their schema, for use after their name: `has no 'label'`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "missing":
        return f"has no '{place}'"
    message = first["msg"][0].lower() + first["msg"][1:]
    if first["type"] == "model_type":  # whose message names a class
        message = "input should be an object"
    return f"has a wrong '{place}' ({message})" if place else f"is wrong ({message})"
