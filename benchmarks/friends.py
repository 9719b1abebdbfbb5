"""What benchmarks share: FETA-Friends inputs, a network of Flan-T5's shape, rows and tables."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

from dfwe.data.dialogue import Example

ROOT = Path(__file__).parents[1]
SHAPES = {  # d_model, d_ff, layers, heads
    "small": (512, 1024, 8, 6),
    "base": (768, 2048, 12, 12),
}
VOCABULARY = 32128


def task_examples(name: str, split: str) -> tuple[Any, tuple[Example, ...]]:
    """A task as `conf/task` declares it and its few-shot split; DFWE_DATA names the corpus."""
    from hydra import compose, initialize_config_dir
    from hydra.utils import instantiate

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", overrides=[f"task={name}", "corpus=feta_friends"])
    task, corpus = (instantiate(cfg[key], _convert_="all") for key in ("task", "corpus"))
    return task, task.examples(corpus, split)


def tokenizer_of(examples: tuple[Example, ...]) -> Any:
    """A tokenizer of 8,000 pieces learned from the inputs: about Flan's tokens a word."""
    from dfwe.pretraining.span_corruption import train_tokenizer

    return train_tokenizer([example.source for example in examples], 8000)


def network(shape: str) -> Any:
    """Random weights; the head is drawn so that greedy answers differ between inputs."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    d_model, d_ff, layers, heads = SHAPES[shape]
    torch.manual_seed(0)
    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=d_model,
        d_ff=d_ff,
        d_kv=64,
        num_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
    )
    model = T5ForConditionalGeneration(config)
    model.lm_head.weight = torch.nn.Parameter(torch.randn(VOCABULARY, d_model))
    return model.eval()


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 matrices; without, bf16 is many times slower."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


def spread(examples: tuple[Example, ...], number: int) -> tuple[Example, ...]:
    """At most `number` examples, evenly over the split and in its order."""
    number = min(number, len(examples))
    return tuple(examples[i * len(examples) // number] for i in range(number))


def interleaved(
    ways: Mapping[str, Callable[[], Any]], rounds: int, warm: bool = True
) -> dict[str, float]:
    """Median processor seconds of each way, taken in turns on one thread, after a warm-up.

    With one thread processor time is the time a free machine would take; that of programs a way
    runs counts too.
    """
    import torch

    torch.set_num_threads(1)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + warm):
        for name, way in ways.items():
            began = _processor_seconds()
            way()
            if number >= warm:
                times[name].append(_processor_seconds() - began)
    return {name: median(values) for name, values in times.items()}


def _processor_seconds() -> float:
    """Of this process, to the nanosecond, and of the programs it has waited for."""
    children = os.times()
    return process_time() + children.children_user + children.children_system


def row(
    name: str, ours: float | None, reference: float | None, note: str, unit: str = "s"
) -> dict[str, Any]:
    """A line of `results.json`; a ratio above 1 says that ours is faster."""
    ratio = None if ours is None or reference is None else reference / ours
    return {
        "name": name,
        "ours": ours,
        "reference": reference,
        "ratio": ratio,
        "unit": unit,
        "note": note,
    }


def show(page: str, table: str, name: str = "table") -> None:
    """Put a table into docs/`page`, between the two marks of its name."""
    file = ROOT / "docs" / page
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    before, opened, rest = file.read_text().partition(begin)
    _, closed, after = rest.partition(end)
    assert all((opened, closed)), f"{file} has no place for the table '{name}'"
    file.write_text(f"{before}{begin}{table}\n{end}{after}")
