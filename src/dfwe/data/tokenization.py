"""Examples -> token ids: a table, cached by fingerprint."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast, overload

from dfwe.data.dialogue import Example, fingerprint
from dfwe.data.id_rows import IdRows
from dfwe.pipeline.manifest import cached_folder
from dfwe.pipeline.recipe import digest

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZATION = 2  # part of recipes and of cached tables; raised when the ids change
TABLE = 2  # part of the name of a cached table; raised when its files change
CHUNK = 1000  # examples that are tokenised at a time: a tokenizer's results take much memory
DISTINCT = 10_000  # answers whose ids are remembered


class _Backend(Protocol):
    """What is used of a fast tokenizer's implementation."""

    def to_str(self) -> str: ...


class Tokenizer(Protocol):
    """What is used of a tokenizer of transformers."""

    @property
    def pad_token_id(self) -> int: ...

    @property
    def eos_token_id(self) -> int: ...

    @property
    def bos_token_id(self) -> int | None: ...

    @property
    def cls_token_id(self) -> int | None: ...

    @property
    def sep_token_id(self) -> int | None: ...

    @property
    def is_fast(self) -> bool: ...

    @property
    def backend_tokenizer(self) -> _Backend: ...

    @overload
    def __call__(
        self, text: str, *, add_special_tokens: bool = True, verbose: bool = True
    ) -> Mapping[str, list[int]]: ...

    @overload
    def __call__(
        self, text: list[str], *, add_special_tokens: bool = True, verbose: bool = True
    ) -> Mapping[str, list[list[int]]]: ...

    def __len__(self) -> int: ...

    def get_vocab(self) -> Mapping[str, int]: ...

    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int]: ...

    def batch_decode(
        self, sequences: list[list[int]], skip_special_tokens: bool = False
    ) -> list[str]: ...


def as_tokenizer(tokenizer: "PreTrainedTokenizerBase") -> Tokenizer:
    """A tokenizer of transformers with types: it looks its ids up by name."""
    return cast(Tokenizer, tokenizer)


@dataclass(frozen=True, eq=False)
class TokenizedSplit:
    """A split as token ids, end tokens included.

    Args:
        examples: the split, of m examples.
        sources: (m, tokens), the inputs, shortened to `max_input` where the prompt allows.
        targets: (m, tokens), what training teaches, each at most `max_target` long; for an
            encoder with a head the label's number, or 0 and 1 for each label of a multi-label
            task.
        options: (m, options, tokens), the ids of each option, never shortened; empty lists for
            free text and for an encoder with a head.
        tokenizer: the one that the ids belong to.
    """

    examples: tuple[Example, ...]
    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    options: Sequence[Sequence[Sequence[int]]]
    tokenizer: Tokenizer

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def tokens(self) -> int:
        """How many tokens a pass over the split has, sources and targets together."""
        return sum(map(len, self.sources)) + sum(map(len, self.targets))

    def subset(self, positions: Sequence[int]) -> "TokenizedSplit":
        """The examples at these positions."""
        examples = tuple(self.examples[i] for i in positions)
        return TokenizedSplit(
            examples,
            [self.sources[i] for i in positions],
            [self.targets[i] for i in positions],
            [self.options[i] for i in positions],
            self.tokenizer,
        )


