"""theta(alpha) written into a network: ours against a state-dict sum, mergekit and the bandwidth.

One thread, five experts of Flan-T5-small's shape, interleaved, medians. `python
benchmarks/interpolate.py` prints the rows.
"""

import argparse
import json
import logging
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from safetensors.torch import load_file

from dfwe.weights.layout import flatten
from dfwe.weights.merge import mergekit_yaml
from dfwe.weights.space import WeightSpace
from friends import network

EXPERTS = 5
ALPHA = (0.3, 0.25, 0.2, 0.15, 0.1)


def interleaved(
    *ways: Callable[[], Any], rounds: int, clock: Callable[[], float] = time.process_time
) -> list[float]:
    """Median seconds of each way, run in turn A B A B ... after one warm-up each.

    One thread's processor time is what it takes on a machine that has nothing else to do.
    """
    times: list[list[float]] = [[] for _ in ways]
    for turn in range(rounds + 1):
        for way, seen in zip(ways, times, strict=True):
            began = clock()
            way()
            if turn:
                seen.append(clock() - began)
    return [median(seen) for seen in times]


def make_experts(root: Path, shape: str) -> tuple[Any, list[Path]]:
    """Five saved networks that differ in every parameter, and one to write into."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    made = network(shape)
    folders = []
    for number in range(EXPERTS):
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.add_(torch.randn(1).item() * 1e-3)
        folders.append(root / f"expert{number}")
        made.save_pretrained(folders[-1])
    return made, folders


def naive(states: list[dict[str, Any]], module: Any) -> None:
    """The usual way: a sum for each name, then load_state_dict."""
    mixed = {
        name: sum(a * state[name] for a, state in zip(ALPHA, states, strict=True))
        for name in states[0]
    }
    module.load_state_dict(mixed, strict=False)


def triad(space: WeightSpace) -> Callable[[], None]:
    """What memory allows: n reads and one write of P floats at the speed of a triad a = b + s c.

    The triad runs on arrays of P floats, so its three streams count for n + 1.
    """
    a, b, c = (torch.ones(space.size) for _ in range(3))

    def run() -> None:
        torch.add(b, c, alpha=0.5, out=a)

    return run


def rows(shape: str = "small", rounds: int = 9) -> list[dict[str, Any]]:
    """The benchmark's rows; ratio = the reference's time over ours."""
    torch.set_num_threads(1)
    logging.getLogger("dfwe").setLevel(logging.ERROR)  # these experts have no tokenizer
    with tempfile.TemporaryDirectory() as folder:
        plain, folders = make_experts(Path(folder), shape)
        space = WeightSpace.from_pretrained(folders)
        states = [load_file(path / "model.safetensors") for path in folders]
        flat = network(shape)
        flatten(flat)
        ours, usual, streams = interleaved(
            lambda: space.write(ALPHA, flat), lambda: naive(states, plain), triad(space),
            rounds=rounds,
        )  # fmt: skip
        limit = streams * (EXPERTS + 1) / 3
        gigabytes = 4e-9 * space.size * (EXPERTS + 1) / ours
        said = f"{space.size:,} parameters, {EXPERTS} experts mapped, one thread"
        return [
            _row("interpolate/naive", ours, usual, said),
            _row("interpolate/triad_limit", ours, limit,
                 f"{gigabytes:.1f} GB/s; the limit over ours is the share of it that is reached"),
            *mergekit(space, folders, Path(folder)),
        ]  # fmt: skip


def mergekit(space: WeightSpace, folders: list[Path], root: Path) -> list[dict[str, Any]]:
    """Disk to disk: mergekit's linear merge against `export`; nothing where it is missing."""
    program = shutil.which("mergekit-yaml")
    if program is None:
        note = "mergekit is not installed"
        return [{"name": "interpolate/mergekit", "ours": None, "reference": None, "ratio": None,
                 "unit": "s", "note": note}]  # fmt: skip
    config = root / "merge.yaml"
    config.write_text(mergekit_yaml(ALPHA, folders))

    def ours() -> None:
        shutil.rmtree(root / "ours", ignore_errors=True)
        space.export(ALPHA, root / "ours")

    def theirs() -> None:
        subprocess.run([program, config, root / "theirs"], check=True, capture_output=True)

    times = interleaved(ours, theirs, rounds=3, clock=time.perf_counter)
    return [_row("interpolate/mergekit", *times, "disk to disk, its start-up included")]


def _row(name: str, ours: float, reference: float, note: str) -> dict[str, Any]:
    return {"name": name, "ours": ours, "reference": reference, "ratio": reference / ours,
            "unit": "s", "note": note}  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small", choices=["small", "base"])
    for row in rows(parser.parse_args().shape):
        print(json.dumps(row))
