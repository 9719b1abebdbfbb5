"""Readers of the seven FETA-Friends tasks: dialogues -> examples, as TLiDB renders them for T5.

Each reader takes the dialogues of a split, the task's title, its labels and the prompt's template.
Dialogues are capped at 512 words by dropping whole turns, as in TLiDB; a model with a shorter
input shortens further. An annotation that lacks a field or has a wrong one raises pydantic's
ValidationError, which `Task.examples` turns into a sentence.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from dfwe.data.dialogue import Dialogue, Example, Turn, known_label
from dfwe.data.templates import fill
from dfwe.errors import UserError
from dfwe.settings import Compatibility

MAX_WORDS = 512
PHRASE_WORDS = 4


Position = Annotated[int, Field(ge=0)]


class _Annotation(BaseModel):
    """A part of the corpus's annotations; fields that no reader needs are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)


class _Emotion(_Annotation):
    instance_id: str
    label: str


class _Mention(_Annotation):
    instance_id: str
    start: Position  # the mention's first character in the utterance
    entity_reference: str
    normalized_entity: str


class _Scene(_Annotation):
    scene_entities: list[str]


class _Cloze(_Annotation):
    instance_id: str
    query: str
    answer: str


class _Span(_Annotation):
    text: str
    answer_utterance_id: Position  # the number of the answer's turn in the dialogue


class _Question(_Annotation):
    instance_id: str
    question: str
    answers: Annotated[list[_Span], Field(min_length=1)]


class _Questions(_Annotation):
    qas: list[_Question]


class _Personality(_Annotation):
    instance_id: str
    focus_speaker: str
    turns: list[Position]
    personality_characteristics: dict[str, str]


class _Relation(_Annotation):
    instance_id: str
    head: str
    tail: str
    relations: list[str]


class _Relations(_Annotation):
    turns: list[Position]
    relation_triples: list[_Relation]


_MENTIONS = TypeAdapter(list[_Mention])
_CLOZES = TypeAdapter(list[_Cloze])
_QUESTIONS = TypeAdapter(list[_Questions])
_PERSONALITIES = TypeAdapter(list[_Personality])
_RELATIONS = TypeAdapter(list[_Relations])


def render(turns: Sequence[Turn]) -> str:
    """`Speaker: text Speaker: text`, speakers of one turn joined by spaces."""
    lines = (f"{' '.join(t.speakers)}: {t.text}" if any(t.speakers) else t.text for t in turns)
    return " ".join(lines)


def cap(turns: Sequence[Turn]) -> Sequence[Turn]:
    """Drop the oldest turns until at most 512 words are left."""
    start, words = len(turns), 0
    while start:
        words += _words(turns[start - 1])
        if words > MAX_WORDS:
            break
        start -= 1
    return turns[start:]


def _words(turn: Turn) -> int:
    """How many words a turn adds to what is rendered."""
    return len(render([turn]).split())


