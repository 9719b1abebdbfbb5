"""Dialogues in TLiDB's format, annotated for each of the seven tasks, rendered by plain code."""

import io
import json
import shutil
import zipfile
from functools import partial
from typing import NamedTuple

from fuzzing import damaged, mutated, names, texts
from hypothesis import strategies as st
from plain_scores import compare, label_scores, set_scores, text_scores

from dfwe.data import friends
from dfwe.data.corpus import TLiDBCorpus
from dfwe.tasks.answers import FreeText, Label, Labels
from dfwe.tasks.metrics import F1, Accuracy, ExactMatch, MultilabelF1, TokenF1
from dfwe.tasks.task import Task

TITLE = "the task"
LABELLED = (F1("micro"), F1("macro"), F1("weighted"), Accuracy())
FREE = (ExactMatch(), TokenF1("macro"), TokenF1("micro"))


class Case(NamedTuple):
    """A corpus of one split, the task that is read, and what a model answered."""

    reader: str
    labels: list[str]
    files: dict[str, bytes]
    answers: list[str]
    zipped: bool = False


@st.composite
def turns(draw):
    """Utterances, some so long that not all fit 512 words."""
    speakers = st.lists(texts(), max_size=2)
    spoken = st.one_of(texts(), st.builds("w{} ".__mul__, st.integers(1, 300)), names())
    turn = st.fixed_dictionaries({"speakers": speakers, "utterance": spoken})
    listed = draw(st.lists(turn, min_size=1, max_size=4))
    return [{"turn_id": number, **turn} for number, turn in enumerate(listed, 1)]


@st.composite
def dialogues(draw, reader, labels):
    """One dialogue with its annotation, by the reader that takes it."""
    spoken = draw(turns())
    dialogue = {"dialogue": spoken, "dialogue_metadata": {TITLE: {}}}
    label, positions = st.sampled_from(labels), st.integers(0, len(spoken) - 1)
    if reader == "emotion":
        for turn in spoken:
            turn[TITLE] = {"label": draw(label)}
        if draw(st.booleans()) and len(spoken) > 1:
            del spoken[0][TITLE]
    elif reader == "character":
        for turn in spoken:
            start = draw(st.integers(0, len(turn["utterance"])))
            mention = turn["utterance"][start : start + draw(st.integers(0, 5))]
            turn[TITLE] = [
                {"start": start, "entity_reference": mention, "normalized_entity": draw(label)}
            ]
    elif reader == "reading":
        dialogue["dialogue_metadata"][TITLE] = {"scene_entities": labels}
        dialogue[TITLE] = [{"query": draw(texts()), "answer": draw(label)}]
    elif reader == "question":
        answer = {"text": texts(), "answer_utterance_id": positions}
        answers = st.lists(st.fixed_dictionaries(answer), min_size=1, max_size=3)
        asked = {"question": draw(texts()), "answers": draw(answers)}
        dialogue[TITLE] = [{"qas": [asked]}]
    elif reader == "personality":
        traits = draw(st.dictionaries(texts(), label, min_size=1, max_size=3))
        dialogue[TITLE] = [
            {
                "focus_speaker": draw(texts()),
                "turns": draw(st.lists(positions, max_size=3)),
                "personality_characteristics": traits,
            }
        ]
    else:
        found = draw(st.lists(label, min_size=1, max_size=3, unique=True))
        triple = {"head": draw(texts()), "tail": draw(texts()), "relations": found}
        selected = draw(st.lists(positions, max_size=3))
        dialogue[TITLE] = [{"turns": selected, "relation_triples": [triple]}]
    return dialogue


READERS = ("emotion", "character", "reading", "question", "personality", "relation")


def numbered(node, count):
    """Gives each annotated thing an `instance_id` of its own."""
    for name, value in node.items() if isinstance(node, dict) else enumerate(node):
        if isinstance(value, dict | list) and name != "personality_characteristics":
            numbered(value, count)
    if isinstance(node, dict) and node.keys() & {"label", "start", "query", "question", "head"}:
        node["instance_id"] = f"i{next(count)}"
    if isinstance(node, dict) and "focus_speaker" in node:
        node["instance_id"] = f"i{next(count)}"


def packed(document, ids):
    lists = {f"TTiDB_{split}_ids.txt": ids.encode() for split in ("train", "dev", "test")}
    return {"corpus.json": json.dumps(document).encode(), **lists}


