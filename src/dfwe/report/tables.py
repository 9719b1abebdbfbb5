"""Results as tables: in the terminal at the end of a run, and as Markdown."""

from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

DASH = "–"  # noqa: RUF001
Results = Mapping[str, Any]


def summary(results: Results) -> Group:
    """The end of a run: each model's weight in the mixture, dev and test, delta to the baseline.

    `results` is what `results.json` holds; columns for which nothing is known yet are left out.
    """
    alpha = results["dfwe"]["alpha"] or {}
    base = results["baseline"]["test"]
    rows = [("fine-tuning (baseline)", None, results["baseline"])]
    rows += [(f"  {row['label']}", alpha.get(row["label"]), row) for row in results["experts"]]
    rows += [("uniform average", None, results["uniform"]), ("DFWE", None, results["dfwe"])]
    columns = {
        "alpha": [DASH if weight is None else f"{weight:.3f}" for _, weight, _ in rows],
        "dev": [points(row["dev"]) for _, _, row in rows],
        "test": [points(row["test"]) for _, _, row in rows],
        "delta": [signed(row["test"], base) for _, _, row in rows],
    }
    known = {name: cells for name, cells in columns.items() if set(cells) != {DASH}}
    table = Table(box=box.SIMPLE_HEAD, title=_title(results), title_justify="left",
                  title_style="bold", pad_edge=False)  # fmt: skip
    table.add_column("model", no_wrap=True)
    for name in known:
        table.add_column(name, justify="right", no_wrap=True)
    for number, (label, _, _) in enumerate(rows):
        cells = [label, *(cells[number] for cells in known.values())]
        if number == 1:
            table.add_row("fine-tuned experts", *[""] * len(known), style="dim")
        table.add_row(*cells, style="bold" if label == "DFWE" else None)
    return Group(table, Text(_footer(results), style="dim"))


def render(results: Results, width: int = 80) -> str:
    """The summary as plain text."""
    console = Console(file=StringIO(), width=width, no_color=True, force_terminal=False)
    console.print(summary(results))
    return console.file.getvalue()  # type: ignore[attr-defined]


def markdown(rows: Sequence[Results]) -> str:
    """Table 2 for several targets: baseline, uniform average, DFWE and delta on test.

    A row may carry `majority`, the score of always answering the most frequent training answer.
    """
    lines = [
        "| task | majority | fine-tuning | uniform | DFWE | delta |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    table = [
        [row.get("majority"), row["baseline"]["test"], row["uniform"]["test"],
         row["dfwe"]["test"]]
        for row in rows
    ]  # fmt: skip
    for row, values in zip(rows, table, strict=True):
        lines.append(_line(row["task"], values))
    columns = list(zip(*table, strict=True))
    means = [None if None in column else sum(column) / len(column) for column in columns]
    return "\n".join([*lines, _line("**mean**", means)]) + "\n"


def points(value: float | None) -> str:
    """A score with two decimals."""
    return DASH if value is None else f"{value:.2f}"


def signed(value: float | None, base: float | None) -> str:
    """The difference of two scores, sign shown."""
    return DASH if value is None or base is None else f"{value - base:+.2f}"


def clock(seconds: float | None) -> str:
    """A duration as a person writes it."""
    if seconds is None:
        return DASH
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _title(results: Results) -> str:
    sources = ", ".join(results["sources"])
    return (f"{results['task']} from {sources}\n{results['corpus']}, {results['model']}, "
            f"seed {results['seed']}; scores in points")  # fmt: skip


def _footer(results: Results) -> str:
    spent = [f"{stage} {clock(value)}" for stage, value in results["seconds"].items()
             if value is not None]  # fmt: skip
    found = results["dfwe"]
    if found["evaluations"] is not None:
        spent.append(f"{found['evaluations']} evaluations, {found['iterations']} iterations")
    return "; ".join(spent)


def _line(name: str, values: Sequence[float | None]) -> str:
    cells = [points(value) for value in values] + [signed(values[-1], values[1])]
    return f"| {name} | " + " | ".join(cells) + " |"
