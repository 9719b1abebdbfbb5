"""Make the sample corpus: `python -m dfwe.data.sample OUT.zip [--seed 0]`.

Synthetic dialogues in TLiDB's format with the seven tasks of FETA-Friends and an own cast. Every
annotation of a dialogue derives from one scene: who did what to which thing and where, each turn's
mood, the speakers' traits and relation. So the tasks share words: both emotion tasks are readings
of one mood, traits colour what is said, and names must be followed for mentions, questions,
reading and relations alike. A dialogue is annotated for about half of the tasks, so that a few
dialogues of one task show only some of the words and the other tasks show the rest.
"""

import argparse
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from dfwe.data import sample_words as words

SIZES = {"train": 1200, "dev": 120, "test": 100}
FEW = {"train": 64, "dev": 32}
EVENTS = 2  # of a scene
SHARE = 0.5  # of the dialogues, for each task
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same seed
FIRST = {name: name.split()[0] for name in words.CAST}
RELATION_LABELS = sorted({*words.RELATIONS, *(c for c, _ in words.RELATIONS.values())})
TASKS: dict[str, dict[str, Any]] = {
    "emory_emotion_recognition": {"labels": sorted({m[0] for m in words.MOODS.values()})},
    "MELD_emotion_recognition": {"labels": sorted({m[1] for m in words.MOODS.values()})},
    "character_identification": {"labels": [*(n.lower() for n in FIRST.values()), "other"]},
    "reading_comprehension": {},
    "question_answering": {},
    "personality_detection": {"labels": ["0", "1"]},
    "relation_extraction": {"labels": RELATION_LABELS},
}


@dataclass
class Scene:
    """What a dialogue is about."""

    id: str
    speakers: tuple[str, str]
    absent: str  # someone spoken of
    relation: str
    traits: dict[str, bool]  # of the first speaker
    events: list[tuple[str, str, str, str]]  # who, (past, base) as past and base, thing, place


def scene(number: int, rng: Random) -> Scene:
    """Draw one scene."""
    first, second = rng.sample(list(words.CAST), 2)
    rest = [*(n for n in words.CAST if n not in (first, second)), *words.OTHERS]
    absent = rng.choice(rest)
    things, places = rng.sample(words.THINGS, EVENTS), rng.sample(words.PLACES, EVENTS)
    deeds = rng.sample(words.DEEDS, EVENTS)
    actors = rng.sample([first, second, absent], EVENTS)
    events = [
        (actor, past, base, f"{thing}|{place}")
        for actor, (past, base), thing, place in zip(actors, deeds, things, places, strict=True)
    ]
    return Scene(
        f"s{number:04d}", (first, second), absent, rng.choice(list(words.RELATIONS)),
        {trait: rng.random() < 0.5 for trait in words.TRAITS}, events,
    )  # fmt: skip


def dialogue(plot: Scene, rng: Random) -> dict[str, Any]:
    """The scene as a dialogue in TLiDB's format, annotated for about half of the tasks."""
    chosen = {title for title in TASKS if rng.random() < SHARE} or {rng.choice(list(TASKS))}
    turns = _turns(plot, rng)
    metadata: dict[str, Any] = {title: None for title in TASKS if title in chosen}
    entry: dict[str, Any] = {"dialogue_id": plot.id, "dialogue_metadata": metadata}
    entry["dialogue"] = [
        {"turn_id": number, "speakers": [speaker], "utterance": text}
        for number, (speaker, _, text, _) in enumerate(turns)
    ]
    for number, (turn, (_, mood, _, mentions)) in enumerate(
        zip(entry["dialogue"], turns, strict=True)
    ):
        _annotate_turn(turn, f"{plot.id}_t{number}", mood, mentions, chosen)
    if "reading_comprehension" in chosen:
        metadata["reading_comprehension"] = {"scene_entities": _entities(plot, rng)}
    for title, annotate in _DIALOGUE_TASKS.items():
        if title in chosen:
            entry[title] = annotate(plot, turns, rng)
    return entry


