"""Write the sample corpus: `python tools/sample_corpus.py OUT.zip [--seed 0]`.

Synthetic dialogues in TLiDB's format with the seven tasks of FETA-Friends and another cast. Every
annotation of a dialogue derives from one scene: who did what to which thing and where, each turn's
mood, the first speaker's traits and what the two are to each other. So the tasks share words and
causes: both emotion tasks read one mood, deeds and traits move moods, replies repeat deeds and
name moods, and names must be followed for mentions, questions, reading and relations alike. A
dialogue is annotated for some of the tasks only, so that a few dialogues of one task show only
some of the words and the other tasks show the rest.
"""

import argparse
import json
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import sample_words as words
from sample_scene import Line, Scene, lines, scene

SIZES = {"train": 1600, "dev": 120, "test": 100}
FEW = {"train": 64, "dev": 32}
# task -> its labels, and the share of the dialogues that are annotated for it
SHARES: dict[str, tuple[list[str], float]] = {
    "emory_emotion_recognition": (sorted({m[0] for m in words.MOODS.values()}), 0.5),
    "MELD_emotion_recognition": (sorted({m[1] for m in words.MOODS.values()}), 0.5),
    "character_identification": ([*words.CAST, "other"], 0.5),
    "reading_comprehension": ([], 0.5),
    "question_answering": ([], 0.5),
    "personality_detection": (["0", "1"], 0.45),
    "relation_extraction": (sorted(words.RELATIONS), 0.8),
}
TIMESTAMP = (1980, 1, 1, 0, 0, 0)  # the same bytes for the same seed


def dialogue(plot: Scene, rng: Random) -> dict[str, Any]:
    """The scene as a dialogue in TLiDB's format, annotated for some of the tasks."""
    chosen = {title for title, (_, share) in SHARES.items() if rng.random() < share}
    turns = lines(plot, rng)
    metadata: dict[str, Any] = {title: None for title in SHARES if title in chosen}
    entry: dict[str, Any] = {"dialogue_id": plot.id, "dialogue_metadata": metadata}
    entry["dialogue"] = [
        {
            "turn_id": number,
            "speakers": [line.speaker],
            "utterance": line.text,
            **_turn_annotations(line, f"{plot.id}_t{number}", chosen),
        }
        for number, line in enumerate(turns)
    ]
    if "reading_comprehension" in chosen:
        entities = rng.sample([*plot.speakers, plot.absent], 3)
        metadata["reading_comprehension"] = {"scene_entities": entities}
    for title, annotate in _DIALOGUE_TASKS.items():
        if title in chosen:
            entry[title] = annotate(plot, turns, rng)
    return entry


def _turn_annotations(line: Line, name: str, chosen: set[str]) -> dict[str, Any]:
    notes: dict[str, Any] = {}
    titles = ("emory_emotion_recognition", "MELD_emotion_recognition")
    for title, label in zip(titles, words.MOODS.get(line.mood or "", ("", ""))[:2], strict=True):
        if title in chosen and label:
            notes[title] = {"label": label, "instance_id": name}
    if "character_identification" in chosen:
        notes["character_identification"] = [
            {
                "entity": whom,
                "normalized_entity": whom if whom in words.CAST else "other",
                "start": start,
                "entity_reference": text,
                "instance_id": f"{name}_mention{k}",
            }
            for k, (start, text, whom) in enumerate(line.mentions)
        ]
    return notes


