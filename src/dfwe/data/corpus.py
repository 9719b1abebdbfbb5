"""Corpora in TLiDB's format: one JSON of dialogues and lists of ids, in a zip or a folder."""

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

from dfwe.data.dialogue import Dialogue, Turn
from dfwe.errors import UserError, check_choice

SPLITS = ("train", "dev", "test")
TURN_FIELDS = {"turn_id", "speakers", "utterance"}
DIALOGUE_FIELDS = {"dialogue_id", "dialogue_metadata", "dialogue"}


class Corpus(Protocol):
    """What a task reads from."""

    @property
    def name(self) -> str: ...

    def dialogues(self, split: str, title: str | None = None) -> tuple[Dialogue, ...]:
        """The split's dialogues, in the corpus's order.

        `title` is the task that will read them, so that a corpus may leave out what it does not.
        """
        ...

    def labels(self, title: str) -> tuple[str, ...]:
        """The labels the corpus declares for a task."""
        ...

    def whole(self) -> "Corpus":
        """The same corpus with its whole train and dev splits."""
        ...


@dataclass(frozen=True)
class TLiDBCorpus:
    """A corpus in TLiDB's format.

    Args:
        name: what the tables call it.
        path: the zip, a folder that holds the zip, or the unpacked folder; `shipped:NAME` for
            a zip inside the package.
        shots: `few` reads the 10 % few-shot lists for train and dev, `full` the whole splits;
            test is always whole.
        url: where the zip can be had; fetched into `path` when nothing is there and
            `download` is true.
        size, sha256: what a fetched zip must be, where known.
    """

    name: str
    path: str
    shots: Literal["few", "full"] = "few"
    download: bool = False
    url: str | None = None
    size: int | None = None
    sha256: str | None = None

    def __post_init__(self) -> None:
        check_choice("corpus.shots", self.shots, ("few", "full"))

    def dialogues(self, split: str, title: str | None = None) -> tuple[Dialogue, ...]:
        """The split's dialogues in the order of the JSON, whatever they are annotated for.

        Raises:
            UserError: no such split, missing or damaged data, an id without a dialogue.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split '{split}'; known: {', '.join(SPLITS)}.")
        few = self.shots == "few" and split != "test"
        listed = f"TTiDB_0.1_percent_few_shot_{split}_ids.txt" if few else f"TTiDB_{split}_ids.txt"
        wanted = set(self._text(listed).split())
        found = tuple(self._dialogues[name] for name in self._dialogues if name in wanted)
        if len(found) < len(wanted):
            lost = min(wanted - set(self._dialogues))
            raise UserError(f"{listed} names the dialogue '{lost}', which {self._source} lacks.")
        return found

    def labels(self, title: str) -> tuple[str, ...]:
        """The labels that the corpus's metadata declares for the task `title`."""
        tasks = self._raw.get("metadata", {}).get("task_metadata", {})
        if title not in tasks:
            raise UserError(
                f"corpus={self.name} has no task '{title}'; it has: {', '.join(tasks)}."
            )
        return tuple(tasks[title].get("labels", ()))

    def whole(self) -> "TLiDBCorpus":
        """The same corpus with its whole train and dev splits."""
        return replace(self, shots="full")

    @cached_property
    def _source(self) -> Path:
        """The zip or the unpacked folder."""
        if self.path.startswith("shipped:"):
            return Path(__file__).parents[1] / "assets" / self.path.removeprefix("shipped:")
        path = Path(self.path).expanduser()
        if path.is_dir():
            zips = sorted(path.glob("*.zip"))
            unpacked = [path, *sorted(child for child in path.iterdir() if child.is_dir())]
            folder = next((f for f in unpacked if (f / "TTiDB_train_ids.txt").is_file()), None)
            if folder is None and len(zips) > 1:
                raise UserError(f"{path} holds {len(zips)} zips; name one of them as corpus.path.")
            if folder or zips:
                return folder or zips[0]
        elif path.is_file():
            return path
        if self.download and self.url:
            from dfwe.data.fetch import fetch

            return fetch(self.url, path, self.size, self.sha256)
        raise UserError(
            f"No data at {path}: point DFWE_DATA (or corpus.path) at the zip, a folder that holds "
            "it or the unpacked folder, or set corpus.download=true to fetch it."
        )

    @cached_property
    def _members(self) -> Mapping[str, bytes]:
        """File name -> content, read in place: nothing is ever unpacked to disk."""
        if self._source.is_dir():
            files = [*self._source.glob("*.json"), *self._source.glob("TTiDB_*_ids.txt")]
            return {file.name: file.read_bytes() for file in files}
        try:
            with zipfile.ZipFile(self._source) as archive:
                names = [PurePosixPath(name) for name in archive.namelist()]
                top = next((n.parent for n in names if n.name == "TTiDB_train_ids.txt"), None)
                wanted = [n for n in names if n.parent == top and n.suffix in (".json", ".txt")]
                return {name.name: archive.read(str(name)) for name in wanted}
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise UserError(
                f"{self._source} is not a readable zip ({error}); get it again."
            ) from None

    def _text(self, name: str) -> str:
        if name not in self._members:
            raise UserError(
                f"{self._source} has no {name}; it is not a corpus in TLiDB's format, "
                "or not a whole one."
            )
        return self._members[name].decode()

    @cached_property
    def _raw(self) -> dict[str, Any]:
        named = [n for n in self._members if n.endswith(".json") and n != "sample_format.json"]
        if len(named) != 1:
            raise UserError(f"{self._source} holds {len(named)} JSON files; one was expected.")
        try:
            raw = json.loads(self._members[named[0]])
        except ValueError as error:
            raise UserError(
                f"{named[0]} in {self._source} is damaged ({error}); get it again."
            ) from None
        if not isinstance(raw, dict) or "data" not in raw:
            raise UserError(
                f"{named[0]} in {self._source} has no 'data'; TLiDB's format is "
                '{"metadata": ..., "data": [dialogues]}.'
            )
        return raw

    @cached_property
    def _dialogues(self) -> dict[str, Dialogue]:
        entries = self._raw["data"]
        try:
            found = {entry["dialogue_id"]: _dialogue(entry) for entry in entries}
        except (KeyError, TypeError) as error:
            raise UserError(
                f"A dialogue in {self._source} lacks the field {error}; TLiDB's "
                "format needs dialogue_id, dialogue, speakers and utterance."
            ) from None
        if len(found) < len(entries):
            raise UserError(
                f"{self._source} has {len(entries) - len(found)} dialogues whose id "
                "another one has too; make the ids unique."
            )
        return found


def _dialogue(entry: Mapping[str, Any]) -> Dialogue:
    turns = tuple(
        Turn(tuple(turn["speakers"]), turn["utterance"], _without(turn, TURN_FIELDS))
        for turn in entry["dialogue"]
    )
    metadata = entry.get("dialogue_metadata", {})
    return Dialogue(entry["dialogue_id"], turns, _without(entry, DIALOGUE_FIELDS), metadata)


def _without(fields: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in known}
