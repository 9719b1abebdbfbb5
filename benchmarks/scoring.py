"""Scoring one candidate on a dev set: ours against TLiDB's way and transformers' `generate`."""

import tempfile
from collections.abc import Callable
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from friends import has_bf16, interleaved, network, row, spread, task_examples, tokenizer_of


def tlidb(net: Any, batches: list[Any], new_tokens: int) -> None:
    """A loss pass, then two sampled beams with a repetition penalty of 5."""
    import torch

    torch.manual_seed(0)
    for b in batches:
        net(input_ids=b.source, attention_mask=b.mask, labels=b.target)
        net.generate(
            b.source,
            attention_mask=b.mask,
            max_new_tokens=new_tokens,
            num_beams=2,
            do_sample=True,
            repetition_penalty=5.0,
        )


def generate(net: Any, batches: list[Any], new_tokens: int) -> list[list[int]]:
    """transformers' greedy answers, in the order of the batches."""
    answers = []
    for b in batches:
        answers += net.generate(
            b.source,
            attention_mask=b.mask,
            max_new_tokens=new_tokens,
            num_beams=1,
            do_sample=False,
        ).tolist()
    return answers


def plain(tokenized: Any, size: int) -> list[Any]:
    """Padded batches of `size` in dataset order."""
    from dfwe.data.batches import collate

    starts = range(0, len(tokenized), size)
    parts = [list(range(i, min(i + size, len(tokenized)))) for i in starts]
    return [collate(tokenized, part, [1.0] * len(part)) for part in parts]


def ctranslate2(net: Any, tokenized: Any, limit: int, folder: Path) -> Callable[[], Any]:
    """CTranslate2 in fp32, greedy, on batches of 32 sorted by length; one conversion, not timed.

    Raises:
        ImportError: it is not installed.
    """
    from ctranslate2 import Translator
    from ctranslate2.converters import TransformersConverter

    net.save_pretrained(folder / "net")
    tokenized.tokenizer.save_pretrained(folder / "net")
    TransformersConverter(str(folder / "net")).convert(str(folder / "converted"))
    translator = Translator(str(folder / "converted"), inter_threads=1, intra_threads=1)
    words = [tokenized.tokenizer.convert_ids_to_tokens(list(ids)) for ids in tokenized.sources]
    return lambda: translator.translate_batch(
        words, beam_size=1, max_batch_size=32, max_decoding_length=limit, min_decoding_length=limit
    )


def timed(net: Any, name: str, examples: int, rounds: int, folder: Path) -> dict[str, float]:
    """Seconds of each way on the dev split of a task.

    Random weights hardly ever end an answer: all decode to the limit, at most 12 tokens.

    Raises:
        AssertionError: an answer of ours is not generate's.
    """
    import torch

    from dfwe.data.tokenization import tokenize
    from dfwe.scoring.decoding import Greedy, Likelihood
    from dfwe.scoring.scorer import Scorer
    from dfwe.weights.loading import fuse_gelu

    task, train = task_examples(name, "train")
    limit = min(12, task.max_new_tokens)
    task = replace(task, max_new_tokens=limit)
    dev = spread(task_examples(name, "dev")[1], examples)
    tokenized = tokenize(dev, tokenizer_of(train), max_input=512, max_target=128)
    eights, many = plain(tokenized, 8), plain(tokenized, 32)
    mine = fuse_gelu(deepcopy(net))
    ways = {
        "tlidb": lambda: tlidb(net, eights, limit),
        "generate": lambda: generate(net, eights, limit),
        "generate32": lambda: generate(net, many, limit),
    }
    scorers = {
        "greedy": Scorer(mine, tokenized, task, Greedy()),
        "likelihood": Scorer(mine, tokenized, task, Likelihood()),
    }
    if has_bf16():
        half = deepcopy(mine).to(torch.bfloat16)
        scorers["bf16"] = Scorer(half, tokenized, task, Greedy())
    with suppress(ImportError):
        ways["ctranslate2"] = ctranslate2(net, tokenized, limit, folder)
    with torch.inference_mode(), ExitStack() as stack:  # which batches once, as a search does
        ways |= {name: stack.enter_context(scorer) for name, scorer in scorers.items()}
        theirs = tokenized.tokenizer.batch_decode(ways["generate"](), skip_special_tokens=True)
        assert list(ways["greedy"]().texts) == theirs
        return interleaved(ways, rounds, warm=False)  # both have just run


def rows(shape: str = "small", examples: int = 12, rounds: int = 2) -> list[dict[str, Any]]:
    """Rows of label scoring (emory) and text scoring (qa)."""
    net, lines = network(shape), []
    for kind, name in (("labels", "emory"), ("text", "qa")):
        with tempfile.TemporaryDirectory() as folder:
            seconds = timed(net, name, examples, rounds, Path(folder))
        note = f"flan-t5-{shape} shape, {examples} dev examples of {name}, one thread"
        ours = seconds["greedy"]
        lines += [
            row(f"score_{kind}/{way}", ours, seconds[way], f"{note}, fp32, greedy")
            for way in ("tlidb", "generate", "generate32")
        ]
        if kind == "labels":
            lines.append(
                row(
                    "score_labels/tlidb_likelihood",
                    seconds["likelihood"],
                    seconds["tlidb"],
                    f"{note}, fp32, likelihood",
                )
            )
            missing = "not measured: this processor has no bf16 instructions"
            about = f"{note}, ours in bf16, greedy" if "bf16" in seconds else missing
            reference = seconds["tlidb"] if "bf16" in seconds else None
            lines.append(row("score_labels/tlidb_bf16", seconds.get("bf16"), reference, about))
        else:
            upper = seconds.get("ctranslate2")
            about = (
                f"{note}, fp32, greedy; conversion not counted, no likelihoods"
                if upper
                else "not measured: ctranslate2 is not installed"
            )
            lines.append(row("score_text/ctranslate2", ours if upper else None, upper, about))
    return lines


if __name__ == "__main__":
    for line in rows():
        print(line)
