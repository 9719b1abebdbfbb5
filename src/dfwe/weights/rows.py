"""Checkpoint folders as rows of Theta: mapped where a file is theta already, else flattened."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, JsonValue, ValidationError

from dfwe.errors import UserError, schema_fault
from dfwe.pipeline.files import read_json, written_aside
from dfwe.weights.layout import Header, Layout, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

    Read = Callable[[str], Tensor]  # from a tensor's name to the tensor


WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
FLOATS = ("F64", "F32", "F16", "BF16")  # what is mixed; safetensors' names
TOKENIZERS = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.txt", "vocab.json")
BESIDE = ("tokenizer", "special_tokens", "added_tokens", "merges", "chat_template")


class _Index(BaseModel):
    """What is read of the index of a model in several files."""

    weight_map: dict[str, str]


class _AddedToken(BaseModel):
    """What is read of a token in a tokenizer.json outside its model."""

    id: int


class _Vocabulary(BaseModel):
    """What is read of the model in a tokenizer.json."""

    vocab: dict[str, int] | list[object] = []


class _TokenizerFile(BaseModel):
    """What is read of a tokenizer.json."""

    model: _Vocabulary = _Vocabulary()
    added_tokens: list[_AddedToken] = []


class _SafeTensors(Protocol):
    """What is used of an open safetensors file, which has no types."""

    def get_tensor(self, name: str) -> "Tensor": ...


@dataclass(frozen=True)
class Checkpoint:
    """A folder that `save_pretrained` wrote, by the headers of its weight files.

    Args:
        folder: the folder.
        headers: one for each weight file.
    """

    folder: Path
    headers: tuple[Header, ...]

    @classmethod
    def read(cls, folder: Path) -> "Checkpoint":
        """Read the headers of safetensors (one file or shards) or `.bin` files.

        Raises:
            UserError: the folder, its weights or one of the shards is missing or damaged.
        """
        if not folder.is_dir():
            raise UserError(
                f"{folder} is not a folder; give one that save_pretrained wrote, or "
                "a Hub id, OWNER/NAME."
            )
        files = _weight_files(folder)
        try:
            read = [header_of(file) for file in files]
        except OSError as error:
            raise UserError(
                f"{error.filename} cannot be read ({error.strerror}); get the checkpoint again."
            ) from None
        except Exception as error:  # a damaged file makes a reader raise anything
            raise UserError(
                f"The weights in {folder} are damaged ({error}); get them again."
            ) from None
        return cls(folder, tuple(read))

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """name -> entry, of all files."""
        return {name: entry for header in self.headers for name, entry in header.tensors.items()}

    @cached_property
    def layout(self) -> Layout:
        """Of the floating-point tensors: they are mixed, saved buffers included."""
        names = sorted(name for name, entry in self.tensors.items() if entry.dtype in FLOATS)
        return Layout(tuple(names), tuple(self.tensors[name].shape for name in names))

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(sorted({entry.dtype for entry in self.tensors.values()}))

    @cached_property
    def config(self) -> dict[str, JsonValue]:
        """config.json; empty where there is none, or a damaged one."""
        try:
            return read_json(self.folder / "config.json")
        except (OSError, ValueError):
            return {}

    @cached_property
    def tokenizer(self) -> str | None:
        """sha256 of the tokenizer's main file, hex; None without a tokenizer."""
        files = (self.folder / name for name in TOKENIZERS)
        return next((tokenizer_digest(path) for path in files if path.is_file()), None)

    @property
    def tokenizer_files(self) -> tuple[Path, ...]:
        """The tokenizer's files, sorted by name; those in `folder` before those in `source`."""
        paths = {
            path.name: path
            for place in (self.source, self.folder)
            for path in place.iterdir()
            if path.name in TOKENIZERS or path.name.startswith(BESIDE)
        }
        return tuple(paths[name] for name in sorted(paths) if paths[name].is_file())

    @property
    def source(self) -> Path:
        """The folder whose configuration and tokenizer an export copies."""
        return self.folder

    @property
    def kind(self) -> str:
        """The architecture, for people."""
        named = self.config.get("architectures") or self.config.get("model_type") or "-"
        return "/".join(map(str, named)) if isinstance(named, list) else str(named)

    @property
    def files(self) -> tuple[Path, ...]:
        """What decides the values of its tensors."""
        return tuple(header.path for header in self.headers)

    @property
    def is_flat(self) -> bool:
        """Whether its one file holds theta as it is."""
        return len(self.headers) == 1 and self.headers[0].is_flat(self.layout)

    def row(self, cache: Path | None = None) -> "Tensor":
        """theta (P,), float32: the weight file itself, mapped, if its bytes are theta.

        Otherwise a flat copy, written once and kept in `cache`; without one it is a nameless file
        that goes when the row does.
        """
        if self.is_flat:
            header = self.headers[0]
            return _mapped(header.path, header.data, self.layout.size)
        if cache is None:
            with tempfile.TemporaryDirectory(prefix="dfwe-") as folder:
                return self._copied(Path(folder))  # unlinked, the map keeps its bytes
        cache.mkdir(parents=True, exist_ok=True)
        return self._copied(cache)

    def constants(self) -> dict[str, "Tensor"]:
        """The tensors that are not mixed: integer and boolean buffers."""
        names = [name for name in sorted(self.tensors) if name not in set(self.layout.names)]
        read = readers(self.headers) if names else {}
        return {name: read[name](name).clone() for name in names}

    def values(self) -> "Read":
        """A function from a mixed tensor's name to its values, float32."""
        read = readers(self.headers)
        return lambda name: read[name](name).float()

    def _copied(self, place: Path) -> "Tensor":
        stats = [(path.absolute(), path.stat()) for path in self.files]
        stamp = "".join(f"{path}:{stat.st_size}:{stat.st_mtime_ns}" for path, stat in stats)
        copy = place / f"{hashlib.sha256(stamp.encode()).hexdigest()[:20]}.f32"
        if not copy.is_file():
            value = self.values()
            with written_aside(copy) as temporary, temporary.open("wb") as out:
                for name in self.layout.names:
                    value(name).contiguous().flatten().numpy().tofile(out)
        return _mapped(copy, 0, self.layout.size)


