"""A corpus opens from a zip or a folder, and says clearly what is wrong with it."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from dfwe.data.corpus import TLiDBCorpus
from dfwe.errors import UserError

GOLDENS = Path(__file__).parents[1] / "goldens"
FILES = [*GOLDENS.glob("*.json"), *GOLDENS.glob("TTiDB_*")]
EMORY = "emory_emotion_recognition"


@pytest.fixture
def folder(tmp_path):
    """The hand-made corpus, unpacked."""
    made = tmp_path / "Mini"
    made.mkdir()
    for file in FILES:
        shutil.copy(file, made)
    return made


def zipped(folder: Path, path: Path, prefix: str = "Mini/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return path


def edited(folder: Path, change) -> str:
    file = folder / "Mini.json"
    raw = json.loads(file.read_text())
    change(raw)
    file.write_text(json.dumps(raw))
    return str(folder)


def test_zip_folder_with_a_zip_and_unpacked_folder_are_the_same_corpus(folder, tmp_path):
    packed = zipped(folder, tmp_path / "mini.zip")
    (tmp_path / "holder").mkdir()
    shutil.copy(packed, tmp_path / "holder")
    paths = (folder, folder.parent, packed, tmp_path / "holder")
    read = [TLiDBCorpus("mini", str(path)).dialogues("train") for path in paths]
    assert read[0][0].turns[0].text == "I lost my blue hat again."
    assert all(dialogues == read[0] for dialogues in read)


def test_few_shots_read_the_short_lists_and_test_is_always_whole(folder):
    (folder / "TTiDB_train_ids.txt").write_text("hat\ncat\n")
    few, full = (TLiDBCorpus("mini", str(folder), shots) for shots in ("few", "full"))
    assert [d.id for d in few.dialogues("train")] == ["hat"]
    assert [d.id for d in full.dialogues("train")] == ["hat", "cat"]
    assert few.dialogues("test") == full.dialogues("test")


def test_the_corpus_declares_its_labels(folder):
    corpus = TLiDBCorpus("mini", str(folder))
    assert corpus.labels("character_identification") == ("ann", "bo", "other")
    with pytest.raises(UserError, match="no task 'sarcasm'; it has: emory_emotion"):
        corpus.labels("sarcasm")


def test_nothing_is_written_when_a_zip_names_files_outside_its_folder(folder, tmp_path):
    packed = zipped(folder, tmp_path / "mini.zip")
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr("../evil.json", "{}")
        archive.writestr("/evil.json", "{}")
        archive.writestr("__MACOSX/Mini/._Mini.json", "{}")
    before = set(tmp_path.rglob("*"))
    assert len(TLiDBCorpus("mini", str(packed)).dialogues("train")) == 1
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw.pop("data"), "has no 'data'"),
        (lambda raw: raw["data"].pop(0), "names the dialogue 'hat'"),
        (lambda raw: raw["data"][0].pop("dialogue"), "has no 'data.0.dialogue'"),
        (lambda raw: raw.update(data={}), r"has a wrong 'data' \(input should be a valid list\)"),
        (lambda raw: raw["data"].insert(0, 7), r"'data.0' \(input should be an object\)"),
        (lambda raw: raw["data"][0]["dialogue"][0].update(utterance=1), "utterance.*valid string"),
        (lambda raw: raw["data"].append(raw["data"][0]), "1 dialogues whose id"),
    ],
)
def test_a_damaged_json_is_named(folder, change, message):
    with pytest.raises(UserError, match=message):
        TLiDBCorpus("mini", edited(folder, change)).dialogues("train")


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(UserError, match=r"No data at .*DFWE_DATA"):
        TLiDBCorpus("mini", str(tmp_path / "nowhere")).dialogues("train")
    (folder / "TTiDB_dev_ids.txt").unlink()
    with pytest.raises(UserError, match=r"has no TTiDB_dev_ids.txt"):
        TLiDBCorpus("mini", str(folder), "full").dialogues("dev")
    (folder / "Mini.json").write_text("{broken")
    with pytest.raises(UserError, match=r"Mini.json in .* is damaged"):
        TLiDBCorpus("mini", str(folder)).dialogues("train")


@pytest.mark.parametrize("damage", ["cut", "flip", "text"])
def test_a_damaged_zip_is_named(folder, tmp_path, damage):
    packed = zipped(folder, tmp_path / "mini.zip")
    content = bytearray(packed.read_bytes())
    if damage == "flip":
        content[80:400] = bytes(320)
    packed.write_bytes({"cut": content[:900], "flip": content, "text": b"<html>"}[damage])
    with pytest.raises(UserError, match=r"mini.zip is not a readable zip .*get it again"):
        TLiDBCorpus("mini", str(packed)).dialogues("train")


def test_unknown_choices_are_named(folder):
    with pytest.raises(UserError, match="Unknown split 'validation'; known: train, dev, test"):
        TLiDBCorpus("mini", str(folder)).dialogues("validation")
    with pytest.raises(UserError, match="shots=half should be 'few' or 'full'"):
        TLiDBCorpus("mini", str(folder), "half")  # type: ignore[arg-type]
