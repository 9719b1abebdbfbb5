"""Readers of the seven FETA-Friends tasks: dialogues -> examples, as TLiDB renders them for T5.

Each reader takes the dialogues of a split, the task's title, its labels and the prompt's template.
Dialogues are capped at 512 words by dropping whole turns, as in TLiDB; a model with a shorter
input shortens further.
"""

from collections.abc import Iterator, Mapping, Sequence

from dfwe.data.dialogue import Dialogue, Example, Turn, known_label
from dfwe.errors import UserError

MAX_WORDS = 512
PHRASE_WORDS = 4


def render(turns: Sequence[Turn]) -> str:
    """`Speaker: text Speaker: text`, speakers of one turn joined by spaces."""
    lines = (f"{' '.join(t.speakers)}: {t.text}" if any(t.speakers) else t.text for t in turns)
    return " ".join(lines)


def cap(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Drop the oldest turns until at most 512 words are left."""
    start = 0
    while len(render(turns[start:]).split()) > MAX_WORDS:
        start += 1
    return turns[start:]


def emotion(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """The emotion of an utterance, read with everything said before it."""
    examples = []
    for dialogue in _annotated(dialogues, title):
        for number, turn in enumerate(dialogue.turns):
            if title not in turn.annotations:
                continue
            noted = turn.annotations[title]
            label = known_label(noted["label"], labels, noted["instance_id"])
            context = _context(cap(dialogue.turns[: number + 1]))
            examples.append(
                Example(
                    noted["instance_id"],
                    dialogue.id,
                    context,
                    prompt,
                    label,
                    (label,),
                    tuple(labels),
                )
            )
    return examples


def character(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """Whom a mention refers to, read with everything said so far."""
    examples = []
    for dialogue in _annotated(dialogues, title):
        for number, turn in enumerate(dialogue.turns):
            mentions = turn.annotations.get(title, ())
            context = _context(cap(dialogue.turns[: number + 1])) if mentions else ""
            for mention in mentions:
                phrase = _phrase(turn.text, mention["start"], mention["entity_reference"])
                asked = prompt.format(
                    labels=" or ".join(labels), mention=mention["entity_reference"], phrase=phrase
                )
                label = known_label(mention["normalized_entity"], labels, mention["instance_id"])
                examples.append(
                    Example(
                        mention["instance_id"],
                        dialogue.id,
                        context,
                        asked,
                        label,
                        (label,),
                        tuple(labels),
                    )
                )
    return examples


def reading(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """Who stands behind the placeholder of a sentence about the dialogue."""
    examples = []
    for dialogue in _annotated(dialogues, title):
        entities = tuple(dialogue.metadata[title]["scene_entities"])
        context = _context(cap(dialogue.turns))
        for item in dialogue.annotations[title]:
            answer = known_label(item["answer"], entities, item["instance_id"])
            asked = prompt.format(query=item["query"], entities=" or ".join(entities))
            examples.append(
                Example(
                    item["instance_id"], dialogue.id, context, asked, answer, (answer,), entities
                )
            )
    return examples


def question(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """A free-text answer to a question about the dialogue.

    TLiDB trains on a gold answer drawn anew each time; here it is always the first. Its cap keeps
    the turns around the answer; shortening beyond it must not look at the answer and keeps the
    start, as the original's tokenizer does.
    """
    examples = []
    for dialogue in _annotated(dialogues, title):
        for item in (item for entry in dialogue.annotations[title] for item in entry["qas"]):
            golds = tuple(answer["text"] for answer in item["answers"])
            around = item["answers"][-1]["answer_utterance_id"]  # TLiDB keeps the last one's cut
            context = _context(_cap_around(dialogue.turns, around))
            asked = prompt.format(question=item["question"])
            examples.append(
                Example(
                    item["instance_id"], dialogue.id, context, asked, golds[0], golds, keep="start"
                )
            )
    return examples


def personality(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """Whether a speaker has each of five traits: one example a trait."""
    examples = []
    for dialogue in _annotated(dialogues, title):
        for sample in dialogue.annotations[title]:
            context = _context(cap(_chosen(dialogue, sample["turns"])))
            for trait, value in sample["personality_characteristics"].items():
                name = f"{sample['instance_id']}_{trait}"
                label = known_label(value, labels, name)
                asked = prompt.format(speaker=sample["focus_speaker"], trait=trait)
                examples.append(
                    Example(name, dialogue.id, context, asked, label, (label,), tuple(labels))
                )
    return examples


def relation(
    dialogues: Sequence[Dialogue],
    title: str,
    labels: Sequence[str],
    prompt: str,
    names: Mapping[str, str],
) -> list[Example]:
    """The relations between two entities, as their names joined by `and`.

    Args:
        labels: unused: a corpus may declare fewer than the columns the metric counts in.
        names: label -> its name in natural language; the label set, in the metric's order.
    """
    examples = []
    options = tuple(names.values())
    for dialogue in _annotated(dialogues, title):
        for sample in dialogue.annotations[title]:
            context = _context(cap(_chosen(dialogue, sample["turns"])))
            for triple in sample["relation_triples"]:
                name = triple["instance_id"]
                found = [known_label(label, names, name) for label in triple["relations"]]
                target = " and ".join(names[label] for label in found)
                asked = prompt.format(head=triple["head"], tail=triple["tail"])
                examples.append(
                    Example(name, dialogue.id, context, asked, target, (target,), options)
                )
    return examples


def _annotated(dialogues: Sequence[Dialogue], title: str) -> Iterator[Dialogue]:
    """Dialogues whose metadata names the task; their annotation must be there."""
    for dialogue in dialogues:
        if title in dialogue.metadata:
            on_turns = any(title in turn.annotations for turn in dialogue.turns)
            if not on_turns and title not in dialogue.annotations:
                raise UserError(
                    f"Dialogue '{dialogue.id}' says it is annotated for {title}, but has no such "
                    "annotation; add it or take the task out of its dialogue_metadata."
                )
            yield dialogue


def _context(turns: Sequence[Turn]) -> str:
    return f"context: {render(turns)}"


def _chosen(dialogue: Dialogue, turns: Sequence[int]) -> list[Turn]:
    return [dialogue.turns[number] for number in turns]


def _phrase(text: str, start: int, mention: str) -> str:
    """Four words around a mention: from it on, or up to it where more words stand before it."""
    after = text[start:].split()
    before = text[: start + len(mention) + 1].split()
    words = before[-PHRASE_WORDS:] if len(before) > len(after) else after[:PHRASE_WORDS]
    return " ".join(words)


def _cap_around(turns: Sequence[Turn], answer: int) -> Sequence[Turn]:
    """Drop turns from the end farther from the answer's turn until 512 words are left."""
    start, stop = 0, len(turns)
    while len(render(turns[start:stop]).split()) > MAX_WORDS:
        if answer - start < (stop - start) / 2:
            stop -= 1
        else:
            start += 1
    return turns[start:stop]
