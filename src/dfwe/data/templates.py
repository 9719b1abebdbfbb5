"""Templates of contexts and prompts: `{name}` stands for a text, `{{` and `}}` for braces."""

import re
from collections.abc import Mapping
from functools import cache

from dfwe.errors import UserError

_PART = re.compile(r"\{\{|\}\}|\{(?P<name>[^{}]*)\}|(?P<alone>[{}])")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with every name replaced by its text, whatever characters either has.

    Args:
        template: as the task file has it.
        values: name -> text.

    Raises:
        UserError: a brace stands alone, or there is no such name.
    """
    literals, names = _parsed(template)
    try:
        return "".join([literals[0], *map(str.__add__, [values[x] for x in names], literals[1:])])
    except KeyError as error:
        raise UserError(
            f"The template '{template}' names {{{error.args[0]}}}; it may name "
            f"{' and '.join(f'{{{name}}}' for name in values)}."
        ) from None


@cache
def _parsed(template: str) -> tuple[list[str], list[str]]:
    """The texts around the names, and the names between them."""
    literals, names, start = [""], list[str](), 0
    for part in _PART.finditer(template):
        literals[-1] += template[start : part.start()]
        start = part.end()
        if part["alone"] is not None:
            raise UserError(
                f"The template '{template}' has a single '{part['alone']}'; write it twice where "
                "a brace is meant."
            )
        if part["name"] is None:
            literals[-1] += part[0][0]
        else:
            names.append(part["name"])
            literals.append("")
    literals[-1] += template[start:]
    return literals, names
