"""Corpora in TLiDB's format: one JSON of dialogues and lists of ids, in a zip or a folder."""

import random
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, ValidationError

from dfwe.data.dialogue import Dialogue, Turn
from dfwe.data.strict_json import loads
from dfwe.errors import UserError, reason, schema_fault
from dfwe.settings import Name, settings

SPLITS = ("train", "dev", "test")
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError)
UNFOLDS = 100  # times its size that a zip may unfold to; a corpus does so about 10 times
Shots = Literal["few", "full"]


@runtime_checkable
class Corpus(Protocol):
    """The source of a task's dialogues."""

    @property
    def name(self) -> str: ...

    def dialogues(self, split: str, title: str | None = None) -> Sequence[Dialogue]:
        """The split's dialogues, in the corpus's order.

        Args:
            split: `train`, `dev` or `test`.
            title: the task that will read them; a corpus may leave out dialogues without it.
        """
        ...

    def labels(self, title: str) -> tuple[str, ...]:
        """The labels that the corpus declares for a task."""
        ...

    def whole(self) -> "Corpus":
        """The same corpus with its whole train and dev splits."""
        ...

    @property
    def of_sources(self) -> "Corpus":
        """The same corpus as a study's sources read it; itself where they read what the target
        does."""
        ...


@runtime_checkable
class Published(Protocol):
    """A corpus that knows where it is published and on what terms."""

    @property
    def licence(self) -> str | None: ...

    @property
    def hub_id(self) -> str | None:
        """Of the Hub's data set, if it is one."""
        ...


@dataclass(frozen=True)
class ByRole:
    """A corpus as the tasks of one study read it: the target as it is, the sources as theirs.

    Args:
        corpus: what the target reads.
        target: the target's title.
    """

    corpus: Corpus
    target: str

    @property
    def name(self) -> str:
        return self.corpus.name

    def dialogues(self, split: str, title: str | None = None) -> Sequence[Dialogue]:
        corpus = self.corpus if title in (self.target, None) else self.of_sources
        return corpus.dialogues(split, title)

    def labels(self, title: str) -> tuple[str, ...]:
        return self.corpus.labels(title)

    def whole(self) -> Corpus:
        return self.corpus.whole()

    @property
    def of_sources(self) -> Corpus:
        return self.corpus.of_sources


def by_role(corpus: Corpus, target: str) -> Corpus:
    """The corpus as a study of this target reads it, also where it was another target's."""
    if isinstance(corpus, ByRole):
        corpus = corpus.corpus
    return corpus if corpus.of_sources is corpus else ByRole(corpus, target)


def published(corpus: Corpus) -> Published | None:
    """What a corpus knows of its publication; None for one that knows nothing."""
    inner = corpus.corpus if isinstance(corpus, ByRole) else corpus
    return inner if isinstance(inner, Published) else None


class _TurnEntry(BaseModel):
    """A turn as in the file; a further field is the annotation of the task of that title."""

    model_config = ConfigDict(strict=True, extra="allow")

    speakers: list[str]
    utterance: str
    turn_id: object = None


class _DialogueEntry(BaseModel):
    """A dialogue as in the file; a further field is the annotation of the task of that title."""

    model_config = ConfigDict(strict=True, extra="allow")

    dialogue_id: str
    dialogue: list[_TurnEntry]
    dialogue_metadata: dict[str, object] = {}

    def parsed(self) -> Dialogue:
        """The dialogue with its annotations by title."""
        turns = tuple(
            Turn(tuple(turn.speakers), turn.utterance, turn.model_extra or {})
            for turn in self.dialogue
        )
        return Dialogue(self.dialogue_id, turns, self.model_extra or {}, self.dialogue_metadata)


class _TaskEntry(BaseModel):
    """What the metadata says of a task."""

    model_config = ConfigDict(strict=True)

    labels: list[str] = []


class _MetadataEntry(BaseModel):
    """What the file says of the whole corpus."""

    model_config = ConfigDict(strict=True)

    task_metadata: dict[str, _TaskEntry] = {}


