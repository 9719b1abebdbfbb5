"""Where a result was computed: versions, commit, machine, device."""

import functools
import platform
import re
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dfwe.pipeline.record import Record

LIBRARIES = ("dfwe", "torch", "transformers", "tokenizers", "lightning", "numpy", "scipy")


class Environment(Record):
    """What a process computes with.

    Args:
        versions: of dfwe and of the libraries that compute, by name.
        commit: git's, where dfwe runs from a checkout.
        machine: system and processor.
        device: the kind of device: cpu, cuda, mps; a name may follow in brackets.
        threads: of a CPU's computations; None where that is not known.
    """

    versions: dict[str, str]
    commit: str | None
    machine: str
    device: str
    threads: int | None = None

    def __str__(self) -> str:
        """For a sentence: the machine, the device and torch's version."""
        torch = self.versions.get("torch")
        return ", ".join([self.machine, self.device, *([f"torch {torch}"] if torch else [])])


class Provenance(Environment):
    """`provenance.json`: lies beside the recipe and is never hashed.

    Args:
        seconds: what computing the result took, earlier attempts included.
        label: what the result was called then.
        stage: which `stage=` computed it.
        group: what a logger grouped it under.
    """

    seconds: float
    label: str
    stage: str = ""
    group: str = ""


def environment(device: str = "cpu", threads: int | None = None) -> Environment:
    """What this process computes with."""
    return Environment(
        versions=versions(), commit=commit(), machine=machine(), device=device, threads=threads
    )


def provenance(
    label: str, seconds: float, device: str, *, stage: str = "", group: str = ""
) -> Provenance:
    """The provenance of a result that is computed here and now."""
    where = environment(device).model_dump()
    return Provenance(seconds=seconds, label=label, stage=stage, group=group, **where)


@functools.cache
def machine() -> str:
    """System and processor, by its model where the system says it."""
    try:
        processor = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.M)
    except OSError:
        processor = None
    model = processor[1].strip() if processor else platform.processor()
    return ", ".join(filter(None, [f"{platform.system()} {platform.machine()}", model]))


@functools.cache
def versions() -> dict[str, str]:
    """Name -> version of Python, dfwe and the libraries that compute, those that are installed."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = version(name)
        except PackageNotFoundError:
            continue
    return installed


@functools.cache
def commit() -> str | None:
    """git's commit of the checkout that dfwe runs from; None elsewhere."""
    root = Path(__file__).resolve().parents[3]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
