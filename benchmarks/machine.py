"""What a machine makes of DFWE: rates of mixing, scoring and training, and what a task costs.

`python benchmarks/machine.py --shape base` measures on the accelerator, where there is one. Random
weights and words, about as long as FETA-Friends' inputs: no data is needed.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.flop_counter import FlopCounterMode

from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit, tokenize
from dfwe.pipeline.files import write_json
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Scorer
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TrainingSteps
from dfwe.weights.layout import flatten
from dfwe.weights.loading import fuse_gelu
from dfwe.weights.space import WeightSpace
from friends import SHAPES, has_bf16, network, row, tokenizer_of
from interpolate import ALPHA, EXPERTS, make_experts, triad
from training import optimizer_step

LABELS = ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise")
LENGTHS = (64, 448)  # words of an input
TRAIN, EPOCHS, CANDIDATES, SOURCES = 800, 5, 120, 3  # of the task whose cost is added up
TASK = Task("moods", "moods", lambda *unused: [], Label(), [F1("weighted")], 5, LABELS)


class Machine:
    """A device, and its speed at the two things that everything here consists of."""

    def __init__(self, name: str) -> None:
        self.device = torch.device(name)
        self.cuda = self.device.type == "cuda"
        self.bf16 = (
            torch.cuda.get_device_capability(self.device)[0] >= 8 if self.cuda else has_bf16()
        )
        kinds = (torch.float32, torch.bfloat16) if self.bf16 else (torch.float32,)
        self.peak = {kind: self._products(kind) for kind in kinds}  # FLOP/s

    def seconds(self, way: Callable[[], Any], rounds: int = 3) -> float:
        """Median wall-clock seconds of a call, after a warm-up."""
        times = []
        for _ in range(rounds + 1):
            self._wait()
            began = perf_counter()
            way()
            self._wait()
            times.append(perf_counter() - began)
        return median(times[1:])

    def forget_memory(self) -> None:
        """Count memory from here on: what measures the machine's limits is not DFWE's."""
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)

    def _products(self, kind: torch.dtype) -> float:
        n = 8192 if self.cuda else 1024
        a, b = (torch.ones(n, n, dtype=kind, device=self.device) for _ in range(2))
        return 2 * n**3 / self.seconds(lambda: a @ b)

    def _wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)


def split(number: int) -> TokenizedSplit:
    """So many examples of random words, each a token, with one of seven labels."""
    rng = np.random.default_rng(0)
    words = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "dfgklmnst"])
    examples = tuple(
        Example(
            str(k),
            str(k),
            " ".join(rng.choice(words, rng.integers(*LENGTHS))),
            "emotion:",
            label := str(rng.choice(LABELS)),
            (label,),
            LABELS,
        )
        for k in range(number)
    )
    known = [*examples, *(replace(e, context=e.target) for e in examples)]
    return tokenize(examples, tokenizer_of(tuple(known)), max_input=512, max_target=128)


def experts(shape: str) -> WeightSpace:
    """Mapped from files; the maps keep their bytes when the files are gone."""
    with tempfile.TemporaryDirectory() as folder:
        return WeightSpace.from_pretrained(make_experts(Path(folder), shape)[1])


def mixing(machine: Machine, net: Any, space: WeightSpace) -> list[dict[str, Any]]:
    """theta(alpha) written into the network."""
    limit = 12 * space.size / machine.seconds(triad(space.size, machine.device))  # bytes/s
    machine.forget_memory()
    seconds = machine.seconds(lambda: space.write(ALPHA, net))
    moved = 4 * space.size * (EXPERTS + 1) / seconds
    share = moved / limit
    note = f"{EXPERTS} experts of {space.size:,} parameters, {moved / 1e9:.0f} GB/s"
    return [line("theta(alpha)", seconds, share, note)]


def scoring(machine: Machine, net: Any, examples: int) -> list[dict[str, Any]]:
    """A candidate on a dev split, without the mixing."""
    dev = split(examples)
    rows = []
    for kind, peak in machine.peak.items():
        scored = net if kind is torch.float32 else deepcopy(net).to(kind)
        for name, decoding in (("greedy", Greedy()), ("likelihood", Likelihood())):
            with Scorer(scored, dev, TASK, decoding) as way:  # its batches are on the device
                seconds = machine.seconds(way)
                share = flops(way) / seconds / peak
            note = f"{examples} dev examples, {dev.tokens / seconds:,.0f} tokens/s"
            rows.append(line(f"candidate, {name}, {named(kind)}", seconds, share, note))
    return rows


def training(machine: Machine, net: Any, compiled: bool) -> list[dict[str, Any]]:
    """An optimizer step of 24 examples, in micro-batches of `training.tokens` and in one."""
    data = split(24)
    net.train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    fits = {
        "training": TrainingConfig(),
        "training, one micro-batch": TrainingConfig(tokens=24 * 512),
    }
    steps = {
        name: [b.to(machine.device) for b in TrainingSteps({"moods": data}, training, seed=0)[0]]
        for name, training in fits.items()
    }

    def way(step: list[Any], kind: torch.dtype) -> None:
        optimizer_step(net, optimizer, step, bf16=kind is torch.bfloat16)

    work = flops(lambda: way(steps["training"], torch.float32))
    rows = []
    for how in ("", ", compiled")[: 1 + compiled]:
        if how:
            net.encoder.compile(dynamic=True)
            net.decoder.compile(dynamic=True)
        for name, step in steps.items():
            for kind, peak in machine.peak.items():
                seconds = machine.seconds(partial(way, step, kind))
                note = (
                    f"training.tokens={fits[name].tokens}, a step of 24 examples, "
                    f"{data.tokens / seconds:,.0f} tokens/s"
                )
                share = work / seconds / peak
                rows.append(line(f"{name}, {named(kind)}{how}", seconds, share, note))
    return rows


def task(rows: list[dict[str, Any]], examples: int) -> dict[str, Any]:
    """What a target task costs: its trainings at the faster precision of `training.precision`, dev
    scored in fp32 after every epoch, and its search. DFWE itself compiles nothing."""

    def best(start: str) -> float:
        plain = [r for r in rows if not r["name"].endswith("compiled")]
        return min(r["ours"] for r in plain if r["name"].startswith(start))

    passes = 2 * (SOURCES + 2) + SOURCES  # of TRAIN examples: S* and its fine-tunings
    steps = passes * EPOCHS * TRAIN / 24 * best("training")
    scored = 2 * (SOURCES + 2) * EPOCHS + CANDIDATES
    scores = scored * (best("candidate, greedy, fp32") + best("theta"))
    note = (
        f"{2 * (SOURCES + 2)} trainings of {EPOCHS} epochs on {TRAIN} examples a task, "
        f"a search of {CANDIDATES} candidates on {examples}"
    )
    return line("a whole task", steps + scores, None, note)


def flops(way: Callable[[], Any]) -> int:
    """The matrix products of a call, as torch counts them (on a CPU without scoring's attention,
    some tenth of the whole)."""
    with FlopCounterMode(display=False) as counter:
        way()
    return counter.get_total_flops()


def named(kind: torch.dtype) -> str:
    return {torch.float32: "fp32", torch.bfloat16: "bf16"}[kind]


def line(name: str, seconds: float, share: float | None, note: str) -> dict[str, Any]:
    """A row whose ratio is the share of the machine's limit, a triad or products of matrices."""
    return row(name, seconds, None if share is None else seconds * share, note)


