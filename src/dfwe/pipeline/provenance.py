"""Where a result was computed: versions, commit, machine, device."""

import functools
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from dfwe.pipeline.record import Record

LIBRARIES = ("dfwe", "torch", "transformers", "tokenizers", "lightning", "numpy", "scipy")


class Provenance(Record):
    """`provenance.json`: lies beside the recipe and is never hashed.

    Args:
        seconds: what computing the result took, earlier attempts included.
        versions: of dfwe and of the libraries that compute, by name.
        commit: git's, where dfwe runs from a checkout.
        machine: processor and system.
        device: the kind of device: cpu, cuda, mps.
        label: what the result was called then.
    """

    seconds: float
    versions: dict[str, str]
    commit: str | None
    machine: str
    device: str
    label: str


def provenance(label: str, seconds: float, device: str) -> Provenance:
    """The provenance of a result that is computed here and now."""
    return Provenance(
        seconds=seconds,
        versions=versions(),
        commit=commit(),
        machine=f"{platform.system()} {platform.machine()}",
        device=device,
        label=label,
    )


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
