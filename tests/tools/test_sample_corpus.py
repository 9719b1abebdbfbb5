"""The sample corpus: made by its script, consistent in itself, of the sizes the tasks need."""

import zipfile
from collections import Counter
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

import dfwe
import sample_corpus
import sample_words
from dfwe.data.corpus import TLiDBCorpus

ROOT = Path(__file__).parents[2]
SHIPPED = Path(dfwe.__file__).parent / "assets/sample_corpus.zip"
CORPUS = TLiDBCorpus("sample", "shipped:sample_corpus.zip")
TASKS = ("emory", "meld", "reading", "characters", "qa", "personality", "relations")
SIZES = {"train": (80, 250), "dev": (45, 130), "test": (150, 300)}


@pytest.fixture(scope="module")
def tasks():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        configs = {name: compose("config", overrides=[f"task={name}"]) for name in TASKS}
        return {n: instantiate(cfg.task, _convert_="all") for n, cfg in configs.items()}


def contents(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def test_the_script_makes_the_shipped_corpus(tmp_path):
    sample_corpus.write(tmp_path / "made.zip", seed=0)
    assert contents(tmp_path / "made.zip") == contents(SHIPPED)


def test_a_seed_decides_every_byte(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        sample_corpus.write(tmp_path / name, seed)
    made = [(tmp_path / name).read_bytes() for name in "abc"]
    assert made[0] == made[1]
    assert made[0] != made[2]


def test_the_corpus_is_small_and_its_splits_share_no_dialogue():
    assert SHIPPED.stat().st_size <= 700_000
    full = CORPUS.whole()
    ids = {split: {d.id for d in full.dialogues(split)} for split in SIZES}
    assert not ids["train"] & ids["dev"]
    assert not ids["test"] & (ids["train"] | ids["dev"])
    for split in ("train", "dev"):
        assert {d.id for d in CORPUS.dialogues(split)} < ids[split]


@pytest.mark.parametrize("name", TASKS)
def test_a_task_has_enough_examples_and_no_answer_that_is_nearly_always_right(name, tasks):
    known = {example.target for example in tasks[name].examples(CORPUS, "train")}
    for split, (least, most) in SIZES.items():
        examples = tasks[name].examples(CORPUS, split)
        assert least <= len(examples) <= most
        assert len({example.dialogue for example in examples}) >= 10
        often = Counter(e.target for e in examples).most_common(1)[0][1] / len(examples)
        assert often < (0.65 if name == "personality" else 0.5)
        if name not in ("qa", "reading"):
            assert {example.target for example in examples} <= known


def test_the_two_emotion_labels_of_a_turn_agree_on_a_mood():
    moods = {mood[:2] for mood in sample_words.MOODS.values()}
    titles = ("emory_emotion_recognition", "MELD_emotion_recognition")
    turns = [turn for dialogue in CORPUS.whole().dialogues("train") for turn in dialogue.turns]
    pairs = {
        tuple(turn.annotations[title]["label"] for title in titles)
        for turn in turns
        if all(title in turn.annotations for title in titles)
    }
    assert pairs == moods


def test_a_mention_stands_where_it_says_and_names_mean_whom_they_name():
    seen = 0
    for dialogue in CORPUS.whole().dialogues("train"):
        for turn in dialogue.turns:
            for mention in turn.annotations.get("character_identification", ()):
                start, text = mention["start"], mention["entity_reference"]
                assert turn.text[start : start + len(text)] == text
                whom = mention["entity"]
                assert text == whom or text[0].islower() or text in ("I", "You", "She", "He")
                assert text != "I" or turn.speakers == (whom,)
                seen += 1
    assert seen > 1000


def test_an_answer_is_found_in_its_turn_or_is_the_speaker_or_hearer():
    for dialogue in CORPUS.whole().dialogues("dev"):
        speakers = {speaker for turn in dialogue.turns for speaker in turn.speakers}
        for entry in dialogue.annotations.get("question_answering", ()):
            for answer in (answer for item in entry["qas"] for answer in item["answers"]):
                text = dialogue.turns[answer["answer_utterance_id"]].text
                start = answer["answer_start"]
                if answer["is_speaker"]:
                    assert answer["text"] in speakers
                else:
                    found = text[start : start + len(answer["text"])]
                    assert found.lower() == answer["text"].lower()
