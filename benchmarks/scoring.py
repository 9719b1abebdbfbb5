"""Scoring one candidate on a dev set: ours against TLiDB's way and transformers' `generate`."""

from dataclasses import replace
from typing import Any

from friends import interleaved, network, row, spread, task_examples, tokenizer_of


def tlidb(net: Any, batches: list[Any], new_tokens: int) -> None:
    """A loss pass, then two sampled beams with a repetition penalty of 5."""
    import torch

    torch.manual_seed(0)
    for b in batches:
        net(input_ids=b.source, attention_mask=b.mask, labels=b.target)
        net.generate(b.source, attention_mask=b.mask, max_new_tokens=new_tokens, num_beams=2,
                     do_sample=True, repetition_penalty=5.0)  # fmt: skip


def generate(net: Any, batches: list[Any], new_tokens: int) -> list[list[int]]:
    """transformers' greedy answers, in the order of the batches."""
    answers = []
    for b in batches:
        answers += net.generate(b.source, attention_mask=b.mask, max_new_tokens=new_tokens,
                                num_beams=1, do_sample=False).tolist()  # fmt: skip
    return answers


def plain(encoded: Any, size: int) -> list[Any]:
    """Padded batches of `size` in dataset order."""
    from dfwe.model.batches import collate

    starts = range(0, len(encoded), size)
    parts = [list(range(i, min(i + size, len(encoded)))) for i in starts]
    return [collate(encoded, part, [1.0] * len(part)) for part in parts]


def timed(net: Any, name: str, examples: int, rounds: int) -> dict[str, float]:
    """Seconds of each way on the dev split of a task.

    Random weights hardly ever end an answer: all decode to the limit, at most 12 tokens.

    Raises:
        AssertionError: an answer of ours is not generate's.
    """
    import torch

    from dfwe.model.batches import evaluation_batches
    from dfwe.model.decoding import Greedy, Likelihood
    from dfwe.model.encode import encode
    from dfwe.model.scoring import evaluate

    task, train = task_examples(name, "train")
    limit = min(12, task.max_new_tokens)
    task = replace(task, max_new_tokens=limit)
    dev = spread(task_examples(name, "dev")[1], examples)
    encoded = encode(dev, tokenizer_of(train), max_input=512, max_target=128)
    batches, eights, many = evaluation_batches(encoded), plain(encoded, 8), plain(encoded, 32)
    ways = {
        "tlidb": lambda: tlidb(net, eights, limit),
        "generate": lambda: generate(net, eights, limit),
        "generate32": lambda: generate(net, many, limit),
        "greedy": lambda: evaluate(net, batches, encoded, task, Greedy()),
        "likelihood": lambda: evaluate(net, batches, encoded, task, Likelihood()),
    }
    with torch.inference_mode():
        theirs = encoded.tokenizer.batch_decode(ways["generate"](), skip_special_tokens=True)
        assert list(ways["greedy"]().texts) == theirs
        return interleaved(ways, rounds)


def rows(shape: str = "small", examples: int = 48, rounds: int = 3) -> list[dict[str, Any]]:
    """Rows of label scoring (emory) and text scoring (qa)."""
    net, found = network(shape), []
    for kind, name in (("labels", "emory"), ("text", "qa")):
        seconds = timed(net, name, examples, rounds)
        note = f"flan-t5-{shape} shape, {examples} dev examples of {name}, fp32, one thread"
        found += [
            row(f"score_{kind}/{way}", seconds["greedy"], seconds[way], f"{note}, greedy")
            for way in ("tlidb", "generate", "generate32")
        ]
        if kind == "labels":
            mine, theirs = seconds["likelihood"], seconds["tlidb"]
            found.append(row("score_labels/tlidb_likelihood", mine, theirs, f"{note}, likelihood"))
    return found


if __name__ == "__main__":
    for found_row in rows():
        print(found_row)