def emotion(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """The emotion of an utterance, read with the utterances before it.

    Args:
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: the emotions to choose from.
        prompt: what follows the context, as it is.

    Raises:
        UserError: an annotation is missing, or has a label that is not one of `labels`.
    """
    examples: list[Example] = []
    for dialogue in _annotated(dialogues, title):
        for number, turn in enumerate(dialogue.turns):
            if title not in turn.annotations:
                continue
            annotation = _Emotion.model_validate(turn.annotations[title])
            name = annotation.instance_id
            label = known_label(annotation.label, labels, name)
            context = _context(cap(dialogue.turns[: number + 1]))
            examples.append(_choice(name, dialogue, context, prompt, answer=label, options=labels))
    return examples


def character(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """The character to whom a mention refers, read with the utterances up to it.

    Args:
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: the characters to choose from.
        prompt: a template over `labels`, joined by `or`, `mention` and `phrase`, the words
            around the mention.

    Raises:
        UserError: an annotation is missing, or has a label that is not one of `labels`.
    """
    examples: list[Example] = []
    for dialogue in _annotated(dialogues, title):
        for number, turn in enumerate(dialogue.turns):
            mentions = _MENTIONS.validate_python(turn.annotations.get(title, []))
            context = _context(cap(dialogue.turns[: number + 1])) if mentions else ""
            for mention in mentions:
                text = mention.entity_reference
                if not turn.text.startswith(text, mention.start):
                    raise UserError(
                        f"{mention.instance_id} says that '{text}' is the mention at character "
                        f"{mention.start} of its utterance, where it is not; correct 'start'."
                    )
                phrase = _phrase(turn.text, mention.start, text)
                words = {"labels": " or ".join(labels), "mention": text, "phrase": phrase}
                filled = fill(prompt, words)
                name = mention.instance_id
                label = known_label(mention.normalized_entity, labels, name)
                examples.append(
                    _choice(name, dialogue, context, filled, answer=label, options=labels)
                )
    return examples


def reading(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """The entity behind the placeholder of a sentence about the dialogue.

    Args:
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: unused: each dialogue has its entities in its metadata.
        prompt: a template over `query`, the sentence, and `entities`, joined by `or`.

    Raises:
        UserError: an annotation is missing, or has an answer that is not one of the entities.
    """
    examples: list[Example] = []
    for dialogue in _annotated(dialogues, title):
        entities = _Scene.model_validate(dialogue.metadata[title]).scene_entities
        context = _context(cap(dialogue.turns))
        for item in _CLOZES.validate_python(dialogue.annotations[title]):
            name = item.instance_id
            answer = known_label(item.answer, entities, name)
            filled = fill(prompt, {"query": item.query, "entities": " or ".join(entities)})
            examples.append(
                _choice(name, dialogue, context, filled, answer=answer, options=entities)
            )
    return examples


def question(
    dialogues: Sequence[Dialogue],
    title: str,
    labels: Sequence[str],
    prompt: str,
    compatibility: Compatibility = None,
) -> list[Example]:
    """A free-text answer to a question about the dialogue.

    TLiDB trains on another gold answer each time; here it is always the first. A dialogue of more
    than 512 words keeps its start, and so does shortening beyond that. TLiDB keeps the turns
    around the gold answer instead, in every split: the input then depends on the answer.

    Args:
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: unused: answers are free text.
        prompt: a template over `question`.
        compatibility: `tlidb` keeps the turns that TLiDB keeps.

    Raises:
        UserError: an annotation is missing.
    """
    examples: list[Example] = []
    for dialogue in _annotated(dialogues, title):
        for entry in _QUESTIONS.validate_python(dialogue.annotations[title]):
            for item in entry.qas:
                golds = tuple(answer.text for answer in item.answers)
                # TLiDB cuts around the last one
                around = item.answers[-1].answer_utterance_id if compatibility == "tlidb" else 0
                context = _context(_cap_around(dialogue.turns, around))
                filled = fill(prompt, {"question": item.question})
                name = item.instance_id
                examples.append(
                    Example(name, dialogue.id, context, filled, golds[0], golds, keep="start")
                )
    return examples


def personality(
    dialogues: Sequence[Dialogue], title: str, labels: Sequence[str], prompt: str
) -> list[Example]:
    """Whether a speaker has each of five traits: one example per trait.

    Args:
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: the two answers.
        prompt: a template over `speaker` and `trait`.

    Raises:
        UserError: an annotation is missing, or has a label that is not one of `labels`.
    """
    examples: list[Example] = []
    for dialogue in _annotated(dialogues, title):
        for sample in _PERSONALITIES.validate_python(dialogue.annotations[title]):
            context = _context(cap(_selected(dialogue, sample.turns)))
            for trait, value in sample.personality_characteristics.items():
                name = f"{sample.instance_id}_{trait}"
                label = known_label(value, labels, name)
                filled = fill(prompt, {"speaker": sample.focus_speaker, "trait": trait})
                examples.append(
                    _choice(name, dialogue, context, filled, answer=label, options=labels)
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
        dialogues: of a split.
        title: the task's title in the corpus.
        labels: unused: a corpus may declare fewer than the columns the metric counts in.
        prompt: a template over `head` and `tail`, the entities.
        names: label -> its name in natural language; the label set, in the metric's order.

    Raises:
        UserError: an annotation is missing, or has a label that is not one of `names`.
    """
    examples: list[Example] = []
    options = tuple(names.values())
    for dialogue in _annotated(dialogues, title):
        for sample in _RELATIONS.validate_python(dialogue.annotations[title]):
            context = _context(cap(_selected(dialogue, sample.turns)))
            for triple in sample.relation_triples:
                name = triple.instance_id
                relations = [known_label(label, names, name) for label in triple.relations]
                if len(set(relations)) < len(relations):
                    raise UserError(f"{name} names a relation twice; leave it there once.")
                target = " and ".join(names[label] for label in relations)
                filled = fill(prompt, {"head": triple.head, "tail": triple.tail})
                examples.append(
                    _choice(name, dialogue, context, filled, answer=target, options=options)
                )
    return examples


def _choice(
    name: str,
    dialogue: Dialogue,
    context: str,
    prompt: str,
    *,
    answer: str,
    options: Sequence[str],
) -> Example:
    """An example with one accepted answer, to be chosen from options."""
    return Example(name, dialogue.id, context, prompt, answer, (answer,), tuple(options))


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


def _selected(dialogue: Dialogue, turns: Sequence[int]) -> list[Turn]:
    """The turns of these numbers."""
    return [dialogue.turns[number] for number in turns]


def _phrase(text: str, start: int, mention: str) -> str:
    """Four words around a mention: from it on, or up to it where more words stand before it."""
    after = text[start:].split()
    before = text[: start + len(mention) + 1].split()
    words = before[-PHRASE_WORDS:] if len(before) > len(after) else after[:PHRASE_WORDS]
    return " ".join(words)


def _cap_around(turns: Sequence[Turn], number: int) -> Sequence[Turn]:
    """Drop turns from the end farther from the turn of a number until 512 words are left."""
    start, stop, counts = 0, len(turns), [_words(turn) for turn in turns]
    words = sum(counts)
    while words > MAX_WORDS:
        if number - start < (stop - start) / 2:
            stop -= 1
            words -= counts[stop]
        else:
            words -= counts[start]
            start += 1
    return turns[start:stop]
