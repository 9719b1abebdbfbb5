"""JSON as RFC 8259 has it, in UTF-8; what Python's reader accepts beyond that is an error."""

import json
import re
from collections.abc import Callable
from typing import NoReturn

HALF = re.compile("[\ud800-\udfff]")  # of a character outside the basic plane
_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")


def decoder(number: Callable[[str], object] | None = None) -> json.JSONDecoder:
    """A decoder that refuses a name that stands twice in an object, NaN and Infinity.

    Args:
        number: what a number as written becomes; None takes int and float.
    """
    return json.JSONDecoder(
        object_pairs_hook=_pairs, parse_float=number, parse_int=number, parse_constant=_constant
    )


def decode(decoder: json.JSONDecoder, text: str, start: int) -> tuple[object, int]:
    """The value that begins at a position, and where it ends.

    Raises:
        ValueError: there is none; the message says why in a few words.
    """
    try:
        return decoder.raw_decode(text, start)
    except RecursionError:
        words = "it is nested too deeply"
    except json.JSONDecodeError as error:
        words = f"{error.msg[0].lower()}{error.msg[1:]}"
    raise ValueError(words)


def loads(content: bytes) -> object:
    """The value of a file.

    Raises:
        ValueError: it is not one value in UTF-8; the message says why and in which line.
    """
    text = content.decode("utf-8-sig")
    start = len(text) - len(text.lstrip())
    value, end = decode(decoder(), text, start)
    if text[end:].strip():
        line = text.count("\n", 0, end) + 1
        raise ValueError(f"more follows after its value in line {line}")
    if _ESCAPED.search(text) and HALF.search(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a text has half a character (a lone surrogate)")
    return value


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return names


def _constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON value")
