"""What is about to be computed, as a few lines of at most 80 characters."""

import textwrap
from collections.abc import Sequence

from dfwe.pipeline.forecast import Forecast, Part
from dfwe.reporting.terminal import DASH, clock

WIDTH = 80
MOST = 4  # differences that are named
COLUMNS = ("", "stored", "to do", "examples", "tokens", "time", "disk")
FORM = "  {:<17}{:>7}{:>7}{:>12}{:>9}{:>10}{:>9}"


def planned(expected: Forecast) -> str:
    """How much is stored, what is to be computed and why it is new, time and disk."""
    done = sum(part.done for part in expected.parts)
    total = done + expected.lacking
    results = f"{total} result{'s' if total > 1 else ''}"
    title = f"stage={expected.stage}: {done} of {results} stored."
    if not expected.lacking:
        return f"{title} Nothing is to be computed."
    rows = [_row(part) for part in expected.parts]
    if len(rows) > 1:
        rows.append(_together(expected.parts))
    lines = [title, *(FORM.format(*cells).rstrip() for cells in (COLUMNS, *rows))]
    notes = (_why(expected), _time(expected), _disk(expected))
    return "\n".join([*lines, *(_indented(note) for note in notes if note)])


def _row(part: Part) -> tuple[str, ...]:
    if not part.lacking:
        return (part.stage, str(part.done), "0", "", "", "", "")
    return (
        part.stage,
        str(part.done),
        str(part.lacking),
        f"{part.examples:,}" if part.examples else DASH,
        amount(part.tokens) if part.tokens else DASH,
        clock(part.seconds),
        size(part.bytes) if part.bytes else DASH,
    )


def _together(parts: Sequence[Part]) -> tuple[str, ...]:
    """The sums; of times and sizes that are not all known, of those that are."""
    left = [part for part in parts if part.lacking]
    seconds = [part.seconds for part in left if part.seconds is not None]
    weights = [part.bytes for part in left if part.bytes is not None]
    total = Part(
        stage="all",
        done=sum(part.done for part in parts),
        lacking=sum(part.lacking for part in left),
        examples=sum(part.examples for part in left),
        tokens=sum(part.tokens for part in left),
        seconds=sum(seconds) if seconds else None,
        bytes=sum(weights),
    )
    *cells, spent, disk = _row(total)
    more = "> " if 0 < len(seconds) < len(left) else ""
    heavier = "> " if 0 < len(weights) < len(left) and total.bytes else ""
    return (*cells, more + spent, heavier + disk)


def _why(expected: Forecast) -> str:
    if expected.new:
        return f"New: {', '.join(expected.new)}."
    if expected.differences is None:
        return "New: the store has no result of this kind yet."
    named = [str(difference) for difference in expected.differences[:MOST]]
    more = len(expected.differences) - len(named)
    rest = f" and {more} more settings" if more else ""
    return f"New, by the nearest stored result: {', '.join(named)}{rest}."


def _time(expected: Forecast) -> str:
    if not expected.timings:
        return "Time is not known: the store has no timings of this kind of device."
    results = f"{expected.timings} stored result{'s' if expected.timings > 1 else ''}"
    where = " of another machine" if expected.elsewhere else ""
    return f"Time by {results}{where}; less, where a training or search stops early."


def _disk(expected: Forecast) -> str:
    more = f"; a step needs {size(expected.unfinished)} more until it is done"
    return f"Disk: {size(expected.free)} free{more if expected.unfinished else ''}."


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def amount(number: float) -> str:
    """A count as a person reads it: 1.2 M."""
    for unit in ("", " k", " M"):
        if number < 1000:
            return f"{number:.0f}" if not unit else f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.3g} G"


def size(number: float) -> str:
    """Bytes as a person reads them: 48 MB."""
    return f"{amount(number)}B" if number >= 1000 else f"{number:.0f} B"