def _reading(plot: Scene, turns: list[Line], rng: Random) -> list[dict[str, str]]:
    """Who did it, who felt so, who is what to whom."""
    forms = (
        "[PLACEHOLDER] {past} the {thing}.",
        "The {thing} is what [PLACEHOLDER] {past}.",
        "[PLACEHOLDER] {past} something {place}.",
    )
    asked = [
        (rng.choice(forms).format(past=e.past, thing=e.thing, place=e.place), e.actor)
        for e in plot.events
    ]
    line = rng.choice(turns[:4])
    assert line.mood is not None
    named = rng.choice(words.NAMED[line.mood])
    others = {other.mood for other in turns if other.mood and other.speaker != line.speaker}
    if not any(named in words.NAMED[mood] for mood in others):
        asked.append((f"[PLACEHOLDER] was {named}.", line.speaker))
    one, other = rng.sample(plot.speakers, 2)
    asked.append((f"[PLACEHOLDER] is the {plot.noun(one)} of {other}.", one))
    return [
        {"query": query, "answer": answer, "instance_id": f"{plot.id}_qa{k}"}
        for k, (query, answer) in enumerate(asked)
    ]


def _questions(plot: Scene, turns: list[Line], rng: Random) -> list[dict[str, Any]]:
    """Two questions an event: what, where or who."""
    asked: list[dict[str, Any]] = []
    for k, event in enumerate(plot.events):
        kinds = {
            "What": (f"What did {event.actor} {event.base}?", [f"the {event.thing}", event.thing]),
            "Where": (
                f"Where was the {event.thing} {event.participle}?",
                [event.place, event.place.split(" ", 2)[2]],
            ),
            "Who": (f"Who {event.past} the {event.thing}?", [event.actor]),
        }
        for kind in rng.sample(list(kinds), 2):
            question, golds = kinds[kind]
            answers = [_span(gold, 2 * k, turns[2 * k]) for gold in golds]
            asked.append(
                {"question": question, "answers": answers, "instance_id": f"{plot.id}_{kind}_{k}"}
            )
    return [{"qas": asked}]


def _span(gold: str, number: int, line: Line) -> dict[str, Any]:
    """Where an answer stands in its turn; -1 and `is_speaker` for someone called I or you."""
    start = line.text.lower().find(gold.lower())
    return {
        "text": gold,
        "answer_start": start,
        "answer_utterance_id": number,
        "is_speaker": start < 0,
    }


def _personality(plot: Scene, turns: list[Line], rng: Random) -> list[dict[str, Any]]:
    first = plot.speakers[0]
    traits = {trait: str(int(has)) for trait, has in plot.traits.items()}
    return [
        {
            "turns": list(range(len(turns))),
            "focus_speaker": first,
            "personality_characteristics": traits,
            "instance_id": f"{plot.id}_{first}",
        }
    ]


def _relations(plot: Scene, turns: list[Line], rng: Random) -> list[dict[str, Any]]:
    first, second = plot.speakers
    converse = words.RELATIONS[plot.relation][0]
    triples = [
        {
            "head": head,
            "tail": tail,
            "relations": [relation],
            "instance_id": f"{plot.id}_{head}_{tail}",
        }
        for head, tail, relation in ((first, second, plot.relation), (second, first, converse))
    ]
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
    files: dict[str, str] = {}
    at = 0
    for split, size in SIZES.items():
        chosen = names[at : at + size]
        files[f"TTiDB_{split}_ids.txt"] = "\n".join(chosen)
        if split in FEW:
            few = sorted(rng.sample(chosen, FEW[split]))
            files[f"TTiDB_0.1_percent_few_shot_{split}_ids.txt"] = "\n".join(few)
        at += size
    tasks = {title: {"labels": labels} for title, (labels, _) in SHARES.items()}
    metadata = {"dataset_name": "Sample", "tasks": list(tasks), "task_metadata": tasks}
    files["Sample.json"] = json.dumps({"metadata": metadata, "data": entries})
    return files


def write(path: Path, seed: int) -> None:
    """Write the corpus as a zip; the same seed gives the same bytes."""
    temporary = path.with_name(path.name + ".part")
    with zipfile.ZipFile(temporary, "w") as archive:
        for name, content in sorted(corpus(seed).items()):
            info = zipfile.ZipInfo(f"Sample/{name}", TIMESTAMP)
            archive.writestr(info, content, zipfile.ZIP_DEFLATED, 9)
    temporary.replace(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write the sample corpus.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    write(arguments.path, arguments.seed)
