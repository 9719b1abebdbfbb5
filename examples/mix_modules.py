"""Mixes three small classifiers, each trained on part of the data, by their dev accuracy."""

import torch
from numpy.typing import NDArray

from dfwe import WeightSpace
from dfwe.search import nelder_mead, search


def blobs(count: int, classes: list[int], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Points (count, 2) around three centres, of some classes only, and their classes (count,)."""
    random = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(classes), (count,), generator=random)
    labels = torch.tensor(classes)[chosen]
    centres = torch.tensor([[0.0, 1.0], [-1.0, -0.5], [1.0, -0.5]])
    return centres[labels] + 0.5 * torch.randn(count, 2, generator=random), labels


def network() -> torch.nn.Module:
    """All start from the same weights, without which an average means little."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 3))


def trained(classes: list[int], seed: int) -> torch.nn.Module:
    """Some 100 steps on the points of some classes."""
    model = network()
    points, labels = blobs(200, classes, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(points), labels).backward()
        optimizer.step()
    return model


def main() -> None:
    """Prints each expert's dev accuracy, the mixture's, and its weights."""
    space = WeightSpace.from_modules([trained([0, 1], 1), trained([0, 2], 2), trained([1, 2], 3)])
    points, labels = blobs(300, [0, 1, 2], seed=4)
    mixture = network()

    def score(alpha: NDArray) -> float:
        """Dev accuracy of theta(alpha), in percent."""
        space.write(alpha, mixture)
        with torch.no_grad():
            return 100 * float((mixture(points).argmax(1) == labels).float().mean())

    best = search(nelder_mead(space.n), score)
    for trial in best.trials[: space.n]:
        print(f"one expert  {trial.score:.1f}")
    print(f"mixture     {best.score:.1f}  alpha {best.alpha.round(3).tolist()}")


if __name__ == "__main__":
    main()
