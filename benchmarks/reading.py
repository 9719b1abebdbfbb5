"""Memory and time that reading a checkpoint takes, in float32 (mapped) and bfloat16 (copied).

`python benchmarks/reading.py --shape base` prints a row for each: the highest resident memory
above that of the imports, as a multiple of the file's size (Linux). Each runs in a process of
its own.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter

import torch

from friends import network


def resident(key: str) -> int:
    """A line of this process's memory, in bytes: VmRSS or its peak, VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def read(folder: Path) -> None:
    """Print the cost of one reading, in this process."""
    from transformers import T5ForConditionalGeneration  # noqa: F401  part of the imports

    from dfwe.weights.space import WeightSpace

    before, start = resident("VmRSS"), perf_counter()
    WeightSpace.from_pretrained([folder], cache=folder / "cache")
    seconds = perf_counter() - start
    size = (folder / "model.safetensors").stat().st_size
    print(f"{folder.name}: {(resident('VmHWM') - before) / size:.2f} times, {seconds:.1f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small")
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    if arguments.folder:
        return read(arguments.folder)
    with tempfile.TemporaryDirectory() as root:
        for kind in ("float32", "bfloat16"):
            folder = Path(root) / kind
            network(arguments.shape).to(getattr(torch, kind)).save_pretrained(folder)
            subprocess.run([sys.executable, __file__, "--folder", str(folder)], check=True)


if __name__ == "__main__":
    main()
