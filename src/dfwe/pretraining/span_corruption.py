"""A small T5 from text alone: tokenizer, network of Flan's shape, span corruption.

Spans of tokens are each replaced by a sentinel. The target lists the sentinels with what they
hide or, for a share of the blocks, is the whole text: both are objectives of Raffel et al. (2020),
section 3.3.2. Under the first alone a small decoder learns only late to attend to its encoder.
"""

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from dfwe.data.dialogue import Dialogue
from dfwe.data.friends import render
from dfwe.data.tokenization import Tokenizer
from dfwe.weights.untyped import seed_all

if TYPE_CHECKING:
    import tokenizers
    from transformers import PreTrainedTokenizerFast, T5ForConditionalGeneration

SENTINELS = 100
SPECIAL = ("<pad>", "</s>", "<unk>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))

Pair = tuple[list[int], list[int]]  # source and target, token ids


def pretraining_texts(dialogues: Sequence[Dialogue]) -> list[str]:
    """Whole dialogues in the form the tasks use: `context: Speaker: text ...`."""
    return [f"context: {render(dialogue.turns)}" for dialogue in dialogues]


class _Model(BaseModel):
    """What a byte-pair trainer learns: pieces and merges, in order."""

    vocab: dict[str, int]
    merges: list[tuple[str, str]]


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> "PreTrainedTokenizerFast":
    """A byte-pair tokenizer with byte fallback: no text becomes `<unk>`, frequent words are whole.

    Byte pairs rather than T5's unigrams: the unigram trainer of `tokenizers` counts a piece once
    per distinct word, so that in a small corpus it never learns a whole word. Punctuation stands
    by itself: `clock` and `clock.` share a token.

    Args:
        texts: what the pieces are learned from.
        vocabulary: the number of tokens, bytes and sentinels included.
    """
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(
        tokenizer_object=_with_bytes(_learned(texts, vocabulary)),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=[f"<extra_id_{i}>" for i in range(SENTINELS)],
        clean_up_tokenization_spaces=False,
    )


def _learned(texts: Sequence[str], vocabulary: int) -> _Model:
    """The pieces of the texts, so many that all tokens together are `vocabulary`."""
    import tokenizers
    from tokenizers import models, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE())
    _split_words(tokenizer)
    pieces = vocabulary - len(SPECIAL) - len(BYTES) - SENTINELS
    trainer = trainers.BpeTrainer(vocab_size=pieces, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return _Model.model_validate(json.loads(tokenizer.to_str())["model"])


def _with_bytes(model: _Model) -> "tokenizers.Tokenizer":
    """A tokenizer of special tokens, all bytes and these pieces; it ends a text with `</s>`."""
    import tokenizers
    from tokenizers import decoders, models, processors

    vocab = {piece: i for i, piece in enumerate((*SPECIAL, *BYTES, *model.vocab))}
    pairs = models.BPE(vocab, model.merges, unk_token="<unk>", byte_fallback=True)
    tokenizer = tokenizers.Tokenizer(pairs)
    _split_words(tokenizer)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    return tokenizer


def _split_words(tokenizer: "tokenizers.Tokenizer") -> None:
    """Set the tokenizer to split texts at blanks and around punctuation."""
    from tokenizers import pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )


