"""Load: a plan of many steps that compute nothing, and a survey of many checkpoints.

`python benchmarks/load.py` prints two tables in Markdown. Where the cost of a step is constant, a
plan of more steps has the same milliseconds in its row; each survey is the command, in a process
of its own. Processor time, waiting for the disk left out.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import process_time
from typing import ClassVar

import torch
from safetensors.torch import load_file, save_file

import dfwe
from dfwe.pipeline.context import Context
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Step
from dfwe.pipeline.store import Store

TINY = Path(dfwe.__file__).parent / "assets" / "tiny"
REGIONS = 4
STAGE = Stage("all", ("experts",))


class Nothing(Record):
    number: int


@dataclass(frozen=True, eq=False)
class Idle(Step):
    """A step whose result is its number."""

    number: int
    stage: str = "experts"
    label: str = "idle"
    group: str = "load"

    kind: ClassVar[str] = "idle"
    record: ClassVar[type[Record]] = Nothing
    has_weights: ClassVar[bool] = False

    def settings(self) -> Mapping[str, int]:
        return {"number": self.number}

    def run(self, run: Run) -> Record:
        return Nothing(number=self.number)


def plan(steps: int) -> tuple[float, float]:
    """Milliseconds a step of a plan that is computed, and of the same plan once more."""
    with tempfile.TemporaryDirectory() as name:
        folder, times = Path(name), list[float]()
        trainer = Deferred("lightning.Trainer", {"accelerator": "cpu"})
        for _ in range(2):
            context = Context(Store(folder / "store"), trainer, (), folder / "run", str)
            began = process_time()
            execute([Idle(number) for number in range(steps)], STAGE, context)
            times.append(1000 * (process_time() - began) / steps)
        assert len(list((folder / "store").glob("idle-*"))) == steps
    return times[0], times[1]


def write_checkpoints(folder: Path, number: int) -> None:
    """Models around some points near the shipped one."""
    rng = torch.Generator().manual_seed(0)
    base = load_file(TINY / "model.safetensors")
    drifts = [
        {name: torch.randn(x.shape, generator=rng) for name, x in base.items()}
        for _ in range(REGIONS)
    ]
    for index in range(number):
        place = folder / f"{index:03}"
        place.mkdir(parents=True)
        for path in TINY.glob("*.json"):
            (place / path.name).write_bytes(path.read_bytes())
        moved = {
            name: (x + 0.02 * drift + 0.01 * torch.randn(x.shape, generator=rng)).to(x.dtype)
            for (name, x), drift in zip(
                base.items(), drifts[index % REGIONS].values(), strict=True
            )
        }
        save_file(moved, place / "model.safetensors", {"format": "pt"})


def survey(number: int) -> tuple[float, float]:
    """Processor seconds and GiB of a survey of so many checkpoints."""
    with tempfile.TemporaryDirectory() as name:
        write_checkpoints(Path(name) / "models", number)
        words = ("stage=region", "checkpoints=[models]", "logger=csv")
        command = [sys.executable, "-m", "dfwe.run", *words]
        process = subprocess.Popen(command, cwd=name, stdout=subprocess.DEVNULL)
        _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"The survey ended with status {status}.")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="*", default=[200, 500, 1000, 2000])
    parser.add_argument("--checkpoints", type=int, nargs="*", default=[15, 50, 100])
    options = parser.parse_args()
    plan(10)  # imports
    print("| steps of a plan | ms a step | ms a step, once more |\n|---:|---:|---:|")
    for steps in options.steps:
        first, again = plan(steps)
        print(f"| {steps:,} | {first:.1f} | {again:.2f} |", flush=True)
    print("\n| checkpoints of a survey | seconds | peak, GiB |\n|---:|---:|---:|")
    for number in options.checkpoints:
        seconds, peak = survey(number)
        print(f"| {number} | {seconds:.1f} | {peak:.2f} |", flush=True)


if __name__ == "__main__":
    main()
