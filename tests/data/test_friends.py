"""Rendering: what the goldens cannot show: the cap, the splits, and missing annotations."""

import os
from dataclasses import asdict, replace
from pathlib import Path
from time import process_time

import numpy as np
import pytest
from pydantic import ValidationError

from dfwe.data import friends
from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.dialogue import Dialogue, Example, Turn, fingerprint
from dfwe.errors import UserError
from dfwe.pipeline.recipe import digest

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


def capped_by_rendering(turns):
    """The definition: the oldest turn goes while what is rendered has more than 512 words."""
    while len(friends.render(turns).split()) > 512:
        turns = turns[1:]
    return turns


def test_the_cap_counts_what_is_rendered():
    rng = np.random.default_rng(0)
    lines = tuple(
        Turn(("Al", "Bo C")[: rng.integers(3)], "x " * rng.choice([0, 0, 1, 7, 300]), {})
        for _ in range(60)
    )
    for stop in range(len(lines)):
        assert friends.cap(lines[:stop]) == capped_by_rendering(lines[:stop])


def test_a_dialogue_of_thousands_of_turns_renders_in_seconds():
    """Commit 60dbe5b: 834 seconds for 2,000 turns, eight times as many for twice the turns."""
    emotions = [{EMORY: {"instance_id": f"t{n}", "label": "glad"}} for n in range(3000)]
    lines = tuple(Turn(("Al",), f"turn {n} x x", note) for n, note in enumerate(emotions))
    start = process_time()
    examples = friends.emotion([Dialogue("d", lines, {}, {EMORY: {}})], EMORY, ("glad",), "p")
    assert process_time() - start < 5
    assert examples[-1].context == f"context: {friends.render(lines[-102:])}"
    item = {"instance_id": "q", "question": "Why?", "answers": [ANSWER]}
    asked = Dialogue("d", lines, {"qa": [{"qas": [item]}]}, {"qa": {}})
    for compatibility in (None, "tlidb"):
        [example] = friends.question([asked], "qa", (), "{question}", compatibility)
        assert len(example.context.split()) == 1 + 510


ANSWER = {"text": "x", "answer_utterance_id": 1500}


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


def annotated(title, note, on_turn=False, metadata=None):
    """A dialogue of three turns with one annotation."""
    lines = tuple(Turn(("Al",), "he said so", {title: note} if on_turn else {}) for _ in range(3))
    return [Dialogue("d", lines, {} if on_turn else {title: note}, {title: metadata or {}})]


def test_a_mention_that_does_not_stand_where_it_says_is_named():
    """Commit 60dbe5b: the words at that place, or at the end, are asked for."""
    mention = {"instance_id": "m", "entity_reference": "he", "normalized_entity": "al"}
    prompt = "{mention} {phrase}"
    for start in (3, 99):
        dialogues = annotated("c", [{**mention, "start": start}], on_turn=True)
        with pytest.raises(UserError, match=f"'he' is the mention at character {start}"):
            friends.character(dialogues, "c", ("al",), prompt)
    dialogues = annotated("c", [{**mention, "start": -2}], on_turn=True)
    with pytest.raises(ValidationError):
        friends.character(dialogues, "c", ("al",), prompt)


def test_turns_are_numbered_from_0():
    """Commit 60dbe5b: -1 is the last turn."""
    traits = {"instance_id": "p", "focus_speaker": "Al", "personality_characteristics": {}}
    for turns, error in (([-1], ValidationError), ([3], IndexError), ([True], ValidationError)):
        with pytest.raises(error):
            friends.personality(annotated("p", [{**traits, "turns": turns}]), "p", ("y",), "")


def test_a_relation_that_is_named_twice_is_refused():
    triple = {"instance_id": "x", "head": "Al", "tail": "Bo", "relations": ["r1", "r1"]}
    note = [{"turns": [0], "relation_triples": [triple]}]
    with pytest.raises(UserError, match="x names a relation twice"):
        friends.relation(annotated("r", note), "r", (), "{head}{tail}", {"r1": "boss"})


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
    for examples in ([], [one], [one, replace(two, context='é " \n', options=("a", "b"))]):
        assert fingerprint(examples) == digest([asdict(example) for example in examples])


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
