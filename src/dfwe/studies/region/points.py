"""Ways through weight space as arrays of alpha (m, n): lines, hulls, extrapolation, noise."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dfwe.studies.region.config import Settings
from dfwe.weights.untyped import norm

if TYPE_CHECKING:
    from torch import Tensor

Alphas = NDArray[np.float64]
STEPS, REACH = 10, 32.0  # of extrapolation, as in the paper: 1 to 32 and 0 to -31


def corner(n: int, i: int) -> Alphas:
    """alpha (n,) of model i itself."""
    return np.eye(n)[i]


def line(n: int, i: int, j: int, t: ArrayLike) -> Alphas:
    """(m, n): from model i at t = 0 to model j at t = 1, and beyond for any other t (m,)."""
    places = np.asarray(t, dtype=np.float64)[:, None]
    return (1 - places) * corner(n, i) + places * corner(n, j)


def extrapolation(steps: int = STEPS, reach: float = REACH) -> Alphas:
    """t (2 steps,) on a line through two models, in log steps: -(reach - 1)..0 and 1..reach."""
    right = np.geomspace(1.0, reach, steps)
    return np.concatenate([(1.0 - right)[::-1], right])


def centroid(n: int, members: Sequence[int]) -> Alphas:
    """alpha (n,) of the uniform average of `members`."""
    alpha = np.zeros(n)
    alpha[list(members)] = 1.0 / len(members)
    return alpha


def interior(n: int, members: Sequence[int], count: int, seed: int) -> Alphas:
    """(count, n): random points of the members' convex hull, uniform over alpha (In')."""
    alphas = np.zeros((count, n))
    drawn = np.random.default_rng(seed).dirichlet(np.ones(len(members)), count)
    alphas[:, list(members)] = drawn
    return alphas


def perturbed(base: "Tensor", distance: float, seed: int) -> "Tensor":
    """The base (P,) moved so far in a random direction: as far away, but nowhere special."""
    import torch

    noise = torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))
    return base + noise * (distance / norm(noise))


def breaks(t: Sequence[float], losses: Sequence[float], limit: float) -> float | None:
    """The smallest t >= 1 at which the loss exceeds `limit`; None if it never does."""
    beyond = [
        place
        for place, loss in sorted(zip(t, losses, strict=True))
        if place >= 1 and not loss <= limit
    ]
    return beyond[0] if beyond else None


IN, INTERIOR, NOISE, PRETRAINED, LINE, EXTRAPOLATION = (
    "in",
    "interior",
    "noise",
    "pretrained",
    "line",
    "extrapolation",
)


@dataclass(frozen=True, eq=False)
class Point:
    """One body: a mixture of the grid's models and the pretrained one, or a perturbed base.

    Args:
        name: unique within a study; the ledger knows it by it.
        kind: in, interior, noise, pretrained, line or extrapolation.
        group: the dataset of a model, the group of a hull, or the kind of a line.
        probes: the datasets on which its loss is taken.
        alpha: (n + 1,), the pretrained model last; None for a perturbed base.
        t: the place on a line.
        pair: which line it is on.
        seed: of a perturbation.
    """

    name: str
    kind: str
    group: str
    probes: tuple[str, ...]
    alpha: NDArray[np.float64] | None = None
    t: float | None = None
    pair: int = 0
    seed: int = 0


def groups(datasets: Sequence[str], settings: Settings) -> dict[str, dict[str, tuple[str, ...]]]:
    """Level -> group -> its datasets: each dataset, each family of several, all of them."""
    families: dict[str, list[str]] = {}
    for dataset in datasets:
        families.setdefault(settings.family(dataset), []).append(dataset)
    return {
        "dataset": {dataset: (dataset,) for dataset in datasets},
        "family": {name: tuple(members) for name, members in families.items() if len(members) > 1},
        "general": {"all": tuple(datasets)},
    }


def singles(owners: Sequence[str], probed: Sequence[str], settings: Settings) -> list[Point]:
    """Every fine-tuned model, the pretrained one and perturbed bases, on every dataset.

    Args:
        owners: (n,) the dataset of each model.
        probed: the datasets that can be probed.
    """
    n, probes = len(owners) + 1, tuple(probed)
    return [
        Point(PRETRAINED, PRETRAINED, PRETRAINED, probes, corner(n, n - 1)),
        *(Point(f"in/{i}", IN, owner, probes, corner(n, i)) for i, owner in enumerate(owners)),
        *(Point(f"noise/{k}", NOISE, NOISE, probes, seed=k) for k in range(settings.perturbed)),
    ]


def hulls(owners: Sequence[str], probed: Sequence[str], settings: Settings) -> list[Point]:
    """Random convex combinations of each group's models, on the group's datasets (In')."""
    points: list[Point] = []
    for level, by_group in groups(list(dict.fromkeys(owners)), settings).items():
        for number, (group, datasets) in enumerate(by_group.items()):
            members = [i for i, owner in enumerate(owners) if owner in datasets]
            alphas = interior(len(owners) + 1, members, settings.interior, seed=number)
            probes = tuple(d for d in datasets if d in probed)
            points += [
                Point(f"interior/{level}/{group}/{k}", INTERIOR, f"{level}/{group}", probes, a)
                for k, a in enumerate(alphas)
                if probes
            ]
    return points


def lines(owners: Sequence[str], probed: Sequence[str], settings: Settings) -> list[Point]:
    """Lines between pairs of models and beyond the ends of some, on both ends' datasets."""
    t = np.linspace(0, 1, settings.points)
    points: list[Point] = []
    for kind, pairs in _pairs(owners, settings).items():
        for number, (i, j) in enumerate(pairs[: settings.pairs]):
            points += _on_line(LINE, kind, number, (i, j), t, owners, probed)
        for number, (i, j) in enumerate(pairs[: settings.extrapolation]):
            beyond = extrapolation(settings.steps)
            points += _on_line(EXTRAPOLATION, kind, number, (i, j), beyond, owners, probed)
    return points


def _on_line(
    kind: str,
    group: str,
    number: int,
    ends: tuple[int, int],
    t: NDArray[np.float64],
    owners: Sequence[str],
    probed: Sequence[str],
) -> list[Point]:
    probes = tuple(dict.fromkeys(owners[i] for i in ends if owners[i] in probed))
    alphas = line(len(owners) + 1, *ends, t)
    return [
        Point(
            f"{kind}/{group}/{number}/{place:g}", kind, group, probes, alpha, float(place), number
        )
        for place, alpha in zip(t, alphas, strict=True)
        if probes
    ]


def _pairs(owners: Sequence[str], settings: Settings) -> dict[str, list[tuple[int, int]]]:
    """Pairs of models by how near their datasets are, in an order drawn once."""
    kinds: dict[str, list[tuple[int, int]]] = {"same dataset": [], "same family": [], "across": []}
    for i, j in combinations(range(len(owners)), 2):
        near = settings.family(owners[i]) == settings.family(owners[j])
        same = owners[i] == owners[j]
        kinds["same dataset" if same else "same family" if near else "across"].append((i, j))
    rng = np.random.default_rng(0)
    return {kind: [pairs[k] for k in rng.permutation(len(pairs))] for kind, pairs in kinds.items()}
