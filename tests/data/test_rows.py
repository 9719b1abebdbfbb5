"""Tables are read as text: every value as the file spells it, or one sentence on its place."""

import csv
import gzip
import json
from datetime import date

import datasets
import pyarrow
import pytest
from pyarrow import parquet

from dfwe.data.rows import Row, Table, read_dataset, read_files
from dfwe.errors import UserError

WORDS = ("null", "NA", "None", "n/a", "nan", "NULL", "", "#N/A", "-", "true", "True")
CODES = ("007", "1.50", "1e5", "0x10", "+1", "1_000", "9" * 30, "١٢", "2023-10-14", "12:30")
SPACED = (" a ", "a\tb", "a\nb", "a\r\nb", "\n", 'say "hi"', "a,b", "a\u2028b", "\0", "naïve 🙂")


def read(folder, name, content, column="text"):
    """The texts of a column of a split of one file."""
    data = content if isinstance(content, bytes) else content.encode()
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return [row[column] for row in read_files(folder, [name.partition(".")[0]])]


def told(folder, name, content, column="text"):
    """The sentence about a file that cannot be read."""
    with pytest.raises(UserError) as error:
        read(folder, name, content, column)
    return str(error.value)


@pytest.mark.parametrize("name", ["train.csv", "train.tsv", "train.csv.gz"])
def test_a_field_of_csv_is_its_characters(tmp_path, name):
    texts = WORDS + CODES + SPACED + ("x" * 200_000,)
    with (tmp_path / "written").open("w", newline="", encoding="utf-8") as file:
        delimiter = "\t" if ".tsv" in name else ","
        csv.writer(file, delimiter=delimiter).writerows([("text", "n"), *((t, 1) for t in texts)])
    assert tuple(read(tmp_path, name, (tmp_path / "written").read_bytes())) == texts


def test_a_string_of_json_is_itself_whatever_it_looks_like(tmp_path):
    texts = WORDS + CODES + SPACED
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts)
    assert tuple(read(tmp_path, "train.jsonl", lines)) == texts
    assert tuple(read(tmp_path, "dev.json", json.dumps([{"text": t} for t in texts]))) == texts
    assert tuple(read(tmp_path, "test.jsonl.gz", lines)) == texts


def test_a_number_of_json_is_as_written(tmp_path):
    numbers = ["1.50", "1E5", "-0", "0.10000000000000000001", "1" + "0" * 5000, "true", "false"]
    lines = "".join(f'{{"text": {number}}}\n' for number in numbers)
    assert read(tmp_path, "train.jsonl", lines) == numbers


def test_a_json_file_is_a_list_or_one_object_after_the_other(tmp_path):
    spread = '[\n {"text":\n  "a"},\n {"text": 1.0}\n]\n'
    assert read(tmp_path, "train.json", spread) == ["a", "1.0"]
    assert read(tmp_path, "dev.json", '{"text": "a"}\n{"text": 1.0}') == ["a", "1.0"]
    assert read(tmp_path, "test.json", "[]") == []
    assert "line 4, has no 'text'" in told(tmp_path, "x.json", spread.replace("1.0", "null"))


def test_rows_are_counted_by_the_line_they_begin_on(tmp_path):
    content = 'text,label\n"a\nb",x\n\nc,y\n'
    assert read(tmp_path, "train.csv", content) == ["a\nb", "c"]
    [first, second] = read_files(tmp_path, ["train"])
    assert (first.place, second.place) == (
        f"{tmp_path}/train.csv, line 2,",
        f"{tmp_path}/train.csv, line 5,",
    )


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    assert read(tmp_path, "train.csv", "\ufefftext,n\na,1\n") == ["a"]
    assert read(tmp_path, "dev.jsonl", '\ufeff{"text": "a"}\n') == ["a"]


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("name", ["train.csv", "train.jsonl"])
def test_another_encoding_is_one_sentence(tmp_path, encoding, name):
    row = 'text,n\n"é",1\n' if name == "train.csv" else '{"n": 1}\n{"text": "é"}\n'
    told(tmp_path, name, row.encode(encoding))