class _File(BaseModel):
    """The JSON of a corpus."""

    model_config = ConfigDict(strict=True)

    metadata: _MetadataEntry = _MetadataEntry()
    data: list[_DialogueEntry]


@settings("corpus")
class TLiDBCorpus:
    """A corpus in TLiDB's format.

    Args:
        name: the corpus's name in tables of results.
        path: the zip, a folder that contains the zip, or the unpacked folder; `shipped:NAME` for
            a zip inside the package.
        shots: `few` reads the 10 % few-shot lists for train and dev, `full` the whole splits;
            test is always whole.
        source_shots: the shots of a study's sources, where they are others.
        seed: few shots are as many dialogues as the lists have, drawn anew by this seed from the
            whole splits, the same for all tasks; None reads the lists.
        download: whether to fetch `url` into `path` when nothing is there.
        url: where the zip can be downloaded.
        size: bytes that a fetched zip must have; None checks nothing.
        sha256: the digest, in hex, that a fetched zip must have; None checks nothing.
        licence: its terms, for the card of a model that is chosen on it.

    Raises:
        UserError: a field is of another type, or shots are neither `few` nor `full`.
    """

    name: Name
    path: str
    shots: Shots = "few"
    source_shots: Shots | None = None
    seed: int | None = None
    download: bool = False
    url: str | None = None
    size: int | None = None
    sha256: str | None = None
    licence: str | None = None

    @property
    def hub_id(self) -> str | None:
        """None: the Hub has no such file."""
        return None

    def dialogues(self, split: str, title: str | None = None) -> Sequence[Dialogue]:
        """The split's dialogues in the order of the JSON, whatever they are annotated for.

        Raises:
            UserError: no such split, missing or damaged data, an id without a dialogue.
        """
        if split not in SPLITS:
            raise UserError(f"Unknown split '{split}'; known: {', '.join(SPLITS)}.")
        whole, few = f"TTiDB_{split}_ids.txt", f"TTiDB_0.1_percent_few_shot_{split}_ids.txt"
        if self.shots == "full" or split == "test":
            file, wanted = whole, self._ids(whole)
        elif self.seed is None:
            file, wanted = few, self._ids(few)
        else:
            every, number = sorted(self._ids(whole)), len(self._ids(few))
            if number > len(every):
                raise UserError(
                    f"{few} in {self._source} names more dialogues than {whole}; get the corpus "
                    "again, or set corpus.seed=null."
                )
            file = whole
            wanted = set(random.Random(f"{self.seed}/{split}").sample(every, number))
        _, dialogues = self._content
        selected = tuple(dialogues[name] for name in dialogues if name in wanted)
        if len(selected) < len(wanted):
            lost = min(wanted - set(dialogues))
            raise UserError(
                f"{file} names the dialogue '{lost}', which {self._source} lacks; take it out of "
                "the list, or get the corpus again."
            )
        return selected

    def labels(self, title: str) -> tuple[str, ...]:
        """The labels that the corpus's metadata declares for a task.

        Raises:
            UserError: there is no such task, or the data are missing or damaged.
        """
        labels, _ = self._content
        if title not in labels:
            raise UserError(
                f"corpus={self.name} has no task '{title}'; it has: {', '.join(labels)}."
            )
        return labels[title]

    def whole(self) -> "TLiDBCorpus":
        """The same corpus with its whole train and dev splits."""
        return replace(self, shots="full", source_shots=None)

    @cached_property
    def of_sources(self) -> "TLiDBCorpus":
        """The same corpus as a study's sources read it."""
        if self.source_shots in (self.shots, None):
            return self
        return replace(self, shots=self.source_shots, source_shots=None)

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
                raise UserError(f"{path} has {len(zips)} zips; name one of them as corpus.path.")
            if folder or zips:
                return folder or zips[0]
        elif path.is_file():
            return path
        if self.download and self.url:
            from dfwe.data.fetch import fetch

            return fetch(self.url, path, self.size, self.sha256)
        raise UserError(
            f"No data at {path}: point DFWE_DATA (or corpus.path) at the zip, a folder with "
            "the zip or the unpacked folder, or set corpus.download=true to fetch it."
        )

    @cached_property
    def _members(self) -> Mapping[str, bytes]:
        """File name -> content, read in place: nothing is ever unpacked to disk."""
        try:
            if self._source.is_dir():
                files = [*self._source.glob("*.json"), *self._source.glob("TTiDB_*_ids.txt")]
                return {file.name: file.read_bytes() for file in files}
            with zipfile.ZipFile(self._source) as archive:
                return self._unzipped(archive)
        except UserError:
            raise
        except (
            zipfile.BadZipFile,
            zlib.error,
            EOFError,
            OSError,
            ValueError,
            RuntimeError,
        ) as error:
            raise UserError(
                f"{self._source} is not a readable zip ({reason(error)}); download it again."
            ) from None

    def _unzipped(self, archive: zipfile.ZipFile) -> Mapping[str, bytes]:
        """The corpus's files in a zip, by name; no more is unfolded than its directory says."""
        entries = {PurePosixPath(entry.filename): entry for entry in archive.infolist()}
        if len(entries) < len(archive.infolist()):
            raise UserError(f"{self._source} has two files of one name; download it again.")
        top = next((path.parent for path in entries if path.name == "TTiDB_train_ids.txt"), None)
        wanted = {
            path.name: entry
            for path, entry in entries.items()
            if path.parent == top and path.suffix in (".json", ".txt")
        }
        packed = self._source.stat().st_size
        unfolded = sum(entry.file_size for entry in wanted.values())
        if unfolded > UNFOLDS * packed:
            raise UserError(
                f"{self._source} has {packed:,} bytes and unfolds to {unfolded:,}, more than "
                f"{UNFOLDS} times as many; if you trust it, unpack it and name the folder."
            )
        return {name: archive.read(entry) for name, entry in wanted.items()}

    def _ids(self, name: str) -> set[str]:
        """The dialogues that a list names."""
        try:
            return set(self._content_of(name).decode("utf-8-sig").split())
        except UnicodeDecodeError as error:
            raise UserError(
                f"{name} in {self._source} is not text in UTF-8 ({error.reason}); save it as such."
            ) from None

    def _content_of(self, name: str) -> bytes:
        if name not in self._members:
            raise UserError(
                f"{self._source} has no {name}; it is not a corpus in TLiDB's format, "
                "or not a whole one."
            )
        return self._members[name]

    @cached_property
    def _content(self) -> tuple[dict[str, tuple[str, ...]], dict[str, Dialogue]]:
        """Labels by task title; dialogues by id, in the order of the JSON."""
        file = self._file()
        dialogues = {entry.dialogue_id: entry.parsed() for entry in file.data}
        if len(dialogues) < len(file.data):
            raise UserError(
                f"{self._source} has {len(file.data) - len(dialogues)} dialogues whose id "
                "another one has too; make the ids unique."
            )
        tasks = file.metadata.task_metadata
        return {title: tuple(entry.labels) for title, entry in tasks.items()}, dialogues

    def _file(self) -> _File:
        """The corpus's JSON."""
        files = [n for n in self._members if n.endswith(".json") and n != "sample_format.json"]
        if len(files) != 1:
            raise UserError(
                f"{self._source} has {len(files)} JSON files where one was expected; leave only "
                "the corpus's there."
            )
        name = files[0]
        try:
            return _File.model_validate(loads(self._members[name]))
        except ValidationError as error:
            raise UserError(
                f"{name} in {self._source} {schema_fault(error)}; TLiDB's format is "
                '{"metadata": ..., "data": [dialogues]}, where a dialogue has dialogue_id and '
                "dialogue, a list of turns with speakers and utterance."
            ) from None
        except ValueError as error:
            raise UserError(
                f"{name} in {self._source} is damaged ({error}); download it again."
            ) from None
