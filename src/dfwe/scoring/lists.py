"""Tensors as lists of a known type, which torch's `tolist` does not state."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def integers(vector: "Tensor") -> list[int]:
    """The entries of an integer tensor (m,)."""
    return vector.numpy(force=True).tolist()


def floats(vector: "Tensor") -> list[float]:
    """The entries of a tensor (m,)."""
    return vector.numpy(force=True).tolist()


def table(matrix: "Tensor") -> list[list[float]]:
    """The rows of a tensor (m, k)."""
    return matrix.numpy(force=True).tolist()
