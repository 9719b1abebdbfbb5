"""Checkpoints as rows of Theta: mapped where a file is theta already, else flattened."""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dfwe.pipeline.manifest import cached_folder, content_digest
from dfwe.pipeline.recipe import digest
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.checkpoint import CONFIG, Checkpoint
from dfwe.weights.judgement import first_not_finite, not_finite
from dfwe.weights.layout import Layout, raw_bytes
from dfwe.weights.loading import Loaded, load_network, tensors_of

if TYPE_CHECKING:
    from torch import Tensor

    Read = Callable[[str], Tensor]  # from a tensor's name to the tensor

BLOCK = 1 << 20  # elements that are made float32 at a time
VERSION, FLAT = 1, "theta.f32"  # of the canonical layout; the file of a flat copy


@dataclass(frozen=True)
class Row:
    """A checkpoint in the canonical layout: its network's tensors by their names there.

    Args:
        layout: of the floating-point tensors, parameters and saved buffers; tied ones stand once.
        theta: (P,), float32.
        constants: the tensors that are not mixed: integer and boolean buffers.
    """

    layout: Layout
    theta: "Tensor"
    constants: "Mapping[str, Tensor]"


def stored_row(folder: Path, cache: Path | None = None) -> Row:
    """The row of a checkpoint whose files are canonical already, without loading its network.

    dfwe's own results are, and so are bare weights without a configuration.

    Args:
        folder: the checkpoint.
        cache: where a flat copy is kept if its file cannot be mapped.

    Raises:
        UserError: its weights are missing or damaged.
    """
    checkpoint = Checkpoint.read(folder)
    layout, state = checkpoint.layout, checkpoint.state()
    theta = _mapped_file(checkpoint, layout)
    if theta is None:
        theta = _copied(checkpoint, layout, lambda name: state[name], cache)
    others = {name: state[name].clone() for name in state.keys() - set(layout.names)}
    return Row(layout, theta, others)


def row_of(checkpoint: Checkpoint, loaded: Loaded, cache: Path | None = None) -> Row:
    """The row of a loaded checkpoint: the file itself, mapped, if its bytes are theta.

    Args:
        checkpoint: the checkpoint.
        loaded: its network.
        cache: where a flat copy is kept if the file cannot be mapped; without one it is a
            nameless file that goes when the row does.

    Raises:
        UserError: a value is not finite.
    """
    tensors = tensors_of(loaded.network)
    floats = {name: x for name, x in tensors.items() if x.is_floating_point()}
    layout = Layout(tuple(sorted(floats)), tuple(tuple(floats[x].shape) for x in sorted(floats)))
    others = {name: x.clone() for name, x in tensors.items() if name not in floats}
    if (wrong := first_not_finite(floats.items())) is not None:
        raise not_finite(checkpoint.folder, wrong)

    def read(name: str) -> "Tensor":
        if loaded.merge is None:
            return floats[name]
        merged = loaded.merge(name, floats[name])
        if first_not_finite([(name, merged)]) is not None:
            raise not_finite(checkpoint.folder, name)
        return merged

    theta = _mapped_file(checkpoint, layout) if loaded.stored else None
    if theta is None:
        theta = _copied(checkpoint, layout, read, cache)
    return Row(layout, theta, others)


def read_row(name: str | Path, cache: Path | None = None) -> Row:
    """The row of a person's checkpoint, read as transformers reads it.

    Raises:
        UserError: it cannot be read, or holds values that are not finite.
    """
    checkpoint = read_checkpoint(name)
    return row_of(checkpoint, load_network(checkpoint), cache)


def _mapped_file(checkpoint: Checkpoint, layout: Layout) -> "Tensor | None":
    """The checkpoint's file as theta, mapped; None where its bytes are not theta."""
    header = checkpoint.headers[0]
    if len(checkpoint.headers) > 1 or not header.is_flat(layout):
        return None
    return _mapped(header.path, header.data, layout.size)


def _copied(checkpoint: Checkpoint, layout: Layout, read: "Read", cache: Path | None) -> "Tensor":
    def write(folder: Path) -> None:
        with (folder / FLAT).open("wb") as out:
            for name in layout.names:
                values = read(name).flatten()
                for start in range(0, len(values), BLOCK):
                    block: Tensor = values[start : start + BLOCK]
                    out.write(raw_bytes(block.float()))

    if cache is None:
        with tempfile.TemporaryDirectory(prefix="dfwe-") as folder:
            write(Path(folder))
            # Unlinked, the file lives as long as the map.
            return _mapped(Path(folder) / FLAT, 0, layout.size)
    files = {**checkpoint.files, CONFIG: checkpoint.source / CONFIG}
    digests = [(name, content_digest(path)) for name, path in files.items() if path.is_file()]
    folder = cached_folder(cache / digest([VERSION, digests])[:20], write)
    return _mapped(folder / FLAT, 0, layout.size)


def _mapped(path: Path, start: int, size: int) -> "Tensor":
    """Float32 values of a file, mapped copy-on-write: reads share the page cache."""
    import numpy as np
    import torch

    return torch.as_tensor(np.memmap(path, np.float32, mode="c", offset=start, shape=(size,)))
