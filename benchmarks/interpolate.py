"""theta(alpha) written into a network: ours against a state-dict sum, mergekit and the bandwidth.

One thread, five experts of Flan-T5-small's shape, interleaved, medians. `python
benchmarks/interpolate.py` prints the rows.
"""

import argparse
import json
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from dfwe.weights.layout import flatten
from dfwe.weights.merge import mergekit_yaml
from dfwe.weights.space import WeightSpace
from friends import interleaved, network, row

EXPERTS = 5
ALPHA = (0.3, 0.25, 0.2, 0.15, 0.1)


def make_experts(root: Path, shape: str) -> tuple[Any, list[Path]]:
    """Five saved networks that differ in every parameter, and one to write into."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    model = network(shape)
    folders = []
    for number in range(EXPERTS):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn(1).item() * 1e-3)
        folders.append(root / f"expert{number}")
        model.save_pretrained(folders[-1])
    return model, folders


def naive(states: list[dict[str, Any]], module: Any, alpha: Any = ALPHA) -> None:
    """The usual way: a sum for each name, then load_state_dict."""
    mixed = {
        name: sum(float(a) * state[name] for a, state in zip(alpha, states, strict=True))
        for name in states[0]
    }
    module.load_state_dict(mixed, strict=False)


def triad(size: int, device: Any = "cpu") -> Callable[[], None]:
    """What memory allows: n reads and one write of P floats at the speed of a triad a = b + s c.

    The triad runs on arrays of P = `size` floats, so its three streams count for n + 1.
    """
    a, b, c = (torch.ones(size, device=device) for _ in range(3))

    def run() -> None:
        torch.add(b, c, alpha=0.5, out=a)

    return run


def rows(shape: str = "small", rounds: int = 5) -> list[dict[str, Any]]:
    """The benchmark's rows; ratio = the reference's time over ours."""
    torch.set_num_threads(1)
    logging.getLogger("dfwe").setLevel(logging.ERROR)  # these experts have no tokenizer
    with tempfile.TemporaryDirectory() as folder:
        plain, folders = make_experts(Path(folder), shape)
        space = WeightSpace.from_pretrained(folders)
        states = [load_file(path / "model.safetensors") for path in folders]
        flat = network(shape)
        flatten(flat)
        ways = {
            "ours": lambda: space.write(ALPHA, flat),
            "naive": lambda: naive(states, plain),
            "triad": triad(space.size),
        }
        seconds = interleaved(ways, rounds)
        ours, limit = seconds["ours"], seconds["triad"] * (EXPERTS + 1) / 3
        gigabytes = 4e-9 * space.size * (EXPERTS + 1) / ours
        note = f"{space.size:,} parameters, {EXPERTS} experts mapped, one thread"
        return [
            row("interpolate/naive", ours, seconds["naive"], note),
            row(
                "interpolate/triad_limit",
                ours,
                limit,
                f"{gigabytes:.1f} GB/s; the limit over ours is the share of it that is reached",
            ),
            mergekit(space, folders, Path(folder)),
        ]


def mergekit(space: WeightSpace, folders: list[Path], root: Path) -> dict[str, Any]:
    """Disk to disk: mergekit's linear merge against `export`.

    MERGEKIT is the command that runs it (`make bench` sets it), by default `mergekit-yaml`.
    """
    command = shlex.split(os.environ.get("MERGEKIT", "mergekit-yaml"))
    name = "interpolate/mergekit"
    if shutil.which(command[0]) is None:
        return row(name, None, None, "not measured: mergekit is not installed")
    config = root / "merge.yaml"
    config.write_text(mergekit_yaml(ALPHA, folders))

    def ours() -> None:
        shutil.rmtree(root / "ours", ignore_errors=True)
        space.export(ALPHA, root / "ours")

    def theirs() -> None:
        subprocess.run([*command, config, root / "theirs"], check=True, capture_output=True)

    try:
        seconds = interleaved({"ours": ours, "theirs": theirs}, rounds=1, warm=False)
    except subprocess.CalledProcessError as error:
        reason = error.stderr.decode().strip().splitlines()[-1]
        return row(name, None, None, f"not measured: mergekit failed ({reason})")
    return row(name, seconds["ours"], seconds["theirs"], "disk to disk, its start-up included")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small", choices=["small", "base"])
    for line in rows(parser.parse_args().shape):
        print(json.dumps(line))
