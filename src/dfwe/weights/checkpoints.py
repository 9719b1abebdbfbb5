"""Checkpoints as rows of Theta: mapped where the file is theta already, else flattened once."""

import hashlib
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfwe.errors import UserError
from dfwe.weights.layout import Header, Layout

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"


def open_rows(folders: Sequence[Path], cache: Path | None) -> tuple[list["Tensor"], Layout]:
    """A row (P,) for each checkpoint, and the layout they share.

    Raises:
        UserError: a checkpoint is missing or damaged, has other tensors than the first, or holds
            values that are not finite.
    """
    headers = [_headers(folder) for folder in folders]
    shapes = [{name: entry["shape"] for head in group for name, entry in head.tensors.items()}
              for group in headers]  # fmt: skip
    for folder, found in zip(folders[1:], shapes[1:], strict=True):
        _compare(folders[0], shapes[0], folder, found)
    names = sorted(shapes[0])
    layout = Layout(tuple(names), tuple(tuple(shapes[0][name]) for name in names))
    _compare_tokenizers(folders)
    rows = []
    for folder, group in zip(folders, headers, strict=True):
        row = _open(group, layout, cache)
        _check_finite(row, layout, folder)
        rows.append(row)
    return rows, layout


def _headers(folder: Path) -> list[Header]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; give one that save_pretrained wrote.")
    files = [folder / WEIGHTS] if (folder / WEIGHTS).is_file() else sorted(
        folder.glob("model-*.safetensors"))  # fmt: skip
    if not files:
        raise UserError(
            f"{folder} holds no {WEIGHTS}; load the model and save it again with save_pretrained."
        )
    try:
        return [Header.read(file) for file in files]
    except (ValueError, KeyError) as error:
        raise UserError(f"The weights in {folder} are damaged ({error}); get them again."
                        ) from None  # fmt: skip


def _compare(first: Path, wanted: dict[str, Any], folder: Path, found: dict[str, Any]) -> None:
    odd = sorted(set(wanted) ^ set(found))
    if odd:
        owner = folder if odd[0] in found else first
        raise UserError(
            f"{folder} and {first} are of different architectures: only {owner} has the tensor "
            f"'{odd[0]}'; mix checkpoints of one model."
        )
    for name in sorted(wanted):
        if wanted[name] != found[name]:
            raise UserError(
                f"'{name}' has the shape {found[name]} in {folder} but {wanted[name]} in {first}; "
                "mix checkpoints of one model (a vocabulary that was resized is a common cause)."
            )


def _compare_tokenizers(folders: Sequence[Path]) -> None:
    digests = []
    for folder in folders:
        files = [folder / name for name in ("tokenizer.json", "spiece.model", "vocab.txt")]
        present = [file.read_bytes() for file in files if file.is_file()]
        if not present:
            log.warning("%s has no tokenizer; the export takes the first expert's.", folder)
            continue
        digests.append(hashlib.sha256(present[0]).hexdigest())
    if len(set(digests)) > 1:
        log.warning("The checkpoints' tokenizers differ; the export takes the first expert's.")


def _open(headers: list[Header], layout: Layout, cache: Path | None) -> "Tensor":
    if len(headers) == 1 and headers[0].is_flat(layout):
        return _mapped(headers[0].path, headers[0].data, layout.size)
    paths = [header.path for header in headers]
    stamp = "".join(f"{p.absolute()}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in paths)
    place = Path(tempfile.mkdtemp(prefix="dfwe-")) if cache is None else cache
    copy = place / f"{hashlib.sha256(stamp.encode()).hexdigest()[:20]}.f32"
    if not copy.is_file():
        _flatten(paths, layout, copy)
    return _mapped(copy, 0, layout.size)


def _flatten(paths: list[Path], layout: Layout, copy: Path) -> None:
    """Write the float32 theta (P,) of a checkpoint in any precision or number of files."""
    import torch
    from safetensors import safe_open

    where = {}
    files = [safe_open(path, framework="pt") for path in paths]
    for file in files:
        where.update(dict.fromkeys(file.keys(), file))
    copy.parent.mkdir(parents=True, exist_ok=True)
    aside = copy.with_suffix(".part")
    with aside.open("wb") as out:
        for name in layout.names:
            tensor = where[name].get_tensor(name).to(torch.float32).contiguous()
            out.write(tensor.numpy().tobytes())
    aside.replace(copy)


def _mapped(path: Path, start: int, size: int) -> "Tensor":
    """Float32 values of a file, mapped copy-on-write: reads share the page cache."""
    import numpy as np
    import torch

    return torch.from_numpy(np.memmap(path, np.float32, mode="c", offset=start, shape=(size,)))


def _check_finite(row: "Tensor", layout: Layout, folder: Path) -> None:
    import torch

    for name, start, stop, _ in layout.spans():
        if not torch.isfinite(row[start:stop].sum()) and not row[start:stop].isfinite().all():
            raise UserError(
                f"'{name}' in {folder} holds values that are not finite; training diverged, so "
                "leave this checkpoint out."
            )
