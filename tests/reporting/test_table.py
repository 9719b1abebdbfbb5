"""One table in four forms, and the page that holds it."""

import csv
import io
from html.parser import HTMLParser

import browser
import pytest

from dfwe.reporting.html import Page, Picture
from dfwe.reporting.table import Table


@pytest.fixture
def sheet():
    rows = [["a & b", "1.00 ± 0.50", "50%"], ["c<d", "2.00", "–"], ["mean", "1.50", ""]]  # noqa: RUF001
    return Table("Table", ["task", "score", "share"], rows, last=1, note="A note.")


class Cells(HTMLParser):
    """The text of every cell, and whether all that opens is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.links = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "br", "use", "path", "img"):
            self.open.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "xlink:href")]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def test_csv_reads_back(sheet):
    assert list(csv.reader(io.StringIO(sheet.csv()))) == [sheet.columns, *sheet.rows]


def test_markdown_has_a_line_a_row_and_bold_means(sheet):
    lines = sheet.markdown().splitlines()
    assert lines[2:4] == ["| task | score | share |", "| --- | ---: | ---: |"]
    assert lines[6] == "| **mean** | 1.50 |  |"
    assert lines[-1] == "A note."


def test_latex_escapes_and_rules_off_the_means(sheet):
    lines = sheet.latex().splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[4] == r"a \& b & 1.00 $\pm$ 0.50 & 50\% \\"
    assert lines[5] == r"c\textless{}d & 2.00 & -- \\"
    assert lines[6] == r"\midrule"


def test_html_holds_the_cells(sheet):
    found = Cells(sheet.html())
    assert sheet.html().count('scope="col"') == len(sheet.columns)
    assert sheet.html().count('scope="row"') == len(sheet.rows)
    assert found.cells == [*sheet.columns, *(cell for row in sheet.rows for cell in row)]
    assert found.open == []


def test_a_raster_picture_is_held_as_data(sheet, tmp_path):
    (tmp_path / "a map.png").write_bytes(b"picture")
    pictures = {"Map": [Picture(tmp_path / "a map.png", "Where <all> lie.")]}
    text = Page("Title", "", "", [sheet], pictures).write(tmp_path).read_text()
    assert Cells(text).links == ["data:image/png;base64,cGljdHVyZQ=="]
    assert 'alt="Where &lt;all&gt; lie."' in text
    assert "<figcaption>Where &lt;all&gt; lie.</figcaption>" in text
    assert (tmp_path / "table.csv").read_text() == sheet.csv()


def test_the_page_stands_alone_and_its_pictures_keep_their_ids_apart(sheet, tmp_path):
    for name in ("one", "two"):
        (tmp_path / f"{name}.svg").write_text(
            '<?xml version="1.0"?><svg><metadata>x</metadata><defs><g id="a"></g></defs>'
            '<g clip-path="url(#a)"></g><use href="#a"/></svg>'
        )
    pictures = [Picture(path, path.stem) for path in sorted(tmp_path.iterdir())]
    text = Page("Title", "An answer.", "By a test.", [sheet], {"Pictures": pictures}).html()
    assert text.index("An answer.") < text.index("By a test.") < text.index("<table>")
    assert 'role="img" aria-label="two"' in text
    assert text.count('id="p1-a"') == text.count('id="p2-a"') == 1
    assert 'href="#p2-a"' in text
    assert "url(#p1-a)" in text
    assert all(link.startswith("#") for link in Cells(text).links)
    assert "<script" not in text


@pytest.mark.browser
def test_faults_of_a_page_are_found(tmp_path):
    """What the tests of pages rest on."""
    path = tmp_path / "page.html"
    path.write_text(
        '<!doctype html><html lang="en"><body><img src="missing.png" alt="lost">'
        '<a href="#nowhere">x</a><p style="width:2000px">wide</p>'
        "<script>console.error('broken')</script></body></html>"
    )
    with browser.chromium() as opened:
        found = browser.faults(opened, path)
    for fault in ("lost", "#nowhere", "P: wide", "broken", "missing.png"):
        assert any(fault in line for line in found), fault
