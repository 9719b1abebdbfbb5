"""Dialogues as read, and examples as a model sees them."""

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from dfwe.errors import UserError

CHARACTERS = 4  # of a token, in English text by a vocabulary of some 30,000 pieces


@dataclass(frozen=True, slots=True)
class Turn:
    """One utterance.

    Args:
        speakers: the names of who speaks; none for stage directions.
        text: the utterance.
        annotations: task title -> what the corpus says of this turn, as plain data.
    """

    speakers: tuple[str, ...]
    text: str
    annotations: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One dialogue.

    Args:
        id: its name in the corpus.
        turns: its utterances, in order.
        annotations: task title -> what the corpus says of the dialogue, as plain data.
        metadata: task title -> what the task needs besides; a title is here if and only if the
            dialogue is annotated for the task.
    """

    id: str
    turns: tuple[Turn, ...]
    annotations: Mapping[str, object]
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Example:
    """One instance of a task: what the model reads and what it should answer.

    Args:
        id: the instance's name.
        dialogue: its dialogue's id; the bootstrap resamples dialogues, not instances.
        context: what precedes the prompt; may be shortened to fit the model's input.
        prompt: is never shortened, unless it alone is longer than the model's input.
        target: the answer that training teaches.
        references: every accepted answer.
        options: the texts to choose from; empty for free text.
        keep: which end of the context survives shortening.
    """

    id: str
    dialogue: str
    context: str
    prompt: str
    target: str
    references: tuple[str, ...]
    options: tuple[str, ...] = ()
    keep: Literal["start", "end"] = "end"

    @property
    def source(self) -> str:
        """The model's input when nothing is shortened."""
        return f"{self.context} {self.prompt}".lstrip() if self.prompt else self.context


def about_tokens(examples: Iterable[Example], max_input: int) -> int:
    """About how many tokens a pass over examples reads, without a tokenizer.

    Args:
        examples: the examples.
        max_input: the most tokens of an input.
    """
    return sum(
        min(max_input, len(example.source) // CHARACTERS + 1)
        + len(example.target) // CHARACTERS
        + 1
        for example in examples
    )


def fingerprint(examples: Iterable[Example]) -> str:
    """sha256 over the rendered examples, in order: the name of a data set.

    It is `recipe.digest` of their list, one example after the other.
    """
    encoder, sha = json.JSONEncoder(sort_keys=True, separators=(",", ":")), hashlib.sha256(b"[")
    for number, example in enumerate(examples):
        values = {name: getattr(example, name) for name in Example.__slots__}
        sha.update(f"{',' if number else ''}{encoder.encode(values)}".encode())
    sha.update(b"]")
    return sha.hexdigest()


def known_label(label: str, labels: Collection[str], instance: str) -> str:
    """The label itself.

    Args:
        label: the label of an instance.
        labels: the known labels.
        instance: the instance's name, for the message.

    Raises:
        UserError: the label is not a known one.
    """
    if label not in labels:
        raise UserError(f"{instance} has the unknown label '{label}'; known: {', '.join(labels)}.")
    return label