@st.composite
def documents(draw, labels=None):
    """A reader, its labels, the corpus as plain data and the list of its ids."""
    reader = draw(st.sampled_from(READERS))
    if labels is None:
        label = names().filter(lambda x: reader != "relation" or " and " not in f"{x} ")
        labels = st.lists(label, min_size=1, max_size=4, unique_by=str.lower)
    labels = draw(labels)
    number = st.text(min_size=1, max_size=6).filter(
        lambda x: x.split() == [x] and x[0] != "\ufeff"
    )
    ids = draw(st.lists(number, min_size=1, max_size=3, unique=True))
    listed = [{"dialogue_id": name, **draw(dialogues(reader, labels))} for name in ids]
    numbered(listed, iter(range(10**6)))
    return (
        reader,
        labels,
        {"metadata": {"task_metadata": {TITLE: {"labels": labels}}}, "data": listed},
        "\n".join(ids),
    )


def answers_of(labels):
    known = [
        x
        for label in labels
        for x in (label, label.upper(), f" {label}", f"{label} and {labels[0]}")
    ]
    return st.lists(st.one_of(st.sampled_from(known), texts()), min_size=1, max_size=8)


@st.composite
def sound(draw):
    reader, labels, document, ids = draw(documents())
    return Case(
        reader, labels, packed(document, ids), draw(answers_of(labels)), draw(st.booleans())
    )


@st.composite
def unsound(draw):
    """A sound corpus with a wrong value, damaged bytes, or other lists of ids."""
    how = draw(st.sampled_from(["value", "value", "value", "bytes", "ids", "zip", "labels"]))
    words = st.lists(texts(), min_size=1, max_size=3) if how == "labels" else None
    reader, labels, document, ids = draw(documents(words))
    answers = draw(answers_of(labels))
    if how == "value":
        files = packed(draw(mutated(document)), ids)
    elif how == "bytes":
        files = packed(document, ids)
        files["corpus.json"] = draw(damaged(files["corpus.json"]))
    elif how == "ids":
        files = packed(document, draw(st.one_of(texts(), st.just(f"{ids}\n{ids} x"), st.just(""))))
        files.pop(draw(st.sampled_from([*files, "none"])), None)
    elif how == "labels":
        return Case(
            reader,
            draw(st.one_of(st.just(labels), mutated(labels, texts()))),
            packed(document, ids),
            answers,
        )
    else:
        content = zipped(packed(document, ids))
        return Case(reader, labels, {"corpus.zip": draw(damaged(content))}, answers)
    return Case(reader, labels, files, answers, draw(st.booleans()))


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"top/{name}"), content)
    return out.getvalue()


def task_of(case):
    labels, reader = case.labels, getattr(friends, case.reader)
    if case.reader == "emotion":
        return Task("t", TITLE, partial(reader, prompt="emotion:"), Label(), LABELLED, 5, labels)
    if case.reader == "character":
        prompt = "Out of {labels}, '{mention}' in {phrase}:"
        return Task("t", TITLE, partial(reader, prompt=prompt), Label(), LABELLED, 5, None)
    if case.reader == "reading":
        prompt = "question: {query} Out of {entities} {{x}} "
        return Task("t", TITLE, partial(reader, prompt=prompt), FreeText(), FREE, 5, [])
    if case.reader == "question":
        prompt = "question: {question} answer:"
        return Task("t", TITLE, partial(reader, prompt=prompt), FreeText(), FREE, 5, [])
    if case.reader == "personality":
        prompt = "{speaker} is {trait}:"
        return Task("t", TITLE, partial(reader, prompt=prompt), Label(), LABELLED, 5, labels)
    read = partial(reader, prompt="{head} {tail}:", names={label: label for label in labels})
    return Task("t", TITLE, read, Labels("x"), [MultilabelF1()], 5, [])


def judge(folder, case):
    """dfwe's examples and scores are those of plain code."""
    place = folder / "corpus"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    files = {"corpus.zip": zipped(case.files)} if case.zipped else case.files
    for name, content in files.items():
        (place / name).write_bytes(content)
    task = task_of(case)
    examples = task.examples(TLiDBCorpus("c", str(place)), "test")
    files = unzipped(case.files["corpus.zip"]) if "corpus.zip" in case.files else case.files
    document = json.loads(files["corpus.json"].decode("utf-8-sig"), object_pairs_hook=once)
    wanted = files["TTiDB_test_ids.txt"].decode("utf-8-sig").split()
    chosen = [entry for entry in document["data"] if entry["dialogue_id"] in wanted]
    assert {entry["dialogue_id"] for entry in chosen} == set(wanted)
    labels = case.labels
    if case.reader == "character":
        labels = document["metadata"]["task_metadata"][TITLE]["labels"]
    due = list(plain_examples(case.reader, labels, chosen))
    assert [(x.id, x.dialogue, x.source, list(x.references)) for x in examples] == due
    golds = [list(example.references) for example in examples]
    answers = (case.answers * len(examples))[: len(examples)]
    scores = task.score(answers, examples)
    if case.reader in ("reading", "question"):
        compare(scores, text_scores(answers, golds))
    elif case.reader == "relation":
        compare(scores, set_scores(answers, golds, labels))
    else:
        compare(scores, label_scores(answers, golds, labels))
    return True


