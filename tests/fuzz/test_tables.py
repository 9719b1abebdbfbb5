"""Tables of any content, read by the standard library (Parquet by pyarrow) beside dfwe."""

import csv
import gzip
import io
import json
import shutil
from functools import partial
from typing import NamedTuple

from fuzzing import damaged, mutated, names, texts
from hypothesis import strategies as st
from plain_scores import compare, label_scores, text_scores

from dfwe.data.table import TableCorpus, classification, text
from dfwe.tasks.answers import FreeText, Label
from dfwe.tasks.metrics import F1, Accuracy, ExactMatch
from dfwe.tasks.task import Task


class Case(NamedTuple):
    """One table, a task that reads it, and what a model answered."""

    file: str
    content: bytes
    labels: list[str] | None  # the task's: none is free text, None takes the table's
    context: str
    prompt: str
    answers: list[str]
    others: dict[str, bytes] = {}  # noqa: RUF012


@st.composite
def documents(draw):
    """Columns, rows of texts, and the labels."""
    columns = draw(
        st.lists(
            names().filter(lambda x: not set(x) & set("{}")), min_size=1, max_size=3, unique=True
        )
    )
    columns = [name for name in columns if name not in ("label", "id", "labels")]
    labels = draw(st.lists(names(), min_size=1, max_size=4, unique_by=str.lower))
    rows = draw(
        st.lists(
            st.fixed_dictionaries(
                {**dict.fromkeys(columns, texts()), "label": st.sampled_from(labels)}
            ),
            min_size=1,
            max_size=6,
        )
    )
    if draw(st.booleans()):
        numbers = draw(st.lists(texts(), min_size=len(rows), max_size=len(rows), unique=True))
        rows = [{"id": number, **row} for number, row in zip(numbers, rows, strict=True)]
    return columns, labels, rows


def written(kind, rows, header=None):
    """A file of the rows, by whom the format is the library's own."""
    if kind in ("csv", "tsv"):
        out = io.StringIO(newline="")
        writer = csv.writer(out, delimiter="\t" if kind == "tsv" else ",", quoting=csv.QUOTE_ALL)
        header = header or list(rows[0])
        writer.writerows([header, *([row.get(name, "") for name in header] for row in rows)])
        return out.getvalue().encode("utf-8", "surrogatepass")
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1, ensure_ascii=True).encode()
    import pyarrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


KINDS = ("csv", "tsv", "jsonl", "json", "parquet")


@st.composite
def sound(draw):
    columns, labels, rows = draw(documents())
    kind = draw(st.sampled_from(KINDS))
    content, zipped = written(kind, rows), kind != "parquet" and draw(st.booleans())
    if kind in ("csv", "jsonl", "json") and draw(st.booleans()):
        content = b"\xef\xbb\xbf" + content
    texts_of = "".join(f" {draw(names().map(_literal))} {{{name}}}" for name in columns)
    free = draw(st.sampled_from([False, False, True]))
    answers = [
        draw(
            st.sampled_from(
                [row["label"], labels[0], labels[-1].upper(), f" {labels[-1]} ", "x", ""]
            )
        )
        for row in rows
    ]
    return Case(
        f"test.{kind}{'.gz' if zipped else ''}",
        gzip.compress(content, mtime=0) if zipped else content,
        [] if free else draw(st.sampled_from([labels, None])),
        f"row:{texts_of}",
        draw(st.sampled_from(["is it {labels}?", "", "it is", "{label}"])),
        answers,
        draw(
            st.sampled_from(
                [{}, {"README.md": b"---\nx"}, {"test.txt": b"x"}, {"tested.csv": b"a"}]
            )
        ),
    )


def _literal(text):
    return text.replace("{", "{{").replace("}", "}}")


@st.composite
def unsound(draw):
    """A sound table with something wrong in its values, its bytes, its templates or beside it."""
    case = draw(sound())
    how = draw(
        st.sampled_from(["value", "value", "bytes", "template", "labels", "file", "beside"])
    )
    if how == "value":
        columns, labels, rows = draw(documents())
        kind = draw(st.sampled_from(["jsonl", "json", "csv", "parquet"]))
        if kind == "parquet":
            values = [1.5, True, b"x", {"a": 1}, [1.5], ["x", "y"], None, [], [None], 7]
            name, value = draw(st.sampled_from(list(rows[0]))), draw(st.sampled_from(values))
            content = written(kind, [{**row, name: value} for row in rows])
        elif kind == "csv":
            rows = draw(mutated(rows, texts()))
            rows = [row for row in rows if isinstance(row, dict) and row] or [{"label": "x"}]
            header = draw(
                st.sampled_from([None, ["label"], ["label", "label"], list(rows[0]) * 2])
            )
            content = written(kind, rows, header)
        else:
            content = written(kind, draw(mutated(rows)))
        return case._replace(
            file=f"test.{kind}",
            content=content,
            context="row:" + "".join(f" {{{name}}}" for name in columns),
            labels=draw(st.sampled_from([labels, None, []])),
        )
    if how == "bytes":
        return case._replace(content=draw(damaged(case.content)))
    if how == "template":
        wrong = draw(
            st.sampled_from(
                [
                    "{",
                    "}",
                    "{}",
                    "{0}",
                    "{nowhere}",
                    "{label.x}",
                    "{label[0]}",
                    "{label!r}",
                    "{label:>5}",
                    "{label:d}",
                    "{label!x}",
                    "{labels",
                    "{label:{label}}",
                    "{__class__}",
                    "{label.__class__}",
                ]
            )
        )
        return case._replace(**{draw(st.sampled_from(["context", "prompt"])): wrong})
    if how == "labels":
        return case._replace(labels=draw(mutated(case.labels or ["x", "y"])))
    if how == "file":
        return case._replace(
            file=draw(
                st.sampled_from(
                    [
                        "test.csv",
                        "test.json",
                        "test.parquet",
                        "test.jsonl.gz",
                        "test-00000-of-00001.csv",
                        "test-00001-of-00002.csv",
                        "dev.csv",
                        "test",
                        "test.xlsx",
                    ]
                )
            )
        )
    other = draw(st.sampled_from(["test.csv", "test.jsonl", "test-00000-of-00002.jsonl"]))
    return case._replace(others={other: case.content})