Mention = tuple[int, str, str]  # start, words, whom
SaidTurn = tuple[str, str, str, list[Mention]]  # speaker, mood, text, mentions


def _turns(plot: Scene, rng: Random) -> list[SaidTurn]:
    first, second = plot.speakers
    traits = [rng.choice(words.TRAITS[t][0 if has else 1]) for t, has in plot.traits.items()]
    rng.shuffle(traits)
    _, lines = words.RELATIONS[plot.relation]
    sibling = {"she": "sister", "he": "brother"}[words.CAST[second]]
    bond = rng.choice(lines).format(you=FIRST[second], sibling=sibling)
    said = []
    for k, event in enumerate(plot.events):
        for turn, (speaker, hearer) in enumerate(((first, second), (second, first))):
            mood = rng.choice(list(words.MOODS))
            _, _, openers, bodies = words.MOODS[mood]
            text, mentions = "", []
            if turn == 0:
                text, mentions = _tell(event, speaker, hearer, rng)
            feeling = f"{rng.choice(openers)} {rng.choice(bodies)}"
            text = f"{text} {feeling}".strip()
            if turn == 0:
                text += f" {traits[k]}"
            said.append((speaker, mood, text, mentions))
    said.append((first, "plain", f"{bond} {' '.join(traits[EVENTS:])}", []))
    return said


def _tell(event: tuple[str, str, str, str], speaker: str, hearer: str, rng: Random
          ) -> tuple[str, list[Mention]]:  # fmt: skip
    """One sentence about an event, and the mentions in it."""
    actor, past, _, where = event
    thing, place = where.split("|")
    if actor == speaker:
        subject = "I"
    elif actor == hearer:
        subject = rng.choice(["you", FIRST[hearer]])
    else:
        subject = FIRST.get(actor, actor)
    subject = subject[0].upper() + subject[1:]
    text = f"{subject} {past} the {thing} at the {place}."
    mentions = [(0, subject, actor)]
    if subject == FIRST.get(actor, actor) and rng.random() < 0.7:
        pronoun = (words.CAST | words.OTHERS)[actor].capitalize()
        tail = rng.choice(["said nothing about it.", "whistled all the way.", "came home late."])
        mentions.append((len(text) + 1, pronoun, actor))
        text += f" {pronoun} {tail}"
    if rng.random() < 0.4:
        asked = f"What do you say, {FIRST[hearer]}?"
        mentions.append((len(text) + 1 + asked.index("you"), "you", hearer))
        text += f" {asked}"
    return text, mentions


def _annotate_turn(
    turn: dict[str, Any], name: str, mood: str, mentions: list[Mention], chosen: set[str]
) -> None:
    emory, meld, _, _ = words.MOODS[mood]
    if "emory_emotion_recognition" in chosen:
        turn["emory_emotion_recognition"] = {"label": emory, "instance_id": name}
    if "MELD_emotion_recognition" in chosen:
        turn["MELD_emotion_recognition"] = {"label": meld, "instance_id": name}
    if "character_identification" in chosen:
        turn["character_identification"] = [
            {"entity": whom, "normalized_entity": FIRST.get(whom, "other").lower(),
             "start": start, "entity_reference": text, "instance_id": f"{name}_mention{k}"}
            for k, (start, text, whom) in enumerate(mentions)
        ]  # fmt: skip


def _short(name: str) -> str:
    """How reading comprehension writes a name."""
    return FIRST.get(name, name).lower()


def _entities(plot: Scene, rng: Random) -> list[str]:
    names = [_short(name) for name in (*plot.speakers, plot.absent)]
    rng.shuffle(names)
    return names


