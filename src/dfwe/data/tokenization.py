"""Examples -> token ids: a `datasets` table, cached by fingerprint."""

import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dfwe.data.dialogue import Example, fingerprint
from dfwe.pipeline.files import temporary_sibling
from dfwe.pipeline.recipe import digest

LAYOUT = 1  # of the cached tables; raised when encoding changes


@dataclass(frozen=True, eq=False)
class TokenizedSplit:
    """A split as token ids, end tokens included.

    Args:
        sources: the inputs, shortened to `max_input` where the prompt allows.
        targets: what training teaches, each at most `max_target` long; for an encoder with a
            head the label's number, or 0 and 1 for each label of a multi-label task.
        options: the ids of each option of each example, whole; empty lists for free text and for
            an encoder with a head.
        tokenizer: what made them.
    """

    examples: tuple[Example, ...]
    sources: Sequence[Sequence[int]]
    targets: Sequence[Sequence[int]]
    options: Sequence[Sequence[Sequence[int]]]
    tokenizer: Any

    def __len__(self) -> int:
        return len(self.examples)

    @cached_property
    def tokens(self) -> int:
        """How many a pass over the split reads and teaches."""
        return sum(map(len, self.sources)) + sum(map(len, self.targets))


def tokenize(
    examples: tuple[Example, ...],
    tokenizer: Any,
    *,
    max_input: int,
    max_target: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids of the examples; read from `cache` where an equal table was made before.

    A source that is too long loses tokens of its context, at the end that the example does not
    `keep`; prompt and end token always survive, also a prompt that alone is longer than
    `max_input` (a T5's positions are relative: the limit is one of cost, not of the network).
    """
    name = [LAYOUT, fingerprint(examples), _tokenizer_digest(tokenizer), max_input, max_target]
    table = _cached(cache, name, lambda: _table(examples, tokenizer, max_input, max_target))
    return TokenizedSplit(examples, table["source"], table["target"], table["options"], tokenizer)


def tokenize_continued(
    examples: tuple[Example, ...],
    tokenizer: Any,
    *,
    max_input: int,
    max_target: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids for a causal model: an answer continues its source, after a space."""
    limits = [max_input, max_target]
    name = [LAYOUT, "causal", fingerprint(examples), _tokenizer_digest(tokenizer), *limits]
    end, lead = tokenizer.eos_token_id, len(tokenizer(":", add_special_tokens=False)["input_ids"])

    def answer(text: str) -> list[int]:
        return tokenizer(f": {text}", add_special_tokens=False)["input_ids"][lead:]

    def make() -> dict[str, Any]:
        table = _table(examples, tokenizer, max_input, max_target, answer)
        unended = [ids[:-1] if ids[-1] == end else ids for ids in table["source"]]
        return {**table, "source": unended}

    table = _cached(cache, name, make)
    return TokenizedSplit(examples, table["source"], table["target"], table["options"], tokenizer)


def tokenize_labels(
    examples: tuple[Example, ...],
    golds: Sequence[Sequence[int]],
    tokenizer: Any,
    *,
    max_input: int,
    cache: Path | None = None,
) -> TokenizedSplit:
    """Token ids for an encoder with a head, and `golds`, what the head should say.

    A source is shortened like `encode`'s; a prompt that alone is too long loses its end, since an
    encoder has no positions beyond its limit.
    """
    name = [LAYOUT, "encoder", fingerprint(examples), _tokenizer_digest(tokenizer), max_input]
    table = _cached(cache, name, lambda: {"source": _sources(examples, tokenizer, max_input)})
    end = [] if tokenizer.sep_token_id is None else [tokenizer.sep_token_id]
    sources = [
        ids if len(ids) <= max_input else [*ids[: max_input - len(end)], *end]
        for ids in table["source"]
    ]
    return TokenizedSplit(examples, sources, golds, [[]] * len(examples), tokenizer)


def _cached(cache: Path | None, name: list[Any], make: Callable[[], Any]) -> dict[str, Any]:
    """The table of that name in `cache`, made there if need be."""
    if cache is None:
        return make()
    from datasets import Dataset, disable_progress_bars, load_from_disk

    folder = cache / digest(name)[:20]
    try:
        return load_from_disk(folder).to_dict()  # type: ignore[return-value]
    except (OSError, ValueError):  # none there, or a damaged one
        shutil.rmtree(folder, ignore_errors=True)
    disable_progress_bars()
    made = Dataset.from_dict(make())
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_sibling(folder)
    made.save_to_disk(temporary)
    try:
        temporary.rename(folder)
    except OSError:  # another process has just put the same table there
        shutil.rmtree(temporary)
    return made.to_dict()  # type: ignore[return-value]


def _table(
    examples: tuple[Example, ...],
    tokenizer: Any,
    max_input: int,
    max_target: int,
    answer: Callable[[str], list[int]] | None = None,
) -> dict[str, Any]:
    """`answer` spells an answer without its end; the tokenizer alone by default."""
    end = [tokenizer.eos_token_id]

    def plainly(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    spell = answer or plainly
    spelled = {text: spell(text) + end for text in {t for e in examples for t in e.options}}
    return {
        "source": _sources(examples, tokenizer, max_input),
        "target": [spell(example.target)[: max_target - 1] + end for example in examples],
        "options": [[spelled[text] for text in example.options] for example in examples],
    }


def _sources(examples: tuple[Example, ...], tokenizer: Any, max_input: int) -> list[list[int]]:
    # verbose=False: what is too long for the model is shortened here, no reason for a warning.
    sources = tokenizer([example.source for example in examples], verbose=False)["input_ids"]
    return [
        ids if len(ids) <= max_input else _shorten(example, tokenizer, max_input)
        for ids, example in zip(sources, examples, strict=True)
    ]


def _shorten(example: Example, tokenizer: Any, max_input: int) -> list[int]:
    prompt = tokenizer(example.prompt)["input_ids"]
    initial_alphas = {tokenizer.cls_token_id, tokenizer.bos_token_id} - {None}
    opens = len(initial_alphas.intersection(prompt[:1]))  # a first token stays the first
    room = max(0, max_input - len(prompt))
    context = tokenizer(example.context, add_special_tokens=False, verbose=False)["input_ids"]
    kept = context[:room] if example.keep == "start" else context[max(0, len(context) - room) :]
    return prompt[:opens] + kept + prompt[opens:]


def _tokenizer_digest(tokenizer: Any) -> str:
    if tokenizer.is_fast:
        return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
    return digest([type(tokenizer).__name__, tokenizer.get_vocab()])  # in Python, such as ByT5's
