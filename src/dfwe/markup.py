"""Texts that a person named, as they stand in Markdown, LaTeX and CSV: read there as themselves.

HTML is escaped by the standard library, YAML and JSON are written by their libraries, and
`reporting.terminal.console` reads no markup.
"""

import re
from collections.abc import Iterable

_MARKDOWN = re.compile(r"[\\`*_\[\]{}<>#|~&:$@^=!]|(?<=www)\.")
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    '"': r"\char34{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # behind a line's end it would open a length
    "]": "{]}",
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    **{"±": r"$\pm$", "–": "--", "×": r"$\times$"},  # noqa: RUF001
}
_LATEX_PARTS = re.compile("|".join([*map(re.escape, _LATEX), "-(?=-)", "'(?=')"]))
_FORMULA = re.compile(r"[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]\d+(\.\d+)?( (to|±) [+-]?\d+(\.\d+)?)?")


def printable(text: str) -> str:
    """The text with its line breaks, controls and halves of characters as Python escapes them."""
    if text.isprintable():
        return text
    return "".join(x if x.isprintable() else x.encode("unicode_escape").decode() for x in text)


def markdown(text: str) -> str:
    """A text inside a line of Markdown (CommonMark with GitHub's tables, links and emoji)."""
    return _MARKDOWN.sub(r"\\\g<0>", printable(text))


def markdown_code(text: str) -> str:
    """A text as a code span of Markdown."""
    text = printable(text)
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    space = " " if text.startswith(("`", " ")) or text.endswith(("`", " ")) else ""
    return f"{fence}{space}{text}{space}{fence}"


def latex(text: str) -> str:
    """A text inside a paragraph or a table of LaTeX."""
    return _LATEX_PARTS.sub(lambda part: _LATEX.get(part[0], part[0] + "{}"), printable(text))


def csv_cell(text: str) -> str:
    """A field of a CSV file for people: what a spreadsheet would compute gets an apostrophe, by
    which it takes the rest for text; a number, or two with `to` or `±` between, stays."""
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def csv_row(cells: Iterable[object]) -> list[object]:
    """A row of a CSV file for people: its texts by `csv_cell`, its numbers as they are."""
    return [csv_cell(cell) if isinstance(cell, str) else cell for cell in cells]
