"""LoRA adapters (Hu et al. 2022) as checkpoints: the base's theta plus the weight difference.

What is mixed is W + s B A, not A and B separately: a mixture of adapters is then exactly the
mixture of the merged models.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import regex
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dfwe.errors import UserError, reason, schema_fault
from dfwe.pipeline.files import read_json
from dfwe.weights.checkpoint import (
    CONFIG,
    Checkpoint,
    beside,
    has_vocabulary,
    has_weights,
    header_of,
    is_tokenizers,
    readers,
)
from dfwe.weights.hub import local_folder
from dfwe.weights.judgement import head_names
from dfwe.weights.layout import Header

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from dfwe.weights.checkpoint import Read

Kind = Literal["seq2seq", "causal", "encoder", "backbone"]  # of a network
ADAPTER, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
SETTINGS = "adapter_config.json"
PREFIX = "base_model.model."
LORA = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.weight)?")
WRAPPED = re.compile(r"(modules_to_save|base_layer)\.")  # by peft, around a module
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change W too
VARIANTS = {
    "use_dora": "DoRA",
    "use_bdlora": "BD-LoRA",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
}
UNMERGEABLE = {
    "alora_invocation_tokens": "aLoRA",
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow",
    "layer_replication": "layer replication",
}  # peft merges none of them into its base
NETWORKS: dict[str | None, Kind] = {  # by the task that an adapter was made for
    "SEQ_2_SEQ_LM": "seq2seq",
    "CAUSAL_LM": "causal",
    "SEQ_CLS": "encoder",
    "FEATURE_EXTRACTION": "backbone",
}
SECONDS = 1.0  # that a pattern from a file may take on a module's name
WAYOUT = "merge it with peft's merge_and_unload() and save the model with save_pretrained"


class LoraSettings(BaseModel):
    """What is used of an `adapter_config.json` (peft's `LoraConfig`)."""

    model_config = ConfigDict(strict=True, frozen=True)

    peft_type: str
    base_model_name_or_path: str = Field(min_length=1)
    lora_alpha: float
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None
    ensure_weight_tying: bool | None = None
    task_type: str | None = None
    revision: str | None = None


def read_checkpoint(name: str | Path) -> Checkpoint:
    """The checkpoint of a model, or of an adapter and its base.

    Args:
        name: what a person names it by (`hub.local_folder`).

    Raises:
        UserError: it cannot be read; the sentence says why.
    """
    folder = local_folder(name)
    if not (folder / SETTINGS).is_file():
        return Checkpoint.read(folder)
    settings = _settings(folder)
    paths = (folder / name for name in (ADAPTER, PICKLED))
    path = next((path for path in paths if path.is_file()), folder / ADAPTER)
    header = header_of(path)
    if (folder / CONFIG).is_file() and has_weights(folder):  # as transformers reads such a folder
        base = Checkpoint.read(folder)
    else:
        base = _base(folder, settings)
    return Adapter(folder, base.headers, base, header, settings)


@dataclass(frozen=True)
class Adapter(Checkpoint):
    """An adapter and its base; `headers` are the base's, whose tensors it changes."""

    base: Checkpoint
    adapter: Header
    settings: LoraSettings

    @property
    def source(self) -> Path:
        return self.base.source

    @property
    def kind(self) -> str:
        return f"{self.base.kind} + LoRA"

    @property
    def network(self) -> Kind | None:
        """Which network of the base's architecture it was made for; None: the base's own."""
        return NETWORKS.get(self.settings.task_type)

    @property
    def files(self) -> dict[str, Path]:
        settings = self.folder / SETTINGS
        return {**self.base.files, self.adapter.path.name: self.adapter.path, SETTINGS: settings}

    @cached_property
    def beside(self) -> dict[str, Path]:
        """The base's, with the adapter's tokenizer where it has one."""
        if self.folder == self.source or not has_vocabulary(self.folder):
            return self.base.beside
        kept = {name: path for name, path in self.base.beside.items() if not is_tokenizers(name)}
        own = {name: path for name, path in beside(self.folder).items() if is_tokenizers(name)}
        return dict(sorted((kept | own).items()))

    @property
    def tokenizer_folder(self) -> Path | None:
        return self.folder if has_vocabulary(self.folder) else self.base.tokenizer_folder

    def parts(self, names: Sequence[str]) -> "dict[str, dict[str, str]]":
        """Parameter -> what the adapter gives for it (A, B, ... or `whole`) -> its tensor there.

        Args:
            names: the network's parameters.

        Raises:
            UserError: the network lacks one that the adapter changes, or one is changed twice.
        """
        parts: dict[str, dict[str, str]] = {}
        for entry in sorted(self.adapter.tensors):
            if ".original_module." in entry:  # as it was before training (bias="all")
                continue
            plain = entry.removeprefix(PREFIX)
            lora = LORA.fullmatch(plain)
            target = f"{lora.group(1)}.weight" if lora else WRAPPED.sub("", plain)
            changes = parts.setdefault(self._parameter(target, names), {})
            part = lora.group(2) if lora else "whole"
            if lora and part in changes:
                raise UserError(f"The adapter {self.folder} changes '{target}' twice; {WAYOUT}.")
            changes[part] = entry
        return parts

    def labels(self, shapes: Mapping[str, tuple[int, ...]], labels: int) -> int:
        """The number of labels of the head that it gives whole; `labels` if it gives none.

        Args:
            shapes: the network's, with a head for that many `labels`.
        """
        for entry, found in self.adapter.tensors.items():
            wanted = shapes.get(WRAPPED.sub("", entry.removeprefix(PREFIX)))
            if wanted and found.shape[1:] == wanted[1:] and wanted[0] == labels:
                return found.shape[0]
        return labels

    def scale(self, module: str, rank: int) -> float:
        """s of a module: alpha / r, or alpha / sqrt(r) (rsLoRA).

        Raises:
            UserError: a pattern of the adapter's is no pattern, or takes too long.
        """
        alpha = self.settings.lora_alpha
        for pattern, value in (self.settings.alpha_pattern or {}).items():
            try:
                found = regex.match(rf"(.*\.)?({pattern})$", module, timeout=SECONDS)
            except (regex.error, TimeoutError) as error:
                raise UserError(
                    f"The pattern '{pattern}' in the alpha_pattern of {self.folder / SETTINGS} "
                    f"cannot be used ({reason(error)}); write names of modules there, or {WAYOUT}."
                ) from None
            if found:  # the first that matches, as in peft
                alpha = value
                break
        return alpha / (sqrt(rank) if self.settings.use_rslora else rank)

    def _parameter(self, target: str, names: Sequence[str]) -> str:
        """The network's name for it: the same, or the only one of which one ends in the other."""
        if target in names:
            return target
        near = [x for x in names if x.endswith(f".{target}") or target.endswith(f".{x}")]
        if len(near) != 1:
            raise UserError(
                f"The adapter {self.folder} changes '{target}', which its base "
                f"{self.base.folder} does not contain; {WAYOUT}."
            )
        return near[0]


@dataclass(frozen=True)
class Difference:
    """s B A in a weight's orientation, read when it is called.

    Args:
        read: the adapter's tensors.
        a: the name of A (r, in).
        b: the name of B (out, r).
        scale: s.
        turned: whether the weight is (in, out).
    """

    read: "Mapping[str, Read]"
    a: str
    b: str
    scale: float
    turned: bool

    def __call__(self) -> "Tensor":
        a, b = (self.read[name](name).float() for name in (self.a, self.b))
        difference = b @ a * self.scale
        return difference.T if self.turned else difference


@dataclass(frozen=True)
class Merge:
    """What an adapter changes in its base's values, by the network's name of each parameter.

    Args:
        whole: tensors that replace the base's.
        differences: what is added.
    """

    whole: "Mapping[str, Tensor]"
    differences: Mapping[str, Difference]

    def __call__(self, name: str, weight: "Tensor") -> "Tensor":
        """The merged values of a parameter, float32: W + s B A."""
        weight = self.whole.get(name, weight).float()
        difference = self.differences.get(name)
        return weight if difference is None else weight + difference()


def merge(
    adapter: Adapter, network: "PreTrainedModel", parts: Mapping[str, Mapping[str, str]]
) -> Merge:
    """How to merge an adapter into its base.

    Args:
        adapter: the adapter.
        network: its base's, whose parameters get the merged model's shapes and ties in place.
        parts: `adapter.parts` of the network's parameters.

    Raises:
        UserError: the adapter does not fit the base, or changes tied weights in a way that no
            merged model can answer as the adapter did.
    """
    named = dict(network.named_parameters(remove_duplicate=False))
    read = readers([adapter.adapter])
    whole = {x: read[y["whole"]](y["whole"]) for x, y in parts.items() if "whole" in y}
    head = head_names(network)
    for target, part in parts.items():
        group = [name for name in named if named[name] is named[target]]
        tied = len({name in head for name in group}) > 1
        if tied and (set(part) != {"whole"} or adapter.settings.ensure_weight_tying):
            raise UserError(
                f"The adapter {adapter.folder} changes '{target}', which the base ties to another "
                "tensor: peft's merge changes both, and then answers differently from the "
                "adapter; untie the base (tie_word_embeddings) before training, or, if that is "
                f"meant, {WAYOUT}."
            )
    for target, value in whole.items():
        group = [name for name in named if named[name] is named[target]]
        names = [name for name in group if (name in head) == (target in head)]
        others = [whole[name] for name in group if name in whole]
        if len(others) > 1 and all(other.equal(value) for other in others):
            names = group
        if len(names) < len(group) or value.shape != named[target].shape:
            replace(network, names, value)
            named = dict(network.named_parameters(remove_duplicate=False))
    first = {id(parameter): name for name, parameter in network.named_parameters()}
    differences: dict[str, Difference] = {}
    for target, part in parts.items():
        if set(part) == {"whole"}:
            continue
        name = first[id(named[target])]
        if name in differences:
            raise UserError(f"The adapter {adapter.folder} changes '{name}' twice; {WAYOUT}.")
        differences[name] = _difference(adapter, network, target, part, read)
    return Merge({first[id(named[x])]: value for x, value in whole.items()}, differences)


def _difference(
    adapter: Adapter,
    network: "PreTrainedModel",
    target: str,
    part: Mapping[str, str],
    read: "Mapping[str, Read]",
) -> Difference:
    from transformers.pytorch_utils import Conv1D

    words = "embedding_" if "embedding_A" in part else ""
    module, shape = target.removesuffix(".weight"), tuple(network.get_parameter(target).shape)
    entries = [part.get(f"{words}{side}") for side in "AB"]
    shapes = [adapter.adapter.tensors[entry].shape if entry else () for entry in entries]
    turned = bool(words) or isinstance(network.get_submodule(module), Conv1D)
    sizes = shape if turned else shape[::-1]  # of what goes in and what comes out
    rank, (a, b) = shapes[0][0] if shapes[0] else 0, entries
    fits = len(sizes) == 2 and shapes == [(rank, sizes[0]), (sizes[1], rank)]
    if a is None or b is None or not fits:
        raise UserError(
            f"The adapter {adapter.folder} has factors of the shapes "
            f"{' and '.join(str(list(x)) for x in shapes)} for '{target}' of the shape "
            f"{list(shape)} in its base {adapter.base.folder}; name the base as it was in "
            "training (with its embeddings resized, say), saved with save_pretrained."
        )
    return Difference(read, a, b, adapter.scale(module, rank), turned)


def replace(network: "PreTrainedModel", names: Sequence[str], value: "Tensor") -> None:
    """Give the parameters of these names one tensor of their own."""
    from torch.nn import Parameter

    parameter = Parameter(value.to(network.dtype))
    for name in names:
        module, _, key = name.rpartition(".")
        setattr(network.get_submodule(module), key, parameter)
        cast(Any, network).all_tied_weights_keys.pop(name, None)


def _base(folder: Path, settings: LoraSettings) -> Checkpoint:
    """The base that an adapter names: a path from here or from its folder, or a Hub id."""
    name = settings.base_model_name_or_path
    places = (Path(name).expanduser(), folder / name)
    try:
        local = next((place for place in places if place.is_dir()), name)
        base = local_folder(local, settings.revision)
        if (base / SETTINGS).is_file():
            itself = base.resolve() == folder.resolve()
            raise UserError(
                f"{base} is an adapter with itself as its base; set base_model_name_or_path in "
                f"its {SETTINGS} to the model."
                if itself
                else f"{base} is an adapter too; {WAYOUT}."
            )
        return Checkpoint.read(base)
    except UserError as error:
        raise UserError(f"The base of the adapter {folder} cannot be read: {error}") from None


def _settings(folder: Path) -> LoraSettings:
    """The settings of a plain LoRA adapter.

    Raises:
        UserError: it is of another kind, or its settings cannot be read.
    """
    path = folder / SETTINGS
    try:
        content = read_json(path)
        settings = LoraSettings.model_validate(content)
    except ValidationError as error:
        raise UserError(
            f"{path} is not a LoRA adapter's: it {schema_fault(error)}; {WAYOUT}."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); {WAYOUT}.") from None
    start = str(content.get("init_lora_weights")).lower()
    plain = start if start.startswith(CHANGES_BASE) else settings.peft_type
    variants = (name for key, name in (VARIANTS | UNMERGEABLE).items() if content.get(key))
    kind = next(variants, plain)
    if kind in UNMERGEABLE.values():
        raise UserError(
            f"The adapter {folder} is of the kind {kind}, which cannot be merged into its base's "
            "weights; leave it out, or train plain LoRA instead."
        )
    if kind != "LORA":
        raise UserError(
            f"The adapter {folder} is of the kind {kind}, of which only plain LoRA is "
            f"read here; {WAYOUT}."
        )
    return settings