def build(
    tokenizer: Tokenizer, *, d_model: int, d_ff: int, layers: int, heads: int, seed: int
) -> "T5ForConditionalGeneration":
    """A fresh T5 of Flan's shape: gated GELU, untied head, relative positions.

    transformers ties the head of a T5 built from a config whatever the config says, so it is
    untied here by hand and keeps separate values when saved and loaded.

    Args:
        tokenizer: whose tokens the network reads.
        d_model: the width of the residual stream.
        d_ff: the width of the feed-forward layers.
        layers: of the encoder, and as many of the decoder.
        heads: attention heads per layer; they divide `d_model`.
        seed: decides the weights.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    seed_all(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_model // heads,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,  # pyright: ignore[reportCallIssue]
        dropout_rate=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,  # pyright: ignore[reportCallIssue]
    )
    network = T5ForConditionalGeneration(config)
    head = torch.empty(len(tokenizer), d_model).normal_(std=d_model**-0.5)
    network.lm_head.weight = torch.nn.Parameter(head)
    network.all_tied_weights_keys.pop("lm_head.weight", None)  # pyright: ignore[reportUnknownMemberType]
    return network


def corrupt(
    ids: NDArray[np.int64],
    rng: np.random.Generator,
    sentinels: Sequence[int],
    end: int,
    *,
    density: float = 0.15,
    span: float = 3.0,
    whole: bool = False,
) -> Pair:
    """Source and target of one block of token ids, both with the end token.

    Args:
        ids: (length,), the block.
        rng: draws the hidden spans.
        sentinels: ids of `<extra_id_0>`, `<extra_id_1>`, ...
        end: the id of the end token.
        density: the share of tokens hidden.
        span: the mean length of a hidden span, in tokens.
        whole: whether the target is the block itself, not what the sentinels hide.
    """
    length = len(ids)
    hidden = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(hidden / span), 1), hidden, length - hidden, len(sentinels) - 1)
    gaps, holes = _parts(length - hidden, spans, rng), _parts(hidden, spans, rng)
    source: list[int] = []
    target: list[int] = []
    tokens = ids.tolist()
    start = 0
    for sentinel, gap, hole in zip(sentinels, gaps, holes, strict=False):
        source += [*tokens[start : start + gap], sentinel]
        target += [sentinel, *tokens[start + gap : start + gap + hole]]
        start += gap + hole
    return [*source, end], [*tokens, end] if whole else [*target, sentinels[spans], end]


def _parts(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """The lengths of `parts` pieces of at least one into which `total` is cut at random."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts.tolist(), total]).tolist()


class Blocks:
    """Texts as one stream of token ids, shuffled and cut into blocks for every pass.

    Args:
        texts: what is learned from; an end token stands between two.
        tokenizer: of the network.
        block: tokens per block.
        batch: blocks per step.
        density: the share of tokens that `corrupt` hides.
        span: the mean length of a hidden span, in tokens.
        whole: the share of blocks whose target is the whole block.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Tokenizer,
        *,
        block: int,
        batch: int,
        density: float = 0.15,
        span: float = 3.0,
        whole: float = 0.0,
    ) -> None:
        tokenized = tokenizer(list(texts))["input_ids"]
        self.texts = [np.array(ids, dtype=np.int64) for ids in tokenized]
        self.block = block
        self.batch = batch
        self.density = density
        self.span = span
        self.whole = whole
        self.end = tokenizer.eos_token_id
        self.sentinels = tokenizer.convert_tokens_to_ids(
            [f"<extra_id_{i}>" for i in range(SENTINELS)]
        )
        self.steps = max(1, sum(map(len, self.texts)) // (block * batch))

    def epoch(self, seed: int, epoch: int) -> Iterator[list[Pair]]:
        """The steps of a pass, each of `batch` pairs; decided by (seed, epoch)."""
        rng = np.random.default_rng([seed, epoch])
        order: list[int] = rng.permutation(len(self.texts)).tolist()
        stream = np.concatenate([self.texts[i] for i in order])
        stream = np.roll(stream, -int(rng.integers(len(stream))))
        for step in range(self.steps):
            start = step * self.batch * self.block
            rows = [
                stream[start + k * self.block : start + (k + 1) * self.block]
                for k in range(self.batch)
            ]
            yield [self._pair(row, rng) for row in rows if len(row) > 1]

    def _pair(self, row: NDArray[np.int64], rng: np.random.Generator) -> Pair:
        whole = bool(rng.random() < self.whole)
        return corrupt(
            row, rng, self.sentinels, self.end, density=self.density, span=self.span, whole=whole
        )
