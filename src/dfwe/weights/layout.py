"""Where each parameter lies in a flat theta (P,): names in sorted order, one after the other.

This is the order in which safetensors writes float32 tensors, so that the data of a checkpoint's
`model.safetensors` is theta itself and can be memory-mapped as it is.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


@dataclass(frozen=True)
class Layout:
    """Names and shapes of the parameters, sorted by name; each tensor stands once."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, module: "Module") -> "Layout":
        """The layout of a module's parameters; tied ones stand under their first name."""
        named = sorted(module.named_parameters(), key=lambda item: item[0])
        return cls(tuple(name for name, _ in named), tuple(tuple(p.shape) for _, p in named))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(prod(shape) for shape in self.shapes)

    @property
    def size(self) -> int:
        """P, the number of elements."""
        return sum(self.sizes)

    def spans(self) -> Iterator[tuple[str, int, int, tuple[int, ...]]]:
        """(name, first element, one past the last, shape) of each parameter."""
        start = 0
        for name, size, shape in zip(self.names, self.sizes, self.shapes, strict=True):
            yield name, start, start + size, shape
            start += size


def flatten(module: "Module") -> "Tensor":
    """Make the module's parameters views of one flat float32 tensor (P,), and return it.

    A module that is flat already keeps its tensor. Tied parameters stay tied. Flatten a module
    on its final device: a move to another one gives each parameter separate memory again.
    """
    import torch

    layout = Layout.of(module)
    parameters = dict(module.named_parameters())
    theta = flat(module, layout)
    if theta is not None:
        return theta
    first = next(iter(parameters.values()))
    theta = torch.empty(layout.size, dtype=torch.float32, device=first.device)  # (P,)
    with torch.no_grad():
        for name, start, stop, shape in layout.spans():
            view = theta[start:stop].view(shape)
            view.copy_(parameters[name])
            parameters[name].data = view
    return theta


def flat(module: "Module", layout: Layout) -> "Tensor | None":
    """The flat tensor (P,) behind a flattened module's parameters; None for any other module."""
    import torch

    parameters = dict(module.named_parameters())
    if parameters.keys() != set(layout.names):
        return None
    first = parameters[layout.names[0]]
    base = first.data_ptr()
    for name, start, _, shape in layout.spans():
        parameter = parameters[name]
        if parameter.dtype != torch.float32 or not parameter.is_contiguous():
            return None
        if parameter.data_ptr() != base + 4 * start or tuple(parameter.shape) != shape:
            return None
    storage = first.untyped_storage()
    if storage.nbytes() < 4 * (first.storage_offset() + layout.size):
        return None
    return first.data.as_strided((layout.size,), (1,))


def raw_bytes(tensor: "Tensor") -> memoryview:
    """A tensor's values as they stand in a file; unlike NumPy's `tofile`, writing them raises the
    system's own error."""
    values = tensor.cpu().contiguous().numpy().reshape(-1)
    return values.data.cast("B") if values.size else memoryview(b"")


@dataclass(frozen=True)
class TensorEntry:
    """What a file's header says of a tensor.

    Args:
        dtype: in safetensors' notation, such as "F32".
        shape: its shape.
        data_offsets: its first byte and one past its last, counted from the file's first tensor;
            None in a `.bin` file.
    """

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int] | None = None


_OBJECT = TypeAdapter(dict[str, object])
_ENTRIES = TypeAdapter(dict[str, TensorEntry])


@dataclass(frozen=True)
class Header:
    """What a weight file contains, as a safetensors file lists it.

    Args:
        path: the file.
        tensors: name -> entry.
        data: the position of the first tensor's first byte.
    """

    path: Path
    tensors: dict[str, TensorEntry]
    data: int

    @classmethod
    def read(cls, path: Path) -> "Header":
        """The header of a safetensors file.

        Raises:
            ValueError: the file is not a whole safetensors file.
        """
        with path.open("rb") as file:
            prefix = file.read(8)
            if len(prefix) < 8:
                raise ValueError("the file is shorter than its header")
            (length,) = struct.unpack("<Q", prefix)
            if length > path.stat().st_size:
                raise ValueError("the file is shorter than its header")
            text = file.read(length)
        try:
            content = _OBJECT.validate_python(json.loads(text))
            content.pop("__metadata__", None)
            tensors = _ENTRIES.validate_python(content)
        except ValidationError:
            raise ValueError("its header is not one of safetensors") from None
        ends = [entry.data_offsets[1] for entry in tensors.values() if entry.data_offsets]
        end = max(ends, default=0)
        if path.stat().st_size != 8 + length + end:
            raise ValueError("the file is shorter or longer than its header says")
        return cls(path, tensors, 8 + length)

    def is_flat(self, layout: Layout) -> bool:
        """Whether the file's bytes are theta in this layout."""
        if len(self.tensors) != len(layout.names) or self.data % 4 != 0:
            return False
        for name, start, stop, shape in layout.spans():
            if self.tensors.get(name) != TensorEntry("F32", shape, (4 * start, 4 * stop)):
                return False
        return True
