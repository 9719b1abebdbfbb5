"""Dialogues as read, and examples as a model sees them."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfwe.errors import UserError
from dfwe.pipeline.recipe import digest


@dataclass(frozen=True)
class Turn:
    """One utterance with the annotations that stand on it, by task title."""

    speakers: tuple[str, ...]
    text: str
    annotations: Mapping[str, Any]


@dataclass(frozen=True)
class Dialogue:
    """One dialogue with its annotations and metadata, by task title."""

    id: str
    turns: tuple[Turn, ...]
    annotations: Mapping[str, Any]
    metadata: Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """One instance of a task: what the model reads and what it should answer."""

    id: str
    dialogue: str  # the bootstrap resamples dialogues, not instances
    context: str  # may be shortened to fit the model's input
    prompt: str  # always survives
    target: str  # what training teaches
    references: tuple[str, ...]  # every accepted answer
    options: tuple[str, ...] = ()  # the texts to choose from; empty for free text
    keep: Literal["start", "end"] = "end"  # which end of the context survives shortening

    @property
    def source(self) -> str:
        """The model's input when nothing is shortened."""
        return f"{self.context} {self.prompt}".lstrip() if self.prompt else self.context


def fingerprint(examples: Iterable[Example]) -> str:
    """sha256 over the rendered examples, in order: the name of a data set."""
    return digest([asdict(example) for example in examples])


def known_label(label: Any, labels: Collection[str], instance: str) -> str:
    """The label itself; UserError naming the instance and the known labels if it is not one."""
    if label not in labels:
        raise UserError(f"{instance} has the unknown label '{label}'; known: {', '.join(labels)}.")
    return label
