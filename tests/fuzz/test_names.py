"""Names of any characters in the terminal, HTML, Markdown, LaTeX, CSV, YAML and W&B."""

import csv
import io
import re
from contextlib import redirect_stderr
from html.parser import HTMLParser
from itertools import chain
from typing import NamedTuple

import pytest
import yaml
from fuzzing import names, texts
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from unfinished import unfinished

from dfwe.callbacks.progress import scoring_bar
from dfwe.data.table import TableCorpus
from dfwe.errors import UserError
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.recipe import Recipe
from dfwe.reporting.html import Page
from dfwe.reporting.model_card import Origin, model_card
from dfwe.reporting.plots import caption
from dfwe.reporting.results import DfweResult, ExpertResult, MethodResult, ModelScores
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import console, contenders, sheet, summary
from dfwe.weights.merge import mergekit_yaml

NUMBERS = ("+1.50", "-0.30", "+1.20 to +3.40", "41.00 ± 0.50", "–", "50%")  # noqa: RUF001
RECIPE = Recipe("interpolate", 1, {})


class Case(NamedTuple):
    """What a person called a task, a corpus, a model, two experts and a control."""

    task: str
    corpus: str
    model: str
    experts: tuple[str, str]
    control: str


def cases(name):
    experts = st.tuples(name, name).filter(lambda pair: pair[0] != pair[1])
    return st.builds(Case, name, name, name, experts, name)


def sound():
    return cases(names())


def unsound():
    return cases(st.one_of(names(), texts(), texts().map("{}\n".format)))


def judge(case):
    """Every writer's output, read back by another program, has the names as they are."""
    Seq2SeqLM(case.model, "nowhere")
    TableCorpus(case.corpus, "nowhere", [])
    if any(
        name != name.strip() or not name.isprintable()
        for name in (case.task, *case.experts, case.control)
    ):
        raise UserError("It is no name, as the others were checked to be.")
    check_table(case)
    check_terminal(case)
    check_card(case)
    check_yaml_and_plots(case)
    return True


def table_of(case):
    rows = [
        [case.task, "+1.50", NUMBERS[2]],
        [case.control, "-0.30", "50%"],
        [case.model, NUMBERS[3], ""],
    ]
    columns = ["task", case.experts[0], case.experts[1]]
    return Table(case.corpus, columns, rows, last=1, note=f"Of {case.task}.")


def check_table(case):
    sheet = table_of(case)
    wanted = [[*sheet.columns], *sheet.rows]
    fields = list(csv.reader(io.StringIO(sheet.csv())))
    texts_of = [*chain.from_iterable(wanted)]
    for field, text in zip(chain.from_iterable(fields), texts_of, strict=True):
        assert field in (text, f"'{text}")
        assert field == text or text not in NUMBERS
        assert (
            field in NUMBERS
            or field[:1] not in ("=", "+", "-", "@", "\t", "\r")
            or float(field) is not None
        )
    assert cells_of_markdown(sheet.markdown()) == [case.corpus, *texts_of, sheet.note]
    lines = sheet.latex().splitlines()
    rows = [line.removesuffix(r" \\") for line in lines if line.endswith(r" \\")]
    assert [[*map(typeset, split(row))] for row in rows] == wanted
    html = Page(case.corpus, case.model, f"{case.control}.", [sheet], {case.task: []}).html()
    title, heading, answer, origin, *rest = Texts(html).found
    assert [title, heading, answer] == [case.corpus, case.corpus, case.model]
    assert origin.startswith(f"{case.control}. Computed on ")
    assert rest == [case.corpus, *texts_of, sheet.note, case.task]


class Texts(HTMLParser):
    """What a browser shows, element by element; no element but those of a page is there."""

    SHOWN = frozenset("title h1 h2 p caption td th".split())
    KNOWN = SHOWN | frozenset("html head body main meta style div table thead tbody tr".split())
    ATTRIBUTES = frozenset("charset name content lang class scope tabindex".split())

    def __init__(self, text):
        super().__init__()
        self.found, self.inside = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        assert tag in self.KNOWN
        assert {name for name, _ in attrs} <= self.ATTRIBUTES
        self.inside = tag
        if tag in self.SHOWN:
            self.found.append("")

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside in self.SHOWN:
            self.found[-1] += data


def cells_of_markdown(text):
    """The texts of headings, cells and paragraphs; each is nothing but text, or bold."""
    found = []
    for token in MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text):
        if token.type == "inline":
            kinds = {child.type for child in token.children}
            assert kinds <= {"text", "strong_open", "strong_close", "text_special"}
            found.append("".join(child.content for child in token.children))
    return found


