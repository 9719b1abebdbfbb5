"""The report as one HTML file: no script, no link, the pictures inside it."""

import html
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

from dfwe.pipeline.files import write_text
from dfwe.reporting.table import Table

STYLE = """
body{font:15px/1.5 system-ui,sans-serif;color:#222;max-width:1400px;margin:2em auto}
h1{font-size:1.6em;margin-bottom:0}h2{font-size:1.15em;margin:2em 0 .4em}
body{padding:0 1em}p{color:#555;margin:.4em 0}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:13px;font-variant-numeric:tabular-nums}
td,th{padding:.25em .7em;text-align:right;white-space:nowrap;border-bottom:1px solid #eee}
th{border-bottom:1px solid #888;font-weight:600;white-space:normal;vertical-align:bottom}
td:first-child,th:first-child{text-align:left}
tr.last td{border-top:1px solid #888;font-weight:600}figure{margin:.5em 0}
svg,img{max-width:100%;height:auto}img{width:46em}
"""


def write_report(
    folder: Path,
    title: str,
    lead: str,
    tables: Sequence[Table],
    pictures: Mapping[str, Sequence[Path]],
) -> Path:
    """Write each sheet as .md, .csv and .tex, and the page with all of them; its path."""
    folder.mkdir(parents=True, exist_ok=True)
    for sheet in tables:
        write_text(folder / f"{sheet.name}.md", sheet.markdown())
        write_text(folder / f"{sheet.name}.csv", sheet.csv())
        write_text(folder / f"{sheet.name}.tex", sheet.latex())
    path = folder / "report.html"
    write_text(path, page(title, lead, tables, pictures))
    return path


def page(
    title: str, lead: str, tables: Sequence[Table], pictures: Mapping[str, Sequence[Path]]
) -> str:
    """The whole page.

    Args:
        pictures: heading -> .svg or .png files, shown in order.
    """
    parts = [f"<h1>{html.escape(title)}</h1><p>{html.escape(lead)}</p>"]
    parts += [sheet.html() for sheet in tables]
    number = 0
    for heading, paths in pictures.items():
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        for path in paths:
            number += 1
            parts.append(f"<figure>{_picture(path, f'p{number}-')}</figure>")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style>"
    )
    body = "".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _picture(path: Path, prefix: str) -> str:
    if path.suffix == ".svg":
        return _inline(path.read_text(), prefix)
    data = b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'


def _inline(svg: str, prefix: str) -> str:
    """The <svg> element alone, its ids with a prefix, so that those of many pictures differ."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg)
    return re.sub(r'href="#', f'href="#{prefix}', svg)