def test_the_line_of_a_byte_that_is_not_utf_8_is_named(tmp_path):
    words = told(tmp_path, "train.csv", b"text,n\na,1\nb,2\n\xe9,3\n")
    assert words == (
        f"{tmp_path}/train.csv, line 4, is not text in UTF-8 (invalid continuation byte); save "
        "the file in UTF-8."
    )


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", "text,n\nx\n", "line 2, has 1 fields where the header has 2"),
        ("a.csv", "text,n\nx,y,z\n", "line 2, has 3 fields where the header has 2"),
        ("a.csv", 'text,n\nx,"y\nz,1\n', r"line 2, is not CSV \(unexpected end of data\)"),
        ("a.csv", 'text,n\n"x"y,1\n', "line 2, is not CSV"),
        ("a.csv", "text,text\nx,y\n", "has two columns 'text'; rename one"),
        ("a.csv", "t,n\nx,1\n", "has no column 'text'; it has: t, n"),
        ("a.jsonl", '{"text": "x"}\n{"text": "y"\n', "line 2, is not JSON"),
        ("a.jsonl", '{"text": 007}', "line 1, is not JSON"),
        ("a.jsonl", '{"text": NaN}', r"line 1, is not JSON \(NaN is no JSON value\)"),
        ("a.jsonl", '{"text": "x", "text": "y"}', "a name stands twice in one object"),
        ("a.jsonl", '{"text": "x"} {"text": "y"}', "line 1, has more than one value"),
        ("a.jsonl", '["x"]', "line 1, is no row"),
        ("a.jsonl", "[" * 100_000, "line 1, is not JSON"),
        ("a.json", '[{"text": "x"} {"text": "y"}]', "line 1, is not JSON"),
        ("a.json", '[{"text": "x"},\n', "line 2, is not JSON"),
        ("a.json", '[{"text": "x"},]', "line 1, is not JSON"),
        ("a.json", '[{"text": "x"}] 1', "line 1, is not JSON"),
        ("a.json", "[] 1", "line 1, is not JSON"),
        ("a.jsonl", '\n{"text": null}', "line 2, has no 'text'; fill it in or take the row out"),
        ("a.jsonl", '{"n": 1}\n{"text": "x"}', "line 1, has no 'text'"),
        ("a.jsonl", '{"text": {"a": 1}}', "line 1, has a 'text' that is an object"),
        ("a.jsonl", '{"text": ["x"]}', "line 1, has a list of texts as 'text'"),
        ("a.jsonl", '{"text": "\\ud800"}', "line 1, has a 'text' that is text with half a"),
        ("a.parquet", "no Parquet", r"a\.parquet is not Parquet"),
    ],
)
def test_what_cannot_be_read_is_named_with_file_and_line(tmp_path, name, content, words):
    with pytest.raises(UserError, match=words):
        read(tmp_path, name, content)


def test_a_cut_gzip_is_named(tmp_path):
    (tmp_path / "train.csv.gz").write_bytes(gzip.compress(b"text\nx\n" * 99)[:-9])
    with pytest.raises(UserError, match=r"train\.csv\.gz cannot be read"):
        read_files(tmp_path, ["train"])


def row_of(value):
    return Row.of({"label": value}, "d1")


def test_a_list_is_several_accepted_answers_in_the_column_of_answers_alone():
    assert row_of(["a", "b"]).answers("label") == ("a", "b")
    assert row_of("a").answers("label") == ("a",)
    for nothing in (None, "", []):
        with pytest.raises(UserError, match="d1 has no 'label'; fill it in"):
            row_of(nothing).answers("label")
    with pytest.raises(UserError, match="d1 has a list of texts as 'label', where one is needed"):
        row_of(["a", "b"])["label"]
    with pytest.raises(UserError, match="d1 has a 'label' that is a list of more than texts"):
        row_of(["a", None]).answers("label")
    assert "label" in row_of("a")
    assert "label" not in row_of(None)
    assert "other" not in row_of("a")


PARQUET = {
    "text": pyarrow.array(["NA", None, "007"]),
    "large": pyarrow.array(["a", "b", "c"], pyarrow.large_string()),
    "coded": pyarrow.array(["a", None, "a"]).dictionary_encode(),
    "whole": pyarrow.array([-1, 2**62, None]),
    "byte": pyarrow.array([0, 255, 7], pyarrow.uint8()),
    "several": pyarrow.array([["a"], ["b", "c"], None]),
    "numbers": pyarrow.array([[1], [2, 3], []]),
    "double": pyarrow.array([1.5, None, 2.0]),
    "flag": pyarrow.array([True, False, None]),
    "day": pyarrow.array([date(2023, 10, 14)] * 3),
    "raw": pyarrow.array([b"a", b"b", b"c"]),
    "empty": pyarrow.nulls(3),
}


