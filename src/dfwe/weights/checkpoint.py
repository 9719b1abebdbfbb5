"""A checkpoint's folder by its files: the weights, and what lies beside them."""

import pickle
import warnings
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from pydantic import BaseModel, JsonValue, TypeAdapter

from dfwe.errors import UserError, reason
from dfwe.pipeline.files import read_json
from dfwe.weights.layout import Header, Layout, TensorEntry

if TYPE_CHECKING:
    from torch import Tensor

    Read = Callable[[str], Tensor]  # from a tensor's name to the tensor


WEIGHTS, PICKLED = "model.safetensors", "pytorch_model.bin"
CONFIG, GENERATION = "config.json", "generation_config.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
MODULES = "modules.json"
FLOATS = ("F64", "F32", "F16", "BF16")  # what is mixed; safetensors' names
WHOLE = ("I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL")
SUFFIXES = (".json", ".jinja", ".txt", ".model", ".spm", ".tiktoken", ".codes")
RECORDS = (  # beside a model, but not part of it
    "*.index.json",
    "*_results.json",
    "adapter_config.json",
    "manifest.json",
    "provenance.json",
    "recipe.json",
    "record.json",
    "results.json",
    "requirements*.txt",
    "scores.json",
    "trainer_state.json",
)
VOCABULARIES = ("tokenizer*", "vocab*", "*.model", "*.spm", "*.tiktoken", "*.codes")
TOKENIZER = (
    *VOCABULARIES,
    "*.jinja",
    "added_tokens*",
    "chat_template*",
    "dict*.txt",
    "merges*",
    "normalizer.json",
    "special_tokens*",
)
TEMPLATES = "additional_chat_templates"
SAVE_AGAIN = "load the model where it was made and save it with save_pretrained"


class _Index(BaseModel):
    """What is read of the index of a model in several files."""

    weight_map: dict[str, str]


class _Module(BaseModel):
    """What is read of an entry of a sentence encoder's `modules.json`."""

    path: str = ""


_MODULES = TypeAdapter(list[_Module])


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
        return cls(folder, tuple(header_of(path) for path in _weight_files(folder)))

    @cached_property
    def tensors(self) -> dict[str, TensorEntry]:
        """name -> entry, of all files."""
        return {name: entry for header in self.headers for name, entry in header.tensors.items()}

    @cached_property
    def layout(self) -> Layout:
        """Of the floating-point tensors as the files name them, saved buffers included."""
        names = sorted(name for name, entry in self.tensors.items() if entry.dtype in FLOATS)
        return Layout(tuple(names), tuple(self.tensors[name].shape for name in names))

    @property
    def parameters(self) -> int:
        """How many numbers the model has."""
        return self.layout.size

    @cached_property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(sorted({entry.dtype for entry in self.tensors.values()}))

    @cached_property
    def config(self) -> dict[str, JsonValue]:
        """config.json; empty where there is none, or a damaged one."""
        try:
            return read_json(self.source / CONFIG)
        except (OSError, ValueError):
            return {}

    @property
    def source(self) -> Path:
        """The folder of the configuration and, where no other has one, the tokenizer."""
        return self.folder

    @property
    def kind(self) -> str:
        """The architecture, for people."""
        named = self.config.get("architectures") or self.config.get("model_type") or "-"
        return "/".join(map(str, named)) if isinstance(named, list) else str(named)

    @property
    def files(self) -> dict[str, Path]:
        """Name -> what decides the values of its tensors."""
        return {header.path.name: header.path for header in self.headers}

    @cached_property
    def beside(self) -> dict[str, Path]:
        """Name in the folder -> file, of all that is part of the model beside its weights.

        Configurations, the tokenizer and, of a sentence encoder, every folder that
        `modules.json` names.
        """
        return beside(self.folder)

    @property
    def tokenizer_folder(self) -> Path | None:
        """The folder with the tokenizer's files; None where there are none.

        Its settings without its words are none, unless it is of a class that needs no file.
        """
        whole = has_vocabulary(self.folder) or _has_no_words(self._tokenizer_class)
        return self.folder if whole else None

    @property
    def _tokenizer_class(self) -> str:
        try:
            settings = read_json(self.folder / TOKENIZER_CONFIG)
        except (OSError, ValueError):
            settings = {}
        return str(settings.get("tokenizer_class") or self.config.get("tokenizer_class"))

    @property
    def tokenizer_files(self) -> dict[str, Path]:
        """The part of `beside` that is the tokenizer's."""
        return {name: path for name, path in self.beside.items() if is_tokenizers(name)}

    def state(self) -> "dict[str, Tensor]":
        """Name -> tensor of all files, mapped where the format allows."""
        return {name: read(name) for name, read in readers(self.headers).items()}


def beside(folder: Path) -> dict[str, Path]:
    """Name in the folder -> file, of what is part of a model beside its weights, sorted."""
    files = [
        path
        for path in folder.iterdir()
        if path.suffix in SUFFIXES and not _is_any(path.name, RECORDS)
    ]
    for name in (*_module_folders(folder), TEMPLATES):
        files += (folder / name).rglob("*")
    names = ((path.relative_to(folder).as_posix(), path) for path in files if path.is_file())
    return dict(sorted(names))


