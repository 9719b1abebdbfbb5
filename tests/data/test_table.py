"""Any table of labelled texts is a corpus: JSONL, CSV, a saved data set."""

import csv
import gzip
import json

import datasets
import pytest

from dfwe.data.table import TableCorpus, classification
from dfwe.errors import UserError

ROWS = {
    "train": [("good film", "pos"), ("dull", "neg"), ("a {joy}", "pos"), ("weak", "neg")],
    "dev": [("fine", "pos")],
    "test": [("bad", "neg"), ("so so", "neg")],
}


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()


@pytest.fixture
def jsonl(tmp_path):
    folder = tmp_path / "tables" / "films"
    folder.mkdir(parents=True)
    for split, rows in ROWS.items():
        with gzip.open(folder / f"{split}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows)
    return str(folder.parent)


def read(corpus, split="train", labels=("pos", "neg")):
    return classification(
        corpus.dialogues(split, "films"), "films", labels, "text: {text}", "Out of {labels}, it is"
    )


def test_jsonl_rows_become_examples(jsonl):
    corpus = TableCorpus("t", jsonl, ["films"])
    examples = read(corpus)
    assert [e.source for e in examples][2] == "text: a {joy} Out of pos or neg, it is"
    assert [e.target for e in examples] == ["pos", "neg", "pos", "neg"]
    assert {e.options for e in examples} == {("pos", "neg")}
    assert len({e.dialogue for e in examples}) == 4
    assert corpus.labels("films") == ("neg", "pos")
    assert [len(read(corpus, split)) for split in ("dev", "test")] == [1, 2]


def test_csv_reads_as_jsonl_does(jsonl, tmp_path):
    folder = tmp_path / "csv" / "films"
    folder.mkdir(parents=True)
    for split, rows in ROWS.items():
        with (folder / f"{split}.csv").open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    wanted = read(TableCorpus("t", jsonl, ["films"]))
    assert read(TableCorpus("t", str(folder.parent), ["films"])) == wanted


def test_a_saved_data_set_names_its_classes_and_its_splits(tmp_path):
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["pos", "neg"])
    )
    columns = {"text": ["good", "dull"], "label": [0, 1]}
    table = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict(train=table, held_out=table).save_to_disk(str(tmp_path / "s/films"))
    corpus = TableCorpus(
        "t",
        str(tmp_path / "s"),
        ["films"],
        splits={"train": "train", "dev": "validation", "films/dev": "held_out", "test": "test"},
    )
    assert corpus.labels("films") == ("pos", "neg")
    assert [e.target for e in read(corpus, "dev")] == ["pos", "neg"]
    with pytest.raises(UserError, match="has no split 'test'; it has: train, held_out"):
        corpus.dialogues("test")


def test_a_limit_draws_by_seed_and_leaves_test_whole(jsonl):
    drawn = [read(TableCorpus("t", jsonl, ["films"], limit=2, seed=s)) for s in range(8)]
    assert {len(examples) for examples in drawn} == {2}
    assert drawn[0] == read(TableCorpus("t", jsonl, ["films"], limit=2, seed=0))
    assert len({tuple(e.id for e in examples) for examples in drawn}) > 1
    assert len(read(TableCorpus("t", jsonl, ["films"], limit=1), "test")) == 2


def test_a_task_reads_its_own_table_alone(jsonl):
    corpus = TableCorpus("t", jsonl, ["absent", "films"])
    assert read(corpus) == read(TableCorpus("t", jsonl, ["films"]))
    with pytest.raises(UserError, match=r"No table at .*/absent"):
        corpus.dialogues("train")
    with pytest.raises(UserError, match="has no task 'books'; it has: absent, films"):
        corpus.dialogues("train", "books")


def test_bad_tables_are_named(jsonl, tmp_path):
    (tmp_path / "tables" / "broken").mkdir()
    (tmp_path / "tables" / "broken" / "train.jsonl").write_text("{broken")
    with pytest.raises(UserError, match=r"The table 'broken' at .* cannot be read"):
        TableCorpus("t", jsonl, ["broken"]).dialogues("train")
    with pytest.raises(UserError, match=r"No table at .*/books"):
        TableCorpus("t", jsonl, ["books"]).dialogues("train")
    with pytest.raises(UserError, match="no column 'mood'; it has: text, label"):
        TableCorpus("t", jsonl, ["films"], label="mood").labels("films")
    with pytest.raises(UserError, match="unknown label 'pos'; known: good, bad"):
        read(TableCorpus("t", jsonl, ["films"]), labels=("good", "bad"))
    with pytest.raises(UserError, match="Unknown split 'eval'"):
        TableCorpus("t", jsonl, ["films"]).dialogues("eval")