@pytest.fixture
def columns(tmp_path):
    """The rows of a Parquet file that has a column of each type."""
    parquet.write_table(pyarrow.table(PARQUET), tmp_path / "train.parquet")
    return read_files(tmp_path, ["train"])


@pytest.mark.parametrize(
    ("column", "texts"),
    [
        ("text", ["NA", None, "007"]),
        ("large", ["a", "b", "c"]),
        ("coded", ["a", None, "a"]),
        ("whole", ["-1", "4611686018427387904", None]),
        ("byte", ["0", "255", "7"]),
        ("several", [("a",), ("b", "c"), None]),
        ("numbers", [("1",), ("2", "3"), None]),
        ("empty", [None, None, None]),
    ],
)
def test_texts_and_whole_numbers_of_parquet_are_read(columns, column, texts):
    for row, text in zip(columns, texts, strict=True):
        if text is None:
            with pytest.raises(UserError, match=f"train.parquet, row [123], has no '{column}'"):
                row.answers(column)
        else:
            assert row.answers(column) == ((text,) if isinstance(text, str) else text)


@pytest.mark.parametrize("column", ["double", "flag", "day", "raw"])
def test_other_types_of_parquet_are_refused_with_the_cast_to_make(columns, column):
    words = rf"row 1, has a '{column}' that is of the type .*frame\[column\]\.astype\(str\)"
    with pytest.raises(UserError, match=words):
        columns[0][column]


def test_the_cast_that_the_sentence_names_makes_the_column_readable(tmp_path):
    frame = pyarrow.table({"text": PARQUET["double"]}).to_pandas()
    frame["text"] = frame["text"].astype(str)
    frame.to_parquet(tmp_path / "train.parquet")
    assert read_files(tmp_path, ["train"])[0]["text"] == "1.5"


def test_a_class_that_datasets_numbered_is_read_by_its_name(tmp_path):
    features = datasets.Features(label=datasets.ClassLabel(names=["neg", "pos"]))
    numbered = datasets.Dataset.from_dict({"label": [1, 0, -1]}, features=features)
    numbered.to_parquet(tmp_path / "train.parquet")
    direct = Table("row")
    read_dataset(numbered, "memory", direct)
    for table in (read_files(tmp_path, ["train"]), direct):
        assert [table[0]["label"], table[1]["label"]] == ["pos", "neg"]
        assert table.names == {"label": ("neg", "pos")}
        with pytest.raises(UserError, match="row 3, has no 'label'"):  # -1 is a hidden one
            table[2]["label"]


def test_rows_selected_of_a_data_set_are_those_read():
    chosen = datasets.Dataset.from_dict({"text": list("abcd")}).select([3, 1])
    table = Table("row")
    read_dataset(chosen, "memory", table)
    assert [row["text"] for row in table] == ["d", "b"]


def test_numbered_parts_are_one_split_and_must_all_be_there(tmp_path):
    for part in range(3):
        name = f"train-{part:05d}-of-00003.csv"
        (tmp_path / name).write_text(f"text\n{part}\n")
    table = read_files(tmp_path, ["train"])
    assert [row["text"] for row in table] == ["0", "1", "2"]
    assert table[2].place == f"{tmp_path}/train-00002-of-00003.csv, line 2,"
    (tmp_path / "train-00001-of-00003.csv").unlink()
    with pytest.raises(UserError, match="has 2 of the 3 parts of train; get all"):
        read_files(tmp_path, ["train"])


def test_a_column_of_later_rows_is_missing_in_the_earlier_ones(tmp_path):
    lines = '{"b": "1"}\n{"a": "2", "b": "3"}\n{"b": "4", "c": "5"}\n'
    assert read(tmp_path, "train.jsonl", lines, "b") == ["1", "3", "4"]
    table = read_files(tmp_path, ["train"])
    assert [["a" in row, "c" in row] for row in table] == [[0, 0], [1, 0], [0, 1]]
    assert (table[1]["a"], table[2]["c"]) == ("2", "5")