def has_vocabulary(folder: Path) -> bool:
    """Whether a folder has a file that may be a tokenizer's vocabulary."""
    names = (path.name for path in folder.iterdir() if path.name != TOKENIZER_CONFIG)
    return any(_is_any(name, VOCABULARIES) for name in names)


def has_weights(folder: Path) -> bool:
    """Whether a folder has a model's weights in one of the formats that are read."""
    names = (*(WEIGHTS, PICKLED), *(f"{name}.index.json" for name in (WEIGHTS, PICKLED)))
    return any((folder / name).is_file() for name in names)


def is_tokenizers(name: str) -> bool:
    """Whether a file beside a model is its tokenizer's, by its name."""
    return _is_any(name, TOKENIZER)


def header_of(path: Path) -> Header:
    """The header of a weight file of either format.

    Raises:
        UserError: the file is missing, damaged, or a pickle of something else than tensors.
    """
    try:
        return _pickled(path) if path.suffix == ".bin" else Header.read(path)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if "nsupported" in str(error):  # of a class that only its own code can make
            raise _no_state_dict(path) from None
        raise _damaged(path, "it is not a whole file of torch.save") from None
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror or reason(error)}); get the checkpoint again."
        ) from None
    except Exception as error:  # a damaged file makes a reader raise anything
        raise _damaged(path, reason(error)) from None


def readers(headers: Sequence[Header]) -> "dict[str, Read]":
    """name -> a function from the name to its tensor.

    Raises:
        UserError: a file is damaged.
    """
    functions: dict[str, Read] = {}
    for header in headers:
        try:
            if header.path.suffix == ".bin":
                read = _unpickled(header.path).__getitem__
            else:
                read = _opened(header.path).get_tensor
        except Exception as error:  # a damaged file makes a reader raise anything
            raise _damaged(header.path, reason(error)) from None
        functions.update(dict.fromkeys(header.tensors, read))
    return functions


def shards(index: Path) -> list[str]:
    """The names of a model's files, sorted, by the index beside them.

    Raises:
        ValueError: the index is damaged, or names files outside its folder.
    """
    names = sorted(set(_Index.model_validate_json(index.read_bytes()).weight_map.values()))
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in names):
        raise ValueError("it names files outside its folder")
    return names


def _weight_files(folder: Path) -> list[Path]:
    for name in (WEIGHTS, PICKLED):
        if (folder / name).is_file():
            return [folder / name]
        index = folder / f"{name}.index.json"
        if index.is_file():
            try:
                return [folder / shard for shard in shards(index)]
            except (OSError, ValueError):
                raise UserError(f"{index} is damaged; get the checkpoint again.") from None
    raise UserError(f"{folder} holds no {WEIGHTS}; {SAVE_AGAIN}.")


def _pickled(path: Path) -> Header:
    """The header a `.bin` file would have; tied tensors stand once, under their first name."""
    import torch

    codes = {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.int16: "I16",
        torch.int8: "I8",
        torch.uint8: "U8",
    }
    tensors: dict[str, TensorEntry] = {}
    places: set[tuple[int, int, torch.Size]] = set()
    for name, tensor in _unpickled(path).items():
        place = (tensor.untyped_storage().data_ptr(), int(tensor.storage_offset()), tensor.shape)
        if tensor.numel() and place in places:
            continue
        places.add(place)
        code = codes.get(tensor.dtype, str(tensor.dtype).removeprefix("torch.").upper())
        tensors[name] = TensorEntry(code, tuple(tensor.shape))
    return Header(path, tensors, 0)


def _opened(path: Path) -> _SafeTensors:
    from safetensors import safe_open

    return safe_open(path, framework="pt")


def _unpickled(path: Path) -> dict[str, "Tensor"]:
    """name -> tensor, mapped; a file from before torch 1.6 is no archive and is read whole.

    Raises:
        UserError: it contains something else than tensors by name.
    """
    import torch

    archive = zipfile.is_zipfile(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is refused below
        content: object = torch.load(path, map_location="cpu", mmap=archive, weights_only=True)
    if not isinstance(content, dict):
        raise _no_state_dict(path)
    tensors: dict[str, Tensor] = {}
    for name, value in content.items():  # pyright: ignore[reportUnknownVariableType]
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise _no_state_dict(path)
        tensors[name] = value
    return tensors


def _no_state_dict(path: Path) -> UserError:
    return UserError(
        f"{path} is not a state dict, tensors by name, but a pickled model or a training "
        f"checkpoint, which is not opened because that could run code; {SAVE_AGAIN}."
    )


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"The weights in {path} are damaged ({why}); get them again.")


def _module_folders(folder: Path) -> set[str]:
    """The folders that the `modules.json` of a sentence encoder names, inside its own."""
    try:
        modules = _MODULES.validate_json((folder / MODULES).read_bytes())
    except (OSError, ValueError):
        modules = []
    names = {"1_Pooling", *(module.path for module in modules)} - {""}
    inside = folder.resolve()
    return {name for name in names if inside in (folder / name).resolve().parents}


def _has_no_words(name: str) -> bool:
    """Whether a class of transformers is a tokenizer without a vocabulary file, as ByT5's is."""
    import transformers

    named = getattr(transformers, name, None)
    base = transformers.PreTrainedTokenizerBase
    return isinstance(named, type) and issubclass(named, base) and not named.vocab_files_names


def _is_any(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)
