"""Merging methods to compare a searched mixture with: soups and task vectors.

Each works on blocks of theta; the result (P,) goes back into the space with `with_rows`, to be
written or exported. tau_i = theta_i - theta_0 is expert i's task vector from the base theta_0.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from dfwe.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

    from dfwe.weights.space import WeightSpace

BLOCK = 1 << 20


def task_arithmetic(space: "WeightSpace", base: "Tensor", scale: float = 0.3) -> "Tensor":
    """theta_0 + scale * sum_i tau_i, (P,) (Ilharco et al. 2023, section 2).

    Args:
        base: theta_0 (P,), such as `WeightSpace.from_pretrained([folder]).rows[0]`.
        scale: their lambda; chosen on dev in the paper.
    """
    theta, rows = _ready(space, base)
    for part in _blocks(space.size):
        tau = sum((row[part] - base[part] for row in rows[1:]), rows[0][part] - base[part])
        theta[part] = base[part] + scale * tau
    return theta


def ties(
    space: "WeightSpace", base: "Tensor", density: float = 0.2, scale: float = 1.0
) -> "Tensor":
    """Trim, elect sign, merge, (P,) (Yadav et al. 2023, Algorithm 1).

    Args:
        base: theta_0 (P,).
        density: the share of each task vector's entries that is kept, by magnitude over all of
            it; entries equal to the smallest kept are kept too.
        scale: their lambda, on the mean of the entries of the elected sign.
    """
    import torch

    _share(density, "density")
    theta, rows = _ready(space, base)
    kept = max(1, round(density * space.size))
    least = [_kth_largest(row, base, kept) for row in rows]
    for part in _blocks(space.size):
        trimmed: list[Tensor] = []
        for row, bound in zip(rows, least, strict=True):
            tau = row[part] - base[part]
            trimmed.append(torch.where(tau.abs() >= bound, tau, 0.0))
        tau = torch.stack(trimmed)  # (n, block)
        sign = tau.sum(0).sign()
        agrees = (tau.sign() == sign) & (tau != 0)
        mean = torch.where(agrees, tau, 0.0).sum(0) / agrees.sum(0).clamp(min=1)
        theta[part] = base[part] + scale * mean
    return theta


def dare(
    space: "WeightSpace", base: "Tensor", seed: int, drop: float = 0.9, scale: float = 0.3
) -> "Tensor":
    """Task arithmetic on task vectors of which a random share is dropped, (P,).

    Entries survive with probability 1 - drop and are divided by it (Yu et al. 2024, Eq. 3).

    Args:
        base: theta_0 (P,).
        seed: of the masks; expert i's are the same whatever the other experts are.
        drop: their p.
        scale: as in `task_arithmetic`.
    """
    import torch

    _share(1.0 - drop, "1 - drop")
    theta, rows = _ready(space, base)
    draws = [torch.Generator().manual_seed(seed * 1_000_003 + i) for i in range(len(rows))]
    for part in _blocks(space.size):
        theta[part] = base[part]
        for row, generator in zip(rows, draws, strict=True):
            tau = row[part] - base[part]
            stays = torch.rand(tau.shape, generator=generator) >= drop
            theta[part] += scale * torch.where(stays, tau / (1.0 - drop), 0.0)
    return theta


def mergekit_yaml(alpha: ArrayLike, folders: Sequence[str | Path]) -> str:
    """The mixture theta(alpha) (Eq. 1) as a configuration of `mergekit-yaml`."""
    weights = np.asarray(alpha, dtype=np.float64).tolist()
    if len(weights) != len(folders):
        raise UserError(f"{len(weights)} weights for {len(folders)} models; give one for each.")
    lines = ["merge_method: linear", "models:"]
    for folder, weight in zip(folders, weights, strict=True):
        # As one text, a path with + or @ would be read as model+adapter@revision.
        lines += [
            "  - model:",
            "      model:",
            f"        path: {json.dumps(str(folder), ensure_ascii=False)}",
            "    parameters:",
            f"      weight: {weight!r}",
        ]
    return "\n".join([*lines, "parameters:", "  normalize: false", "dtype: float32", ""])


def _ready(space: "WeightSpace", base: "Tensor") -> "tuple[Tensor, tuple[Tensor, ...]]":
    import torch

    if base.shape != (space.size,):
        raise UserError(
            f"The base has {base.numel():,} parameters, the experts {space.size:,}; "
            "name the model they were fine-tuned from."
        )
    return torch.empty(space.size), space.rows


def _blocks(size: int) -> Iterator[slice]:
    return (slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK))


def _share(value: float, name: str) -> None:
    if not 0.0 < value <= 1.0:
        raise UserError(f"{name} is {value}; it is a share above 0 and at most 1.")


def _kth_largest(row: "Tensor", base: "Tensor", k: int) -> float:
    """The k-th largest |row - base|, exactly, without a copy of the difference.

    A non-negative float sorts as its bits do: two counts suffice, of the upper and the lower 16.
    """
    import torch

    def bits(part: slice) -> "Tensor":
        return (row[part] - base[part]).abs_().view(torch.int32)

    def pick(counts: "Tensor", wanted: int) -> tuple[int, int]:
        """The highest bucket with `wanted` entries in it and above; how many are still wanted."""
        above = counts.flip(0).cumsum(0)
        place = int(torch.searchsorted(above, wanted))
        before = int(above[place - 1]) if place else 0
        return len(counts) - 1 - place, wanted - before

    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for part in _blocks(len(row)):
        counts += torch.bincount(bits(part) >> 16, minlength=1 << 16)
    upper, left = pick(counts, k)
    counts = torch.zeros(1 << 16, dtype=torch.int64)
    for part in _blocks(len(row)):
        values = bits(part)
        counts += torch.bincount(values[values >> 16 == upper] & 0xFFFF, minlength=1 << 16)
    lower, _ = pick(counts, left)
    return torch.tensor((upper << 16) | lower, dtype=torch.int32).view(torch.float32).item()