def split(row):
    return re.split(r"(?<!\\) & ", row)


def typeset(text):
    """What LaTeX sets: its commands are known ones, and no other character is special."""
    commands = {
        r"\textbackslash{}": "\\",
        r"\textasciitilde{}": "~",
        r"\textasciicircum{}": "^",
        r"\textasciigrave{}": "`",
        r"\textless{}": "<",
        r"\textgreater{}": ">",
        r"\char34{}": '"',
        "{[}": "[",
        "{]}": "]",
        "-{}": "-",
        "'{}": "'",
        r"$\pm$": "±",
        r"$\times$": "×",  # noqa: RUF001
        "--": "–",  # noqa: RUF001
        **{f"\\{letter}": letter for letter in "&%$#_{}"},
    }
    known = re.compile("|".join(map(re.escape, commands)))
    assert not set(known.sub("", text)) & set('\\~^&%$#_{}[]`<>"')
    return known.sub(lambda command: commands[command[0]], text)


def results_of(case):
    return unfinished(
        task=case.task,
        model=case.model,
        corpus=case.corpus,
        sources=[*case.experts],
        experts=[
            ExpertResult(label=label, address="ab", dev=40.0, test=39.0) for label in case.experts
        ],
        baseline=ModelScores(dev=39.0, test=38.0),
        uniform=ModelScores(dev=41.0, test=40.0),
        dfwe=DfweResult(
            alpha=dict(zip(case.experts, (0.25, 0.75), strict=True)),
            dev=44.0,
            test=43.0,
            evaluations=9,
            iterations=2,
        ),
    )


def method(name):
    return MethodResult(
        name=name,
        dev=1.0,
        test=2.0,
        delta=1.0,
        interval=None,
        seconds=None,
        evaluations=None,
        tokens=None,
        flops=None,
    )


def check_terminal(case):
    terminal = console()
    terminal.file, terminal.width = io.StringIO(), 500
    terminal.print(summary(results_of(case)))
    terminal.print(contenders([method("baseline"), method(case.control)]))
    terminal.print(sheet(table_of(case), terminal))
    terminal.print(f"plots        /tmp/{case.task}", soft_wrap=True)
    shown = terminal.file.getvalue()
    for name in (case.task, case.corpus, case.model, *case.experts):
        assert name in shown
    assert case.control.replace("_", " ").strip() in shown
    assert f"/tmp/{case.task}\n" in shown
    bars = io.StringIO()
    with redirect_stderr(bars), scoring_bar(f"test {case.task}", 1) as advance:
        advance()
    assert f"test {case.task[:20]}" in bars.getvalue()


def check_card(case):
    origins = {label: Origin(f"/models/{label}", case.model) for label in case.experts}
    card = model_card(results_of(case), RECIPE, "seq2seq", origins)
    _, head, body = re.split(r"^---\n", card, maxsplit=2, flags=re.M)
    (entry,) = yaml.safe_load(head)["model-index"]
    assert {result["task"]["name"] for result in entry["results"]} == {case.task}
    assert {result["dataset"]["name"] for result in entry["results"]} == {case.corpus}
    tokens = [
        token
        for token in MarkdownIt("commonmark").enable("table").parse(body)
        if token.type == "inline"
    ]
    inner = [child for token in tokens for child in token.children]
    codes = [child.content for child in inner if child.type == "code_inline"]
    assert {case.task, case.corpus, case.model} <= {*codes}
    plain = ["".join(child.content for child in token.children) for token in tokens]
    assert plain[0] == f"{case.task}, a mixture of 2 models"
    assert {*case.experts} <= {*plain}
    assert any(", ".join(case.experts) in text for text in plain)
    assert {child.type for child in inner} <= {
        "text",
        "text_special",
        "code_inline",
        "link_open",
        "link_close",
        "softbreak",
    }
    assert {x.attrs["href"] for x in inner if x.type == "link_open"} == {
        "https://arxiv.org/abs/2307.03506"
    }


def check_yaml_and_plots(case):
    from matplotlib.text import Text

    models = yaml.safe_load(mergekit_yaml([0.5, 0.5], case.experts))["models"]
    assert [model["model"]["model"]["path"] for model in models] == [*case.experts]
    shown, is_math = Text()._preprocess_math(caption(case.task))
    assert is_math is False
    assert shown.strip() == case.task or "…" in shown


def test_names_are_read_as_nothing_but_names(fuzz):
    fuzz("names", judge, sound(), unsound())


@pytest.fixture(autouse=True)
def _colourless(monkeypatch):
    monkeypatch.setenv("NO_COLOR", "1")
