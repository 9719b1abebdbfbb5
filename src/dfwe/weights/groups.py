"""Which parameters share a simplex: functions from a parameter's name to its group's name.

`WeightSpace.grouped(part)` then takes alphas (g, n), one row a group.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from dfwe.errors import UserError

HEADS = ("lm_head", "head", "classifier", "score", "cls", "qa_outputs", "predictions", "pooler")
EMBEDDINGS = ("shared", "embeddings", "embed_tokens", "embed_positions", "wte", "wpe")


def part(name: str) -> str:
    """embedding, encoder, decoder or head; a model of one stack has the group `body`."""
    words = name.split(".")
    if any(word in EMBEDDINGS for word in words):
        return "embedding"
    if any(word in HEADS for word in words):
        return "head"
    sides = [word for word in words if word in ("encoder", "decoder")]
    return sides[0] if sides else "body"


def block(name: str) -> str:
    """Each transformer block a group, such as `encoder.3`; all else by `part`."""
    number = re.search(r"(?<=\.)\d+(?=\.)", name)
    whole = part(name)
    return (
        f"{whole}.{number.group()}"
        if number and whole in ("encoder", "decoder", "body")
        else whole
    )


def depths(groups: Sequence[str]) -> tuple[float, ...] | None:
    """The depth of each of `block`'s groups: its number, from 1, of its stack's blocks.

    The embedding has depth 0; the head, and what stands behind a stack's blocks, 1. None where no
    group is a block.
    """
    split = [name.partition(".")[::2] for name in groups]  # stack, number or ""
    blocks = Counter(stack for stack, number in split if number.isdecimal())

    def depth(stack: str, number: str) -> float:
        if number.isdecimal():
            return (int(number) + 1) / blocks[stack]
        return 0.0 if stack == "embedding" else 1.0

    return tuple(depth(stack, number) for stack, number in split) if blocks else None


def matching(name: str, *, patterns: Mapping[str, Sequence[str]]) -> str:
    """Groups by shell patterns on names: the first group with a match takes the parameter.

    Args:
        patterns: group -> patterns, as {"encoder": ["encoder.*"], "rest": ["*"]}.

    Raises:
        UserError: no pattern matches the name.
    """
    for group, kinds in patterns.items():
        if any(fnmatchcase(name, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)):
            return group
    raise UserError(f"No group takes the parameter '{name}'; add a last group with '*'.")