def present(rows: list[dict[str, Any]], title: str) -> None:
    table = Table("what", "seconds", "share", "note", title=title, box=None, pad_edge=False)
    for r in rows:
        table.add_row(
            r["name"],
            f"{r['ours']:.3g}",
            "" if r["ratio"] is None else f"{r['ratio']:.0%}",
            r["note"],
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small", choices=SHAPES)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--examples", type=int, default=400, help="of the dev split")
    parser.add_argument("--compile", action="store_true", help="train with torch.compile as well")
    parser.add_argument("--out", type=Path, help="where the rows are written, as JSON")
    options = parser.parse_args()
    logging.getLogger("dfwe").setLevel(logging.ERROR)  # these experts have no tokenizer
    machine = Machine(options.device)
    net: Any = fuse_gelu(network(options.shape))
    net.to(machine.device)
    flatten(net)
    space = experts(options.shape)  # kept: on a GPU the experts stay beside what scores
    rows = [
        *mixing(machine, net, space),
        *scoring(machine, net, options.examples),
        *training(machine, net, options.compile),
    ]
    rows.append(task(rows, options.examples))
    if machine.cuda:
        used = torch.cuda.max_memory_allocated(machine.device) / 2**30
        name = f"{torch.cuda.get_device_name(machine.device)}, {used:.1f} GiB at most"
    else:
        name = f"{torch.get_num_threads()} threads"
    peaks = ", ".join(f"{named(k)} {v / 1e12:.3g} TFLOP/s" for k, v in machine.peak.items())
    present(rows, f"flan-t5-{options.shape} shape on {name}; {peaks}")
    if options.out:
        write_json(options.out, rows)


if __name__ == "__main__":
    main()
