"""Examples -> token ids: a `datasets` table, cached by fingerprint."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Protocol, TypeVar, overload

from pydantic import TypeAdapter

from dfwe.data.dialogue import Example, fingerprint
from dfwe.pipeline.manifest import cached_folder
from dfwe.pipeline.recipe import digest

TOKENIZATION = 2  # part of recipes and of cached tables; raised when the ids change


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


@dataclass(frozen=True)
class _Inputs:
    """Columns of a cached table for an encoder with a head."""

    source: list[list[int]]


@dataclass(frozen=True)
class _Columns(_Inputs):
    """Columns of a cached table for a model that generates."""

    target: list[list[int]]
    options: list[list[list[int]]]


_Cached = TypeVar("_Cached", bound=_Inputs)


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
    name = [
        TOKENIZATION,
        fingerprint(examples),
        _tokenizer_digest(tokenizer),
        max_input,
        max_target,
    ]
    table = _cached(
        cache, name, _Columns, lambda: _table(examples, tokenizer, max_input, max_target)
    )
    return TokenizedSplit(examples, table.source, table.target, table.options, tokenizer)


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
    limits = [max_input, max_target]
    name = [TOKENIZATION, "causal", fingerprint(examples), _tokenizer_digest(tokenizer), *limits]
    end = tokenizer.eos_token_id

    def columns() -> _Columns:
        table = _table(examples, tokenizer, max_input, max_target, _after_a_space)
        without_end = [ids[:-1] if ids[-1] == end else ids for ids in table.source]
        return replace(table, source=without_end)

    table = _cached(cache, name, _Columns, columns)
    return TokenizedSplit(examples, table.source, table.target, table.options, tokenizer)


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
    name = [
        TOKENIZATION,
        "encoder",
        fingerprint(examples),
        _tokenizer_digest(tokenizer),
        max_input,
    ]

    def columns() -> _Inputs:
        return _Inputs(_sources(examples, tokenizer, max_input))

    table = _cached(cache, name, _Inputs, columns)
    end = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    sources = [
        ids if len(ids) <= max_input else [*ids[: max_input - len(end)], *end]
        for ids in table.source
    ]
    options: list[list[list[int]]] = [[]] * len(examples)
    return TokenizedSplit(examples, sources, golds, options, tokenizer)


def _cached(
    cache: Path | None,
    name: Sequence[object],
    schema: type[_Cached],
    columns: Callable[[], _Cached],
) -> _Cached:
    """The table of that name in `cache`; computed, and added there, where it is not."""
    if cache is None:
        return columns()
    from datasets import Dataset, disable_progress_bars

    def write(folder: Path) -> None:
        disable_progress_bars()
        Dataset.from_dict(vars(columns())).save_to_disk(folder)

    folder = cached_folder(cache / digest(name)[:20], write)
    return TypeAdapter(schema).validate_python(Dataset.load_from_disk(folder).to_dict())


def _table(
    examples: tuple[Example, ...],
    tokenizer: Tokenizer,
    max_input: int,
    max_target: int,
    answer: Callable[[str, Tokenizer], list[int]] | None = None,
) -> _Columns:
    """Sources, targets and options as token ids.

    Args:
        answer: the token ids of an answer without its end; None takes those of its text alone.
    """
    end, ids_of = [tokenizer.eos_token_id], answer or _alone
    texts = {text for example in examples for text in example.options}
    options = {text: ids_of(text, tokenizer) + end for text in texts}
    return _Columns(
        source=_sources(examples, tokenizer, max_input),
        target=[ids_of(example.target, tokenizer)[: max_target - 1] + end for example in examples],
        options=[[options[text] for text in example.options] for example in examples],
    )


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
    examples: tuple[Example, ...], tokenizer: Tokenizer, max_input: int
) -> list[list[int]]:
    # verbose=False: what is too long for the model is shortened here, no reason for a warning.
    sources = tokenizer([example.source for example in examples], verbose=False)["input_ids"]
    return [
        ids if len(ids) <= max_input else _shorten(example, tokenizer, max_input)
        for ids, example in zip(sources, examples, strict=True)
    ]


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