def tokenize(
    examples: tuple[Example, ...],
    tokenizer: Tokenizer,
    *,
    max_input: int,
    max_target: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids for a sequence-to-sequence model.

    A source that is too long loses tokens of its context, at the end that the example does not
    `keep`; prompt and end token always survive, also a prompt that alone is longer than
    `max_input` (a T5's positions are relative: the limit is one of cost, not of the network).

    Args:
        examples: a split.
        tokenizer: the model's.
        max_input: the most tokens of a source, end token included.
        max_target: the most tokens of a target, end token included.
        cache: a folder of tables; an equal one is read from there, a new one is added.
    """
    ids_of = _remembered(tokenizer, _alone)

    def write() -> dict[str, IdRows]:
        return {
            "source": IdRows.of(_sources(examples, tokenizer, max_input)),
            "target": _targets(examples, tokenizer, max_target, ids_of),
        }

    table = _cached(cache, ["", max_input, max_target], examples, tokenizer, write)
    options = _Options(examples, tokenizer, ids_of)
    return TokenizedSplit(examples, table["source"], table["target"], options, tokenizer)


def tokenize_continued(
    examples: tuple[Example, ...],
    tokenizer: Tokenizer,
    *,
    max_input: int,
    max_target: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids for a causal model: an answer continues its source, after a space.

    Args:
        examples: a split.
        tokenizer: the model's.
        max_input: the most tokens of a source.
        max_target: the most tokens of a target, end token included.
        cache: a folder of tables; an equal one is read from there, a new one is added.
    """
    ids_of, end = _remembered(tokenizer, _after_a_space), tokenizer.eos_token_id

    def write() -> dict[str, IdRows]:
        sources = _sources(examples, tokenizer, max_input)
        return {
            "source": IdRows.of(ids[:-1] if ids[-1:] == [end] else ids for ids in sources),
            "target": _targets(examples, tokenizer, max_target, ids_of),
        }

    table = _cached(cache, ["causal", max_input, max_target], examples, tokenizer, write)
    options = _Options(examples, tokenizer, ids_of)
    return TokenizedSplit(examples, table["source"], table["target"], options, tokenizer)


def tokenize_labels(
    examples: tuple[Example, ...],
    golds: Sequence[Sequence[int]],
    tokenizer: Tokenizer,
    *,
    max_input: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids for an encoder with a head.

    A source is shortened like `tokenize`'s; a prompt that alone is too long loses its end, since
    an encoder has no positions beyond its limit.

    Args:
        examples: a split, of m examples.
        golds: (m, labels or 1), the targets: what the head should give.
        tokenizer: the model's.
        max_input: the most tokens of a source, end token included.
        cache: a folder of tables; an equal one is read from there, a new one is added.
    """
    end = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    room = max_input - len(end)

    def write() -> dict[str, IdRows]:
        sources = _sources(examples, tokenizer, max_input)
        cut = (ids if len(ids) <= max_input else [*ids[:room], *end] for ids in sources)
        return {"source": IdRows.of(cut)}

    table = _cached(cache, ["encoder", max_input], examples, tokenizer, write)
    options: list[list[list[int]]] = [[]] * len(examples)
    return TokenizedSplit(examples, table["source"], golds, options, tokenizer)


class _Options(Sequence[list[list[int]]]):
    """The token ids of each example's options: those of each text are kept once."""

    def __init__(
        self, examples: Sequence[Example], tokenizer: Tokenizer, ids_of: Callable[[str], list[int]]
    ) -> None:
        self._examples = examples
        texts = {text for options in {e.options for e in examples} for text in options}
        self._ids = {text: [*ids_of(text), tokenizer.eos_token_id] for text in texts}

    def __len__(self) -> int:
        return len(self._examples)

    @overload
    def __getitem__(self, index: int) -> list[list[int]]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[list[int]]]: ...

    def __getitem__(self, index: int | slice) -> list[list[int]] | list[list[list[int]]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return [self._ids[text] for text in self._examples[index].options]


def _cached(
    cache: Path | None,
    how: Sequence[object],
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    write: Callable[[], dict[str, IdRows]],
) -> Mapping[str, IdRows]:
    """The columns of a table in `cache`; computed, and added there, where it is not.

    Args:
        how: what decides the ids, besides examples and tokenizer.
    """
    if cache is None:
        return write()
    name = [TABLE, TOKENIZATION, *how, fingerprint(examples), _tokenizer_digest(tokenizer)]

    def save(folder: Path) -> None:
        for column, rows in write().items():
            rows.save(folder, column)

    folder = cached_folder(cache / digest(name)[:20], save)
    columns = {path.name.partition(".")[0] for path in folder.glob("*.npy")}
    return {column: IdRows.load(folder, column) for column in columns}


def _targets(
    examples: Sequence[Example],
    tokenizer: Tokenizer,
    max_target: int,
    ids_of: Callable[[str], list[int]],
) -> IdRows:
    """What training teaches, end tokens included."""
    end = [tokenizer.eos_token_id]
    return IdRows.of(ids_of(example.target)[: max_target - 1] + end for example in examples)


def _remembered(
    tokenizer: Tokenizer, ids_of: Callable[[str, Tokenizer], list[int]]
) -> Callable[[str], list[int]]:
    """Text -> its token ids; a table has few distinct answers."""

    @lru_cache(DISTINCT)
    def remembered(text: str) -> list[int]:
        return ids_of(text, tokenizer)

    return remembered


def _alone(text: str, tokenizer: Tokenizer) -> list[int]:
    """The token ids of a text, without special tokens."""
    return tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]


def _after_a_space(text: str, tokenizer: Tokenizer) -> list[int]:
    """The token ids of a text that follows another one and a space.

    Byte-level tokenizers write the space into the text's first token.
    """
    before = len(_alone(":", tokenizer))
    return _alone(f": {text}", tokenizer)[before:]


def _sources(
    examples: Sequence[Example], tokenizer: Tokenizer, max_input: int
) -> Iterator[list[int]]:
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        # verbose=False: what is too long for the model is shortened here, no reason for a warning.
        whole = tokenizer([example.source for example in chunk], verbose=False)["input_ids"]
        for ids, example in zip(whole, chunk, strict=True):
            yield ids if len(ids) <= max_input else _shorten(example, tokenizer, max_input)


def _shorten(example: Example, tokenizer: Tokenizer, max_input: int) -> list[int]:
    """An input whose context is cut to `max_input`, with the prompt's tokens of the whole one."""
    special = tokenizer("")["input_ids"]
    first_tokens = {tokenizer.cls_token_id, tokenizer.bos_token_id} - {None}
    opens = len(first_tokens.intersection(special[:1]))  # a first token stays the first
    prompt = _after_a_space(example.prompt, tokenizer) if example.prompt else []
    room = max(0, max_input - len(prompt) - len(special))
    context = _alone(example.context, tokenizer)
    kept = context[:room] if example.keep == "start" else context[max(0, len(context) - room) :]
    if not kept:  # nothing precedes the prompt
        prompt = _alone(example.prompt, tokenizer)
    return special[:opens] + kept + prompt + special[opens:]


def _tokenizer_digest(tokenizer: Tokenizer) -> str:
    if tokenizer.is_fast:
        return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return digest([type(tokenizer).__name__, tokenizer.get_vocab()])  # in Python, such as ByT5's
