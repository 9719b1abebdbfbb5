"""Making a small T5 from text alone: tokenizer, network of Flan's shape, span corruption.

Spans of tokens are each replaced by a sentinel. The target lists the sentinels with what they
hide or, for a share of the blocks, is the whole text: both are objectives of Raffel et al. (2020),
section 3.3.2. Under the first alone a small decoder stays blind to its encoder for long.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfwe.data.dialogue import Dialogue
from dfwe.data.friends import render

SENTINELS = 100
SPECIAL = ("<pad>", "</s>", "<unk>")
BYTES = tuple(f"<0x{byte:02X}>" for byte in range(256))


def pretraining_texts(dialogues: Sequence[Dialogue]) -> list[str]:
    """Whole dialogues in the form the tasks use: `context: Speaker: text ...`."""
    return [f"context: {render(dialogue.turns)}" for dialogue in dialogues]


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Any:
    """A byte-pair tokenizer with byte fallback: no text becomes `<unk>`, frequent words are whole.

    Byte pairs rather than T5's unigrams: the unigram trainer of `tokenizers` counts a piece once
    a distinct word, so that in a small corpus it never learns a whole word. Punctuation stands
    by itself: `clock` and `clock.` share a token.

    Args:
        vocabulary: all tokens together, bytes and sentinels included.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Metaspace(),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = splitter  # type: ignore[assignment]
    pieces = vocabulary - len(SPECIAL) - len(BYTES) - SENTINELS
    trained.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=pieces, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    vocab = {piece: i for i, piece in enumerate((*SPECIAL, *BYTES, *learned["vocab"]))}
    made = Tokenizer(
        models.BPE(
            vocab, [(a, b) for a, b in learned["merges"]], unk_token="<unk>", byte_fallback=True
        )
    )
    made.pre_tokenizer = splitter  # type: ignore[assignment]
    made.decoder = decoders.Sequence(  # type: ignore[assignment]
        [decoders.ByteFallback(), decoders.Metaspace()]
    )
    made.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=["$A", "</s>"], pair=["$A", "</s>", "$B", "</s>"], special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        extra_special_tokens=[f"<extra_id_{i}>" for i in range(SENTINELS)],
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer: Any, *, d_model: int, d_ff: int, layers: int, heads: int, seed: int) -> Any:
    """A fresh T5 of Flan's shape: gated GELU, untied head, relative positions.

    transformers ties the head of a T5 made from a config whatever the config says, so it is
    untied here by hand and keeps its own values when saved and loaded.
    """
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=d_model,
        d_ff=d_ff,
        d_kv=d_model // heads,
        num_layers=layers,
        num_decoder_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        tie_word_embeddings=False,  # type: ignore[call-arg]
        dropout_rate=0.1,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,  # type: ignore[call-arg]
    )
    network = T5ForConditionalGeneration(config)
    head = torch.empty(len(tokenizer), d_model).normal_(std=d_model**-0.5)
    network.lm_head.weight = torch.nn.Parameter(head)
    network.all_tied_weights_keys.pop("lm_head.weight", None)
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
) -> tuple[list[int], list[int]]:
    """(source, target) of one block of token ids, both with the end token.

    Args:
        ids: (length,) the block.
        sentinels: ids of `<extra_id_0>`, `<extra_id_1>`, ...
        density: the share of tokens hidden; span: the mean length of a hidden span.
        whole: the target is the block itself, not what the sentinels hide.
    """
    length = len(ids)
    hidden = min(max(round(length * density), 1), length - 1)
    spans = min(max(round(hidden / span), 1), hidden, length - hidden, len(sentinels) - 1)
    gaps, holes = _parts(length - hidden, spans, rng), _parts(hidden, spans, rng)
    source: list[int] = []
    target: list[int] = []
    at = 0
    for sentinel, gap, hole in zip(sentinels, gaps, holes, strict=False):
        source += [*ids[at : at + gap].tolist(), sentinel]
        target += [sentinel, *ids[at + gap : at + gap + hole].tolist()]
        at += gap + hole
    return [*source, end], [*ids.tolist(), end] if whole else [*target, sentinels[spans], end]


def _parts(total: int, parts: int, rng: np.random.Generator) -> list[int]:
    """`total` cut at random into `parts` pieces of at least one."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff([0, *cuts.tolist(), total]).tolist()


class Blocks:
    """Texts as one stream of token ids, cut into blocks anew for every pass.

    Args:
        texts: what is learned from; an end token stands between two.
        block: tokens a block.
        batch: blocks a step.
        density, span: what `corrupt` hides.
        whole: the share of blocks whose target is the whole block.
    """

    def __init__(
        self,
        texts: Sequence[str],
        tokenizer: Any,
        *,
        block: int,
        batch: int,
        density: float = 0.15,
        span: float = 3.0,
        whole: float = 0.0,
    ) -> None:
        tokenized = tokenizer(list(texts))["input_ids"]
        self.texts = [np.array(ids) for ids in tokenized]
        self.block = block
        self.batch = batch
        self.density, self.span, self.whole = density, span, whole
        self.end = tokenizer.eos_token_id
        self.sentinels = tokenizer.convert_tokens_to_ids(
            [f"<extra_id_{i}>" for i in range(SENTINELS)]
        )
        self.steps = max(1, sum(map(len, self.texts)) // (block * batch))

    def epoch(self, seed: int, epoch: int) -> Iterator[list[tuple[list[int], list[int]]]]:
        """The steps of a pass, each `batch` (source, target) pairs; decided by (seed, epoch)."""
        rng = np.random.default_rng([seed, epoch])
        stream = np.concatenate([self.texts[i] for i in rng.permutation(len(self.texts))])
        stream = np.roll(stream, -int(rng.integers(len(stream))))
        for step in range(self.steps):
            start = step * self.batch * self.block
            rows = [
                stream[start + k * self.block : start + (k + 1) * self.block]
                for k in range(self.batch)
            ]
            yield [self._pair(row, rng) for row in rows if len(row) > 1]

    def _pair(
        self, row: NDArray[np.int64], rng: np.random.Generator
    ) -> tuple[list[int], list[int]]:
        whole = bool(rng.random() < self.whole)
        return corrupt(
            row, rng, self.sentinels, self.end, density=self.density, span=self.span, whole=whole
        )


def learning_rate(step: int, steps: int, peak: float, warmup: int) -> float:
    """Linear warm-up, then a half cosine down to a twentieth of the peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return peak * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1.0, done))))