def judge(folder, case):
    """dfwe's examples and score are those of plain code."""
    table = folder / "table"
    shutil.rmtree(table, ignore_errors=True)
    table.mkdir(parents=True)
    for name, content in {**case.others, case.file: case.content}.items():
        (table / name).write_bytes(content)
    corpus = TableCorpus(
        "t", str(folder), ["table"], splits={"train": "test", "dev": "test", "test": "test"}
    )
    free = case.labels == []
    reader = partial(text, answer="label") if free else classification
    read = partial(reader, context=case.context, prompt=case.prompt)
    metrics = [ExactMatch()] if free else [Accuracy(), F1("macro"), F1("weighted")]
    task = Task(
        "t", "table", read, FreeText() if free else Label(), metrics, 5, labels=case.labels
    )
    examples = task.examples(corpus, "test")
    rows = plain_rows(case)
    assert [example.source for example in examples] == [
        filled(case, row, examples[0].options) for row in rows
    ]
    golds = [row["label"] if isinstance(row["label"], list) else [row["label"]] for row in rows]
    assert [list(example.references) for example in examples] == golds
    numbers = [row.get("id", f"test-{number}") for number, row in enumerate(rows)]
    assert [example.id for example in examples] == [f"table/{number}" for number in numbers]
    answers = [answer for answer in (case.answers * len(rows))[: len(rows)]]
    scores = task.score(answers, examples)
    if free:
        due = {"exact_match": text_scores(answers, golds)["exact_match"]}
    else:
        known = {gold for row in golds for gold in row}
        options = sorted(known) if case.labels is None else case.labels
        assert sorted(examples[0].options) == sorted(options)
        due = label_scores(answers, golds, options)
    compare(scores, due)
    return True


def filled(case, row, options):
    """The templates with the row's texts in the place of its names."""
    parts = [spelled(template, row, options) for template in (case.context, case.prompt)]
    return f"{parts[0]} {parts[1]}".lstrip() if parts[1] else parts[0]


def spelled(template, row, options):
    text = ""
    while template:
        if template[:2] in ("{{", "}}"):
            text, template = text + template[0], template[2:]
        elif template[0] == "{":
            name, template = template[1:].split("}", 1)
            text += " or ".join(options) if name == "labels" else row[name]
        else:
            assert template[0] != "}"
            text, template = text + template[0], template[1:]
    return text


def plain_rows(case):
    """The rows as the standard library and pyarrow read them; any error is a wrong reading."""
    content = gzip.decompress(case.content) if case.file.endswith(".gz") else case.content
    kind = case.file.removesuffix(".gz").rpartition(".")[2]
    if kind == "parquet":
        from pyarrow import parquet

        rows = parquet.read_table(io.BytesIO(content)).to_pylist()
        return [{name: plain(value) for name, value in row.items()} for row in rows]
    text = content.decode("utf-8-sig")
    if kind in ("csv", "tsv"):
        lines = csv.reader(
            io.StringIO(text, newline=""), delimiter="\t" if kind == "tsv" else ",", strict=True
        )
        header, *rows = [row for number, row in enumerate(lines) if row or not number]
        assert len(set(header)) == len(header)
        return [dict(zip(header, row, strict=True)) for row in rows]
    if kind == "json" and text.lstrip().startswith("["):
        rows = loads(text)
    elif kind == "json":
        rows = (
            loads(f"[{text.replace('}{', '},{')}]")
            if text.count("\n{") == 0
            else [loads(part) for part in text.splitlines()]
        )
    else:
        rows = [loads(line) for line in text.split("\n") if line.strip()]
    return [{name: plain(value) for name, value in row.items()} for row in rows]


def loads(text):
    return json.loads(text, parse_int=str, parse_float=str, object_pairs_hook=once)


def once(pairs):
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def plain(value):
    """A value as text, or a list of texts; None is missing."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return [plain(item) for item in value]
    return str(value) if isinstance(value, int) else value


def test_tables_are_read_right_or_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("tables", partial(judge, tmp_path), sound(), unsound())
