"""A corpus opens from a zip or a folder, and says clearly what is wrong with it."""

import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from dfwe.data.corpus import TLiDBCorpus, by_role
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
        (lambda raw: raw["data"][0]["dialogue"][0].update(utterance=["a"]), "utterance.*string"),
        (lambda raw: raw["data"][0]["dialogue"][0].update(speakers="Al"), "speakers.*list"),
        (lambda raw: raw["data"][0]["dialogue"][0].update(speakers=[{"a": 1}]), "speakers.0.*str"),
        (lambda raw: raw["data"][0].update(dialogue_id=7), "dialogue_id.*valid string"),
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
    with pytest.raises(UserError, match=r"mini.zip is not a readable zip .*download it again"):
        TLiDBCorpus("mini", str(packed)).dialogues("train")


def test_a_zip_that_unfolds_to_much_more_than_its_size_is_refused_by_its_directory(
    folder, tmp_path, monkeypatch
):
    """Commit 60dbe5b: 2 MB unfold to 2 GB in 4.2 GB of memory."""
    (folder / "Mini.json").write_text(" " * 5_000_000 + "{}")
    packed = zipped(folder, tmp_path / "mini.zip")
    monkeypatch.setattr(zipfile.ZipFile, "read", None)  # would raise if it were called
    with pytest.raises(UserError, match=r"unfolds to 5,00.*, more than 100 times as many; if you"):
        TLiDBCorpus("mini", str(packed)).dialogues("train")


def test_an_encrypted_zip_is_named(folder, tmp_path):
    packed = zipped(folder, tmp_path / "mini.zip")
    content = bytearray(packed.read_bytes())
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # of a file, of its entry
        at = content.find(signature)
        while at >= 0:
            content[at + flags] |= 1
            at = content.find(signature, at + 4)
    packed.write_bytes(content)
    with pytest.raises(UserError, match=r"not a readable zip \(.*encrypted.*\); download"):
        TLiDBCorpus("mini", str(packed)).dialogues("train")


def test_two_files_of_one_name_in_a_zip_are_refused(folder, tmp_path):
    packed = zipped(folder, tmp_path / "mini.zip")
    with zipfile.ZipFile(packed, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("Mini/Mini.json", "{}")
    with pytest.raises(UserError, match="has two files of one name"):
        TLiDBCorpus("mini", str(packed)).dialogues("train")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"data": ' + b"[" * 100_000, "nested too deeply"),
        ('{"data": [], "é": 1}'.encode("latin-1"), "can't decode byte 0xe9"),
        ('{"data": []}'.encode("utf-16"), "can't decode byte"),
        (b'{"data": [], "data": []}', "a name stands twice in one object"),
        (b'{"data": NaN}', "NaN is no JSON value"),
        (b'{"data": []} {}', "more follows after its value in line 1"),
        (b'{"data": "\\ud800"}', "half a character"),
    ],
)
def test_json_that_is_none_is_one_sentence(folder, content, words):
    (folder / "Mini.json").write_bytes(content)
    with pytest.raises(UserError, match=rf"Mini.json in .* is damaged \(.*{words}"):
        TLiDBCorpus("mini", str(folder)).dialogues("train")


def test_texts_may_begin_with_a_byte_order_mark_but_are_utf_8(folder):
    whole = TLiDBCorpus("mini", str(folder)).dialogues("train")
    for name in ("Mini.json", "TTiDB_train_ids.txt", "TTiDB_0.1_percent_few_shot_train_ids.txt"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes())
    assert TLiDBCorpus("mini", str(folder)).dialogues("train") == whole
    (folder / "TTiDB_test_ids.txt").write_bytes(b"\xe9")
    with pytest.raises(UserError, match=r"TTiDB_test_ids.txt in .* is not text in UTF-8"):
        TLiDBCorpus("mini", str(folder)).dialogues("test")


def test_unknown_choices_are_named(folder):
    with pytest.raises(UserError, match="Unknown split 'validation'; known: train, dev, test"):
        TLiDBCorpus("mini", str(folder)).dialogues("validation")
    with pytest.raises(UserError, match="shots=half should be 'few' or 'full'"):
        TLiDBCorpus("mini", str(folder), "half")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"corpus\.source_shots=all should be 'few' or 'full'"):
        TLiDBCorpus("mini", str(folder), source_shots="all")  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"corpus\.seed=one should be a valid integer"):
        TLiDBCorpus("mini", str(folder), seed="one")  # type: ignore[arg-type]


def ids(corpus, split, title=None):
    return [dialogue.id for dialogue in corpus.dialogues(split, title)]


SAMPLE = TLiDBCorpus("s", "shipped:sample_corpus.zip")


def test_a_seed_draws_as_many_dialogues_as_the_lists_have():
    """Commit 60dbe5b: `seed` is not known; only the lists can be read."""
    full, first, again, second = (
        replace(SAMPLE, **settings)
        for settings in ({"shots": "full"}, {"seed": 0}, {"seed": 0}, {"seed": 1})
    )
    for split in ("train", "dev"):
        drawn = ids(first, split)
        assert len(drawn) == len(set(drawn)) == len(ids(SAMPLE, split)) < len(ids(full, split))
        assert [i for i in ids(full, split) if i in set(drawn)] == drawn
        assert drawn == ids(again, split)
        assert len({tuple(ids(corpus, split)) for corpus in (SAMPLE, first, second)}) == 3
        assert ids(first, split, "MELD_emotion_recognition") == drawn
    assert ids(first, "test") == ids(SAMPLE, "test")
    assert ids(replace(full, seed=0), "train") == ids(first.whole(), "train") == ids(full, "train")


def test_the_sources_of_a_study_may_have_other_shots():
    """Commit 60dbe5b: `source_shots` is not known; target and sources read the same dialogues."""
    corpus = replace(SAMPLE, source_shots="full")
    assert ids(corpus, "train") == ids(SAMPLE, "train")
    assert ids(corpus.of_sources, "train") == ids(SAMPLE.whole(), "train")
    for plain in (SAMPLE, replace(SAMPLE, source_shots="few"), corpus.whole()):
        assert plain.of_sources is plain
    seeded = replace(corpus, seed=3)
    assert ids(seeded, "dev") == ids(replace(SAMPLE, seed=3), "dev")


def test_who_reads_a_corpus_is_known_by_the_title():
    roles = by_role(replace(SAMPLE, source_shots="full"), EMORY)
    few, full = ids(SAMPLE, "train"), ids(SAMPLE.whole(), "train")
    assert ids(roles, "train", EMORY) == few
    assert ids(roles, "train", "MELD_emotion_recognition") == full
    assert roles.labels(EMORY) == SAMPLE.labels(EMORY)
    assert ids(roles.whole(), "train", EMORY) == full
    other = by_role(roles, "MELD_emotion_recognition")
    assert ids(other, "train", "MELD_emotion_recognition") == few
    assert ids(other, "train", EMORY) == full
    assert by_role(SAMPLE, EMORY) is SAMPLE
