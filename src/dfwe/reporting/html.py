"""A report as one HTML file: its answer first, no script, the pictures inside it."""

import html
import re
import time
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from dfwe.pipeline.files import write_text
from dfwe.reporting.table import Table

STYLE = """
:root{color-scheme:light dark;
--ink:#1f2328;--soft:#57606a;--line:#d0d7de;--back:#fff;--mark:#0969da}
@media (prefers-color-scheme:dark){
:root{--ink:#e6edf3;--soft:#9da7b3;--line:#3d444d;--back:#0d1117;--mark:#4493f8}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--back);margin:0}
main{max-width:1400px;margin:0 auto;padding:1.5em clamp(1em,3vw,3em)}
h1{font-size:1.6em;line-height:1.25;margin:0}
h2{font-size:1.2em;margin:2.2em 0 .6em}
p{color:var(--soft);margin:.4em 0;max-width:60em}
p.answer{color:var(--ink);font-size:1.15em;border-left:4px solid var(--mark);padding-left:.8em;
margin:1em 0}
p.made,figcaption{font-size:.875em;overflow-wrap:anywhere}
.wide{overflow-x:auto;background:
linear-gradient(90deg,var(--back) 30%,transparent) 0 0/3em 100%,
linear-gradient(-90deg,var(--back) 30%,transparent) 100% 0/3em 100%,
linear-gradient(90deg,#8886,transparent) 0 0/.8em 100%,
linear-gradient(-90deg,#8886,transparent) 100% 0/.8em 100%;
background-repeat:no-repeat;background-attachment:local,local,scroll,scroll}
table{border-collapse:collapse;font-size:.875em;font-variant-numeric:tabular-nums}
caption{text-align:left;font-weight:600;font-size:1.35em;padding:2em 0 .5em;white-space:nowrap}
td,th{padding:.3em .75em;text-align:right;white-space:nowrap;border-bottom:1px solid var(--line)}
thead th{border-bottom-color:var(--soft);white-space:normal;vertical-align:bottom}
th[scope=row]{font-weight:400;text-align:left}thead th:first-child{text-align:left}
tr.last>*{border-top:1px solid var(--soft);font-weight:600}
.pictures{display:grid;gap:1.5em;grid-template-columns:repeat(auto-fit,minmax(min(34em,100%),1fr))}
figure{margin:0}
figcaption{color:var(--soft);margin-top:.4em}
svg,img{display:block;width:100%;height:auto;background:#fff;border-radius:6px}
"""


@dataclass(frozen=True)
class Picture:
    """A picture of a page.

    Args:
        path: .svg or .png.
        caption: below it, and read to those who do not see it.
    """

    path: Path
    caption: str


@dataclass(frozen=True)
class Page:
    """What a page says.

    Args:
        title: its heading.
        answer: one sentence: what is best, by how much, how sure, at what cost.
        origin: from what and by which command it was computed.
        tables: in this order.
        pictures: heading -> pictures, two side by side where there is room.
    """

    title: str
    answer: str
    origin: str
    tables: Sequence[Table]
    pictures: Mapping[str, Sequence[Picture]]

    def write(self, folder: Path) -> Path:
        """Each table as .md, .csv and .tex, and `report.html` with all of them; its path."""
        folder.mkdir(parents=True, exist_ok=True)
        for table in self.tables:
            write_text(folder / f"{table.name}.md", table.markdown())
            write_text(folder / f"{table.name}.csv", table.csv())
            write_text(folder / f"{table.name}.tex", table.latex())
        path = folder / "report.html"
        write_text(path, self.html())
        return path

    def html(self) -> str:
        """The whole page."""
        when = time.strftime("%Y-%m-%d %H:%M")
        origin = f"{self.origin} Computed on {when} with dfwe {version('dfwe')}."
        parts = [
            f"<h1>{html.escape(self.title)}</h1>",
            f'<p class="answer">{html.escape(self.answer)}</p>',
            f'<p class="made">{html.escape(origin)}</p>',
            *(table.html() for table in self.tables),
        ]
        number = 0
        for heading, pictures in self.pictures.items():
            parts.append(f'<h2>{html.escape(heading)}</h2><div class="pictures">')
            for picture in pictures:
                number += 1
                caption = html.escape(picture.caption)
                drawn = _drawn(picture, f"p{number}-")
                parts.append(f"<figure>{drawn}<figcaption>{caption}</figcaption></figure>")
            parts.append("</div>")
        head = (
            '<meta charset="utf-8"><meta name="viewport" content="width=device-width, '
            f'initial-scale=1"><title>{html.escape(self.title)}</title><style>{STYLE}</style>'
        )
        body = f"<main>{''.join(parts)}</main>"
        return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def _drawn(picture: Picture, prefix: str) -> str:
    text = html.escape(picture.caption)
    if picture.path.suffix == ".svg":
        drawn = _inline(picture.path.read_text(), prefix)
        return drawn.replace("<svg", f'<svg role="img" aria-label="{text}"', 1)
    data = b64encode(picture.path.read_bytes()).decode()
    return f'<img alt="{text}" src="data:image/png;base64,{data}">'


def _inline(svg: str, prefix: str) -> str:
    """The <svg> element alone, its ids with a prefix, so that those of many pictures differ."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r"url\(#", f"url(#{prefix}", svg)
    return re.sub(r'href="#', f'href="#{prefix}', svg)
