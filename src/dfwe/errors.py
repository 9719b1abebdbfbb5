"""The one exception that speaks to the user."""

import errno
from collections.abc import Sequence


class UserError(Exception):
    """A mistake the user can mend: one sentence: what was found, what was wanted, the way out.

    `dfwe.cli` prints it without a traceback and exits with code 1.
    """


def check_whole(name: str, value: object, least: int = 0) -> None:
    """Raises UserError unless the setting is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{name}={value} must be a whole number of at least {least}.")


def check_number(name: str, value: object) -> None:
    """Raises UserError unless the setting is a number."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise UserError(f"{name}={value} must be a number.")


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Raises UserError unless the setting is one of `choices`."""
    if value not in choices:
        known = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
        raise UserError(f"{name}={value} is unknown; choose {known}.")


def machine_failed(error: BaseException) -> bool:
    """Whether a device or its memory failed, which says nothing of what was computed there."""
    named = type(error).__name__ in ("OutOfMemoryError", "AcceleratorError")  # torch's, unimported
    said = ("out of memory", "DefaultCPUAllocator")  # of an Apple GPU; of the CPU
    words = isinstance(error, RuntimeError) and any(part in str(error) for part in said)
    return named or words or isinstance(error, MemoryError)


def reason(error: BaseException) -> str:
    """The first line of what a library's error says, or its kind, to stand inside a sentence."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".!")


DISK = {
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.ENOENT: "there is no such place",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a file stands where a folder is needed",
    errno.EEXIST: "a file stands where a folder is needed",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
}
