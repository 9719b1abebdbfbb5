"""LoRA adapters (Hu et al. 2022) as checkpoints: the base's theta plus the weight difference.

What is mixed is W + s B A, not A and B separately: a mixture of adapters is then exactly the
mixture of the merged models.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from dfwe.errors import UserError, reason, schema_fault
from dfwe.pipeline.files import read_json
from dfwe.weights.hub import local_folder
from dfwe.weights.layout import Header
from dfwe.weights.rows import Checkpoint, header_of, readers

if TYPE_CHECKING:
    from torch import Tensor

    from dfwe.weights.rows import Read

ADAPTER, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
SETTINGS = "adapter_config.json"
PREFIX = "base_model.model."
LORA = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.weight)?")
WRAPPED = re.compile(r"(modules_to_save|base_layer)\.")  # by peft, around a module
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change W too
VARIANTS = {"use_dora": "DoRA", "use_bdlora": "BD-LoRA", "kasa_config": "KaSA"}
UNMERGEABLE = {
    "alora_invocation_tokens": "aLoRA",
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow",
}  # peft merges none of them
WAYOUT = "merge it with peft's merge_and_unload() and save the model with save_pretrained"


class LoraSettings(BaseModel):
    """What is used of an `adapter_config.json` (peft's `LoraConfig`)."""

    model_config = ConfigDict(strict=True, frozen=True)

    peft_type: str
    base_model_name_or_path: str = Field(min_length=1)
    lora_alpha: float
    alpha_pattern: dict[str, float] | None = None
    use_rslora: bool | None = None
    fan_in_fan_out: bool | None = None
    revision: str | None = None


def read_checkpoint(name: str | Path, above: tuple[Path, ...] = ()) -> Checkpoint:
    """The checkpoint of a model, or of an adapter and its base.

    Args:
        name: a folder or a Hub id.
        above: adapters of which this is the base.

    Raises:
        UserError: it cannot be read; the sentence says why.
    """
    folder = local_folder(name)
    if not (folder / SETTINGS).is_file():
        return Checkpoint.read(folder)
    settings = _settings(folder)
    paths = (folder / name for name in (ADAPTER, PICKLED))
    path = next((path for path in paths if path.is_file()), folder / ADAPTER)
    try:
        header = header_of(path)
    except Exception as error:  # a damaged file makes a reader raise anything
        raise UserError(
            f"{path} cannot be read ({reason(error)}); get the adapter again."
        ) from None
    base = _base(folder, settings, (*above, folder.resolve()))
    adapter = Adapter(folder, base.headers, base, header, settings)
    adapter.changes  # noqa: B018  raises for what the base lacks
    return adapter


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

    @cached_property
    def config(self) -> dict[str, JsonValue]:
        return self.base.config

    @cached_property
    def tokenizer(self) -> str | None:
        return super().tokenizer or self.base.tokenizer

    @property
    def is_flat(self) -> bool:
        return False

    @property
    def files(self) -> tuple[Path, ...]:
        return (*self.base.files, self.adapter.path, self.folder / SETTINGS)

    @cached_property
    def changes(self) -> dict[str, list[str]]:
        """Name of a base tensor -> the adapter's tensors that change it."""
        changes: dict[str, list[str]] = {}
        for name in sorted(self.adapter.tensors):
            if ".original_module." in name:  # as it was before training (bias="all")
                continue
            plain = name.removeprefix(PREFIX)
            lora = LORA.fullmatch(plain)
            target = f"{lora.group(1)}.weight" if lora else WRAPPED.sub("", plain)
            changes.setdefault(self._in_base(target), []).append(name)
        return changes

    def values(self) -> "Read":
        """name -> W + s B A; or the adapter's tensor, where the whole of it was trained."""
        read, base = readers([self.adapter]), self.base.values()

        def value(name: str) -> "Tensor":
            parts: dict[str, Tensor] = {}
            for entry in self.changes.get(name, []):
                lora = LORA.fullmatch(entry.removeprefix(PREFIX))
                parts[lora.group(2) if lora else "whole"] = read[entry](entry).float()
            weight = parts.pop("whole") if "whole" in parts else base(name)
            return weight + self._difference(name, parts) if parts else weight

        return value

    def _difference(self, name: str, parts: "Mapping[str, Tensor]") -> "Tensor":
        """s B A in the weight's orientation; s = alpha / r, or alpha / sqrt(r) (rsLoRA)."""
        words = "embedding_" if "embedding_A" in parts else ""
        a, b = parts[f"{words}A"], parts[f"{words}B"]  # (r, in), (out, r)
        module = name.removesuffix(".weight")
        patterns = (self.settings.alpha_pattern or {}).items()
        alphas = (x for pattern, x in patterns if re.match(rf"(.*\.)?({pattern})$", module))
        alpha = next(alphas, self.settings.lora_alpha)  # the first that matches, as in peft
        rank = a.shape[0]
        scale = alpha / (sqrt(rank) if self.settings.use_rslora else rank)
        difference = b @ a * scale
        return difference.T if words or self.settings.fan_in_fan_out else difference

    def _in_base(self, target: str) -> str:
        """The base's name for it: the same, or the only one that ends in it or that it ends in."""
        names = self.base.tensors
        if target in names:
            return target
        near = [x for x in names if x.endswith(f".{target}") or target.endswith(f".{x}")]
        if len(near) != 1:
            raise UserError(
                f"The adapter {self.folder} changes '{target}', which its base "
                f"{self.base.folder} does not contain; {WAYOUT}."
            )
        return near[0]


def _base(folder: Path, settings: LoraSettings, above: tuple[Path, ...]) -> Checkpoint:
    """The base that an adapter names: a path from here or from its folder, or a Hub id."""
    name = settings.base_model_name_or_path
    places = (Path(name).expanduser(), folder / name)
    try:
        local = next((place for place in places if place.is_dir()), name)
        base = local_folder(local, settings.revision)
        if base.resolve() in above:
            raise UserError(
                f"{base} is an adapter with itself as its base; set base_model_name_or_path in "
                f"its {SETTINGS} to the model."
            )
        return read_checkpoint(base, above)
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
