"""A mixture as a folder that `from_pretrained` loads, written in pieces that fit into memory."""

import json
import shutil
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from dfwe.card import FILE
from dfwe.errors import UserError
from dfwe.pipeline.files import read_json, written_aside
from dfwe.weights.checkpoint import CONFIG, WEIGHTS
from dfwe.weights.layout import Layout, raw_bytes

if TYPE_CHECKING:
    from torch import Tensor


def write_folder(
    target: Path,
    layout: Layout,
    blocks: Iterable["Tensor"],
    constants: Mapping[str, "Tensor"],
    *,
    beside: Mapping[str, Path],
    settings: Mapping[str, JsonValue],
    card: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write the weights, and the files beside them, aside; then rename.

    Args:
        target: a new folder; with `overwrite` also one that has a model, which it replaces.
        layout: of theta.
        blocks: theta (P,) in consecutive float32 pieces.
        constants: the tensors that are not in theta.
        beside: name in the folder -> file, of configuration and tokenizer.
        settings: what `config.json` says otherwise than the file.
        card: the model card.
        overwrite: whether a model that is there is replaced.

    Raises:
        UserError: `target` exists, and is not to be overwritten or has no model.
    """
    check_target(target, overwrite)
    target.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(target) as temporary:
        temporary.mkdir()
        for name, path in beside.items():
            (temporary / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, temporary / name)
        _configure(temporary / CONFIG, settings)
        _write(temporary / WEIGHTS, layout, blocks, constants)
        if card is not None:
            (temporary / FILE).write_text(card, encoding="utf-8")
        put_away(target, temporary)


def check_target(target: Path, overwrite: bool) -> None:
    """Check that a model may be written to a folder.

    Raises:
        UserError: it exists, and is not to be overwritten or has no model.
    """
    if not target.exists():
        return
    if not overwrite:
        raise UserError(
            f"{target} exists already; name a new folder for the export, or set overwrite=true."
        )
    if not (target / WEIGHTS).is_file():
        raise UserError(
            f"{target} has no {WEIGHTS}, so it is no earlier export that overwrite=true would "
            "replace; name a new folder."
        )


def put_away(target: Path, temporary: Path) -> None:
    """Remove what is at `target`, so that `temporary` can take its place."""
    if target.exists():
        old = temporary / ".replaced"
        target.rename(old)
        shutil.rmtree(old)


def _configure(config: Path, settings: Mapping[str, JsonValue]) -> None:
    """transformers loads in the precision that the configuration names."""
    if not config.is_file():
        return
    content = {**read_json(config), **settings}
    for key in ("dtype", "torch_dtype"):
        if key in content:
            content[key] = "float32"
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _write(
    path: Path, layout: Layout, blocks: Iterable["Tensor"], constants: Mapping[str, "Tensor"]
) -> None:
    """A safetensors file: theta as it lies, the wider constants before it, the others behind.

    So every tensor is aligned, as in a file that safetensors writes, and theta can be mapped.
    """
    wide = [item for item in constants.items() if item[1].element_size() > 4]
    narrow = [item for item in constants.items() if item[1].element_size() <= 4]
    narrow.sort(key=lambda item: -item[1].element_size())
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0

    def place(name: str, dtype: str, shape: tuple[int, ...], size: int) -> None:
        nonlocal end
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [end, end + size]}
        end += size

    for name, tensor in wide:
        place(name, _code(tensor), tuple(tensor.shape), tensor.nbytes)
    for name, start, stop, shape in layout.spans():
        place(name, "F32", shape, 4 * (stop - start))
    for name, tensor in narrow:
        place(name, _code(tensor), tuple(tensor.shape), tensor.nbytes)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, tensor in wide:
            file.write(raw_bytes(tensor))
        for block in blocks:
            file.write(raw_bytes(block))
        for _, tensor in narrow:
            file.write(raw_bytes(tensor))


def _code(tensor: "Tensor") -> str:
    """safetensors' name of a type."""
    kind = str(tensor.dtype).removeprefix("torch.")
    if kind == "bool":
        return "BOOL"
    for ours, theirs in (("uint", "U"), ("int", "I"), ("bfloat", "BF"), ("float", "F")):
        kind = kind.replace(ours, theirs)
    return kind