def once(pairs):
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def unzipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name.rpartition("/")[2]: archive.read(name) for name in archive.namelist()}


def text(value):
    assert isinstance(value, str)
    return value


def position(value):
    assert type(value) is int
    assert value >= 0
    return value


def rendered(spoken):
    lines = []
    for turn in spoken:
        speakers = [text(speaker) for speaker in turn["speakers"]]
        said = text(turn["utterance"])
        lines.append(f"{' '.join(speakers)}: {said}" if any(speakers) else said)
    return "context: " + " ".join(lines)


def kept(spoken, end):
    """At most 512 words of whole turns, the last ones or the first."""
    while spoken and len(rendered(spoken).split()) - 1 > 512:
        spoken = spoken[1:] if end == "last" else spoken[:-1]
    return rendered(spoken)


def plain_examples(reader, labels, chosen):
    """(id, dialogue, input, accepted answers) of each example."""
    for entry in chosen:
        if TITLE not in entry.get("dialogue_metadata", {}):
            continue
        for name, context, prompt, golds in globals()[f"plain_{reader}"](labels, entry):
            yield text(name), entry["dialogue_id"], f"{context} {prompt}", [text(x) for x in golds]


def plain_emotion(labels, entry):
    for number, turn in enumerate(entry["dialogue"], 1):
        if TITLE in turn:
            assert turn[TITLE]["label"] in labels
            context = kept(entry["dialogue"][:number], "last")
            yield turn[TITLE]["instance_id"], context, "emotion:", [turn[TITLE]["label"]]


def plain_character(labels, entry):
    for number, turn in enumerate(entry["dialogue"], 1):
        for mention in turn.get(TITLE, []):
            said, what, start = turn["utterance"], mention["entity_reference"], mention["start"]
            assert said[position(start) :].startswith(text(what))
            before, after = said[: start + len(what) + 1].split(), said[start:].split()
            phrase = " ".join(before[-4:] if len(before) > len(after) else after[:4])
            prompt = f"Out of {' or '.join(labels)}, '{what}' in {phrase}:"
            assert mention["normalized_entity"] in labels
            context = kept(entry["dialogue"][:number], "last")
            yield mention["instance_id"], context, prompt, [mention["normalized_entity"]]


def plain_reading(labels, entry):
    entities = entry["dialogue_metadata"][TITLE]["scene_entities"]
    for item in entry[TITLE]:
        assert item["answer"] in entities
        prompt = f"question: {text(item['query'])} Out of {' or '.join(entities)} {{x}} "
        yield item["instance_id"], kept(entry["dialogue"], "last"), prompt, [item["answer"]]


def plain_question(labels, entry):
    for item in [item for entry in entry[TITLE] for item in entry["qas"]]:
        golds = [answer["text"] for answer in item["answers"]]
        prompt = f"question: {text(item['question'])} answer:"
        yield item["instance_id"], kept(entry["dialogue"], "first"), prompt, golds


def selected(entry, item):
    return kept([entry["dialogue"][position(number)] for number in item["turns"]], "last")


def plain_personality(labels, entry):
    for item in entry[TITLE]:
        for trait, value in item["personality_characteristics"].items():
            assert value in labels
            prompt = f"{text(item['focus_speaker'])} is {trait}:"
            yield f"{item['instance_id']}_{trait}", selected(entry, item), prompt, [value]


def plain_relation(labels, entry):
    for item in entry[TITLE]:
        for triple in item["relation_triples"]:
            assert set(triple["relations"]) <= set(labels)
            target = " and ".join(triple["relations"])
            prompt = f"{text(triple['head'])} {text(triple['tail'])}:"
            yield triple["instance_id"], selected(entry, item), prompt, [target]


def test_dialogues_are_read_right_or_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("dialogues", partial(judge, tmp_path), sound(), unsound())
