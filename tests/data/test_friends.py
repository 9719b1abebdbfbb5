"""Rendering: what the goldens cannot show: the cap, the splits, and missing annotations."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from dfwe.data import friends
from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.dialogue import Dialogue, Example, Turn, fingerprint
from dfwe.errors import UserError

ROOT = Path(__file__).parents[2]
MINI = TLiDBCorpus("mini", str(ROOT / "tests/goldens"))
FRIENDS = os.environ.get("DFWE_DATA")
CORPORA = [
    pytest.param(
        FRIENDS, marks=pytest.mark.skipif(FRIENDS is None, reason="DFWE_DATA names no corpus")
    ),
    pytest.param("shipped:sample_corpus.zip"),
]
EMORY = "emory_emotion_recognition"


def turns(number: int, words: int) -> tuple[Turn, ...]:
    """Turns of `words` words each, the speaker's included; each starts with its number."""
    return tuple(Turn(("Al",), f"{n} " + "x " * (words - 2), {}) for n in range(number))


def test_the_oldest_turns_go_until_512_words_are_left():
    kept = friends.cap(turns(60, 10))
    assert len(kept) == 51
    assert kept[-1].text.startswith("59 ")
    assert friends.cap(turns(51, 10)) == turns(51, 10)


def test_a_turn_longer_than_the_cap_leaves_nothing():
    assert not friends.cap(turns(1, 513))
    assert len(friends.cap(turns(1, 512))) == 1


def asked(answer, compatibility):
    """The words that a model reads of a dialogue of 600 words whose answer is in this turn."""
    item = {
        "instance_id": "q",
        "question": "Why?",
        "answers": [{"text": "x", "answer_utterance_id": answer}],
    }
    dialogue = Dialogue("d", turns(60, 10), {"qa": [{"qas": [item]}]}, {"qa": {}})
    prompt = "question: {question} answer:"
    [example] = friends.question([dialogue], "qa", (), prompt, compatibility)
    return example.context.split()


@pytest.mark.parametrize("answer", [0, 59, 40])
def test_a_question_on_a_long_dialogue_does_not_show_where_the_answer_is(answer):
    """Commit 60dbe5b: an answer in turn 40 or 59 leaves the turns 9 to 59."""
    words = asked(answer, None)
    assert words[2] == "0"
    assert words[-9] == "50"
    assert words == asked(20, None)


@pytest.mark.parametrize(("answer", "first", "last"), [(0, 0, 50), (59, 9, 59), (40, 9, 59)])
def test_tlidb_keeps_the_turns_around_the_answer(answer, first, last):
    words = asked(answer, "tlidb")
    assert words[2] == str(first)
    assert words[-9] == str(last)


def test_the_end_that_survives_shortening_does_not_depend_on_the_answer():
    spans = [{"text": "x", "answer_utterance_id": n} for n in (0, 3)]
    items = [{"instance_id": "q", "question": "Why?", "answers": [span]} for span in spans]
    dialogue = Dialogue("d", turns(4, 10), {"qa": [{"qas": items}]}, {"qa": {}})
    first, second = friends.question([dialogue], "qa", (), "{question}")
    assert first == second


def test_a_phrase_is_four_words_from_the_mention_on_or_up_to_it():
    assert friends._phrase("He sat down on it", 0, "He") == "He sat down on"
    assert friends._phrase("we all sat down by him again", 19, "him") == "sat down by him"


def test_the_last_utterance_survives_in_an_emotion_task():
    for example in friends.emotion(MINI.dialogues("train"), EMORY, MINI.labels(EMORY), "p"):
        assert example.keep == "end"
        assert example.options == MINI.labels(EMORY)


def test_an_unknown_label_is_named_with_the_known_ones():
    with pytest.raises(UserError, match="hat_t0 has the unknown label 'sad'; known: glad, mad"):
        friends.emotion(MINI.dialogues("train"), EMORY, ("glad", "mad"), "emotion:")


def test_a_dialogue_without_its_annotation_is_named():
    bare = replace(MINI.dialogues("train")[0], turns=(), annotations={})
    with pytest.raises(UserError, match="Dialogue 'hat' says it is annotated for emory"):
        friends.emotion([bare], EMORY, MINI.labels(EMORY), "emotion:")


def test_a_dialogue_that_does_not_name_the_task_is_left_out():
    silent = replace(MINI.dialogues("train")[0], metadata={})
    assert friends.emotion([silent], EMORY, MINI.labels(EMORY), "emotion:") == []


def test_the_fingerprint_sees_every_field_and_the_order():
    one = Example("a", "d", "context: x", "p:", "yes", ("yes",))
    changes = [{"prompt": "q:"}, {"target": "no"}, {"options": ("yes",)}, {"keep": "start"}]
    names = {fingerprint([one]), *(fingerprint([replace(one, **change)]) for change in changes)}
    two = replace(one, id="b")
    assert len(names | {fingerprint([one, two]), fingerprint([two, one])}) == 7
    assert fingerprint([one]) == fingerprint([replace(one)])


@pytest.mark.parametrize("path", CORPORA)
@pytest.mark.parametrize("shots", ["few", "full"])
def test_no_dialogue_stands_in_two_splits(path, shots):
    corpus = TLiDBCorpus("corpus", path, shots)
    train, dev, test = ({d.id for d in corpus.dialogues(s)} for s in ("train", "dev", "test"))
    assert train
    assert dev
    assert test
    assert not train & dev
    assert not (train | dev) & test
