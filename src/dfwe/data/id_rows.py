"""Rows of token ids of different lengths, one behind the other: four bytes an id."""

from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray


class IdRows(Sequence[list[int]]):
    """Rows of whole numbers below 2^31, in memory or mapped from files.

    Args:
        ids: (tokens,) int32, row after row.
        ends: (m,) int64, where in `ids` each row ends.
    """

    def __init__(self, ids: NDArray[np.int32], ends: NDArray[np.int64]) -> None:
        self.ids = ids
        self.ends = ends

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> "IdRows":
        """The rows, which are looked at one after the other."""
        ids, ends = array("i"), array("q")
        for row in rows:
            ids.extend(row)
            ends.append(len(ids))
        return cls(np.frombuffer(ids, np.int32), np.frombuffer(ends, np.int64))

    @classmethod
    def load(cls, folder: Path, name: str) -> "IdRows":
        """The rows that `save` wrote, mapped."""
        parts = (folder / f"{name}.{part}.npy" for part in ("ids", "ends"))
        ids, ends = (
            np.load(path, mmap_mode="r" if path.stat().st_size else None) for path in parts
        )
        return cls(ids, ends)

    def save(self, folder: Path, name: str) -> None:
        """Write the rows into two files of a folder."""
        np.save(folder / f"{name}.ids.npy", self.ids)
        np.save(folder / f"{name}.ends.npy", self.ends)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> list[int]: ...

    @overload
    def __getitem__(self, index: slice) -> list[list[int]]: ...

    def __getitem__(self, index: int | slice) -> list[int] | list[list[int]]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        row = range(len(self))[index]
        start = self.ends[row - 1] if row else 0
        return self.ids[start : self.ends[row]].tolist()
