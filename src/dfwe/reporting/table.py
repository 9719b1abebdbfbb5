"""A table of results once, as Markdown, CSV, LaTeX and HTML."""

import csv
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field

from dfwe.markup import csv_row, latex, markdown


@dataclass(frozen=True)
class Table:
    """A titled table of text cells.

    Args:
        columns: the first names the rows.
        rows: one cell a column each.
        last: how many rows at the end stand apart, as means do.
        note: what a reader must know to read it.
        brief: the columns that a narrow terminal shows; all, if none are named.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    last: int = 0
    note: str = ""
    name: str = field(default="table", kw_only=True)  # of its files
    brief: Sequence[str] = field(default=(), kw_only=True)

    def markdown(self) -> str:
        body = [[*map(markdown, row)] for row in self.rows]
        for row in body[len(body) - self.last :]:
            row[0] = f"**{row[0]}**"
        lines = [
            [*map(markdown, self.columns)],
            ["---", *["---:"] * (len(self.columns) - 1)],
            *body,
        ]
        table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
        return "\n".join(
            [
                f"### {markdown(self.title)}\n",
                table,
                *([f"{markdown(self.note)}\n"] if self.note else []),
            ]
        )

    def csv(self) -> str:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(csv_row, (self.columns, *self.rows)))
        return text.getvalue()

    def latex(self) -> str:
        """A `tabular` for booktabs."""

        def line(cells: Sequence[str]) -> str:
            return " & ".join(map(latex, cells)) + r" \\"

        cut = len(self.rows) - self.last
        apart = [r"\midrule", *map(line, self.rows[cut:])] if self.last else []
        columns = "l" + "r" * (len(self.columns) - 1)
        lines = [
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            line(self.columns),
            r"\midrule",
            *map(line, self.rows[:cut]),
            *apart,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
        return "\n".join(lines)

    def html(self) -> str:
        def line(cells: Sequence[str], kind: str = "") -> str:
            first, *others = map(html.escape, cells)
            inner = "".join(f"<td>{cell}</td>" for cell in others)
            return f'<tr{kind}><th scope="row">{first}</th>{inner}</tr>'

        cut = len(self.rows) - self.last
        head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in self.columns)
        body = [line(row) for row in self.rows[:cut]]
        body += [line(row, ' class="last"') for row in self.rows[cut:]]
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        return (
            f'<div class="wide" tabindex="0"><table><caption>{html.escape(self.title)}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{note}"
        )