def header_of(path: Path) -> Header:
    """The header of a weight file of either format."""
    return _pickled(path) if path.suffix == ".bin" else Header.read(path)


def readers(headers: Sequence[Header]) -> "dict[str, Read]":
    """name -> a function from the name to its tensor."""
    functions: dict[str, Read] = {}
    for header in headers:
        if header.path.suffix == ".bin":
            read = _unpickled(header.path).__getitem__
        else:
            read = _opened(header.path).get_tensor
        functions.update(dict.fromkeys(header.tensors, read))
    return functions


def shards(index: Path) -> list[str]:
    """The names of a model's files, sorted, by the index beside them.

    Raises:
        ValueError: the index is damaged.
    """
    return sorted(set(_Index.model_validate_json(index.read_bytes()).weight_map.values()))


def _weight_files(folder: Path) -> list[Path]:
    for name in (WEIGHTS, PICKLED):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                return [folder / shard for shard in shards(index)]
            except ValueError:
                raise UserError(f"{index} is damaged; get the checkpoint again.") from None
    raise UserError(
        f"{folder} holds no {WEIGHTS}; load the model and save it again with save_pretrained."
    )


def _pickled(path: Path) -> Header:
    """The header a `.bin` file would have; tied tensors stand once, under their first name."""
    import torch

    codes = {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
    }
    tensors: dict[str, TensorEntry] = {}
    places: set[tuple[int, int, torch.Size]] = set()
    for name, tensor in _unpickled(path).items():
        place = (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape)
        if tensor.numel() and place in places:
            continue
        places.add(place)
        code = codes.get(tensor.dtype, str(tensor.dtype).removeprefix("torch."))
        tensors[name] = TensorEntry(code, tuple(tensor.shape))
    return Header(path, tensors, 0)


def _opened(path: Path) -> _SafeTensors:
    from safetensors import safe_open

    return safe_open(path, framework="pt")


def _unpickled(path: Path) -> dict[str, "Tensor"]:
    """name -> tensor, mapped; a file from before torch 1.6 is no archive and is read whole."""
    import torch

    archive = zipfile.is_zipfile(path)
    return torch.load(path, map_location="cpu", mmap=archive, weights_only=True)


def _mapped(path: Path, start: int, size: int) -> "Tensor":
    """Float32 values of a file, mapped copy-on-write: reads share the page cache."""
    import numpy as np
    import torch

    return torch.as_tensor(np.memmap(path, np.float32, mode="c", offset=start, shape=(size,)))


def tokenizer_digest(path: Path) -> str:
    """sha256 of a tokenizer's file, hex.

    Without how the last text before saving was cut and padded, which tokenizer.json records.
    """
    content = path.read_bytes()
    if path.name == "tokenizer.json":
        try:
            settings = {**json.loads(content), "truncation": None, "padding": None}
            content = json.dumps(settings).encode()
        except (ValueError, TypeError):  # damaged: it is compared as it is
            pass
    return hashlib.sha256(content).hexdigest()


def tokenizer_size(path: Path) -> int:
    """One past the highest token id of a tokenizer.json.

    Raises:
        ValueError: the file is damaged.
    """
    try:
        tokenizer = _TokenizerFile.model_validate(json.loads(path.read_text()))
    except ValidationError as error:
        raise ValueError(f"it {schema_fault(error)}") from None
    vocabulary = tokenizer.model.vocab
    ids = vocabulary.values() if isinstance(vocabulary, dict) else range(len(vocabulary))
    return 1 + max([-1, *ids, *(token.id for token in tokenizer.added_tokens)])