def _reading(plot: Scene, turns: list[SaidTurn], rng: Random) -> list[dict[str, str]]:
    forms = ("[PLACEHOLDER] {past} the {thing}.", "The {thing} is what [PLACEHOLDER] {past}.",
             "At the {place}, [PLACEHOLDER] {past} something.")  # fmt: skip
    return [
        {"query": rng.choice(forms).format(past=past, thing=where.split("|")[0],
                                           place=where.split("|")[1]),
         "answer": _short(actor), "instance_id": f"{plot.id}_qa{k}"}
        for k, (actor, past, _, where) in enumerate(plot.events)
    ]  # fmt: skip


def _questions(plot: Scene, turns: list[SaidTurn], rng: Random) -> list[dict[str, Any]]:
    asked = []
    for k, (actor, past, base, where) in enumerate(plot.events):
        thing, place = where.split("|")
        utterance, text = 2 * k, turns[2 * k][2]
        name = FIRST.get(actor, actor)
        kinds = {
            "What": (f"What did {name} {base}?", [f"the {thing}", thing]),
            "Where": (f"Where was the {thing} {_participle(past)}?", [f"at the {place}", place]),
        }
        for kind in rng.sample(list(kinds), 1 + (k == 0)):
            question, golds = kinds[kind]
            answers = [
                {"text": gold, "answer_start": text.index(gold), "answer_utterance_id": utterance,
                 "is_speaker": False}
                for gold in golds
            ]  # fmt: skip
            asked.append({"question": question, "answers": answers,
                          "instance_id": f"{plot.id}_{kind}_{k}"})  # fmt: skip
    return [{"qas": asked}]


def _participle(past: str) -> str:
    return {"broke": "broken", "hid": "hidden", "forgot": "forgotten"}.get(past, past)


def _personality(plot: Scene, turns: list[SaidTurn], rng: Random) -> list[dict[str, Any]]:
    first = plot.speakers[0]
    traits = {trait: str(int(has)) for trait, has in plot.traits.items()}
    name = f"{plot.id}_{first.replace(' ', '-')}"
    return [{"turns": list(range(len(turns))), "focus_speaker": first,
             "personality_characteristics": traits, "instance_id": name}]  # fmt: skip


def _relations(plot: Scene, turns: list[SaidTurn], rng: Random) -> list[dict[str, Any]]:
    first, second = plot.speakers
    converse, _ = words.RELATIONS[plot.relation]
    pairs = [(first, second, plot.relation), (second, first, converse)]
    triples = [
        {"head": head, "tail": tail, "relations": [relation],
         "instance_id": f"{plot.id}_{head.replace(' ', '-')}_{tail.replace(' ', '-')}"}
        for head, tail, relation in pairs
    ]  # fmt: skip
    return [{"turns": list(range(len(turns))), "relation_triples": triples}]


_DIALOGUE_TASKS = {
    "reading_comprehension": _reading,
    "question_answering": _questions,
    "personality_detection": _personality,
    "relation_extraction": _relations,
}


def corpus(seed: int) -> dict[str, str]:
    """File name -> content of the corpus."""
    rng = Random(seed)
    entries = [dialogue(scene(k, rng), rng) for k in range(sum(SIZES.values()))]
    names = [entry["dialogue_id"] for entry in entries]
    files, at = {}, 0
    for split, size in SIZES.items():
        chosen = names[at : at + size]
        files[f"TTiDB_{split}_ids.txt"] = "\n".join(chosen)
        if split in FEW:
            few = sorted(rng.sample(chosen, FEW[split]))
            files[f"TTiDB_0.1_percent_few_shot_{split}_ids.txt"] = "\n".join(few)
        at += size
    metadata = {"dataset_name": "Sample", "tasks": list(TASKS), "task_metadata": TASKS}
    files["Sample.json"] = json.dumps({"metadata": metadata, "data": entries})
    return files


def write(path: Path, seed: int) -> None:
    """Write the corpus as a zip; the same seed gives the same bytes."""
    aside = path.with_name(path.name + ".part")
    with zipfile.ZipFile(aside, "w") as archive:
        for name, content in sorted(corpus(seed).items()):
            info = zipfile.ZipInfo(f"Sample/{name}", TIMESTAMP)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, 9)
    aside.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.path, arguments.seed)
