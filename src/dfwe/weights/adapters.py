"""LoRA adapters (Hu et al. 2022) as checkpoints: the base's theta plus the weight difference.

What is mixed is W + s B A, not A and B on their own: a mixture of adapters is then exactly the
mixture of the merged models.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfwe.errors import UserError, reason
from dfwe.weights.hub import local_folder
from dfwe.weights.layout import Header
from dfwe.weights.rows import Checkpoint, header_of, readers

if TYPE_CHECKING:
    from torch import Tensor

ADAPTER, PICKLED = "adapter_model.safetensors", "adapter_model.bin"
SETTINGS = "adapter_config.json"
PREFIX = "base_model.model."
LORA = re.compile(r"(.+)\.lora_(A|B|embedding_A|embedding_B)(?:\.weight)?")
WRAPPED = re.compile(r"(modules_to_save|base_layer)\.")  # peft's, around a module's own tensors
CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")  # initialisations that change W too
VARIANTS = {"use_dora": "DoRA", "use_bdlora": "BD-LoRA", "kasa_config": "KaSA"}
UNMERGEABLE = {
    "alora_invocation_tokens": "aLoRA",
    "use_qalora": "QALoRA",
    "arrow_config": "Arrow",
}  # peft merges none of them
WAYOUT = "merge it with peft's merge_and_unload() and save the model with save_pretrained"


def read_checkpoint(name: str | Path, above: tuple[Path, ...] = ()) -> Checkpoint:
    """A folder or Hub id that holds a model, or an adapter whose base is then read too.

    Args:
        above: adapters of which this is the base.

    Raises:
        UserError: it cannot be read; the sentence says why.
    """
    folder = local_folder(name)
    if not (folder / SETTINGS).is_file():
        return Checkpoint.read(folder)
    settings = _settings(folder)
    found = (folder / name for name in (ADAPTER, PICKLED))
    path = next((path for path in found if path.is_file()), folder / ADAPTER)
    try:
        header = header_of(path)
    except Exception as error:  # whatever a damaged file makes a reader say
        raise UserError(
            f"{path} cannot be read ({reason(error)}); get the adapter again."
        ) from None
    base = _base(folder, settings, (*above, folder.resolve()))
    adapter = Adapter(folder, base.headers, base, header, settings)
    adapter.changes  # noqa: B018  its faults are told now
    return adapter


@dataclass(frozen=True)
class Adapter(Checkpoint):
    """An adapter and its base; `headers` are the base's, whose tensors it changes."""

    base: Checkpoint
    adapter: Header
    settings: Mapping[str, Any] = field(hash=False)

    @property
    def source(self) -> Path:
        return self.base.source

    @property
    def kind(self) -> str:
        return f"{self.base.kind} + LoRA"

    @cached_property
    def config(self) -> dict[str, Any]:
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
        found: dict[str, list[str]] = {}
        for name in sorted(self.adapter.tensors):
            if ".original_module." in name:  # as it was before training (bias="all")
                continue
            plain = name.removeprefix(PREFIX)
            lora = LORA.fullmatch(plain)
            target = f"{lora.group(1)}.weight" if lora else WRAPPED.sub("", plain)
            found.setdefault(self._in_base(target), []).append(name)
        return found

    def values(self) -> "Callable[[str], Tensor]":
        """name -> W + s B A; or the adapter's own tensor, where it was trained as a whole."""
        held, base = readers([self.adapter]), self.base.values()

        def value(name: str) -> "Tensor":
            parts = {}
            for entry in self.changes.get(name, []):
                lora = LORA.fullmatch(entry.removeprefix(PREFIX))
                parts[lora.group(2) if lora else "whole"] = held[entry](entry).float()
            weight = parts.pop("whole") if "whole" in parts else base(name)
            return weight + self._difference(name, parts) if parts else weight

        return value

    def _difference(self, name: str, parts: "Mapping[str, Tensor]") -> "Tensor":
        """s B A in the weight's own orientation; s = alpha / r, or alpha / sqrt(r) (rsLoRA)."""
        words = "embedding_" if "embedding_A" in parts else ""
        a, b = parts[f"{words}A"], parts[f"{words}B"]  # (r, in), (out, r)
        module = name.removesuffix(".weight")
        patterns = (self.settings.get("alpha_pattern") or {}).items()
        own = (x for pattern, x in patterns if re.match(rf"(.*\.)?({pattern})$", module))
        alpha = next(own, self.settings["lora_alpha"])  # the first that matches, as in peft
        rank = a.shape[0]
        scale = alpha / (sqrt(rank) if self.settings.get("use_rslora") else rank)
        difference = b @ a * scale
        return difference.T if words or self.settings.get("fan_in_fan_out") else difference

    def _in_base(self, target: str) -> str:
        """The base's name for it: the same, or the only one that ends in it or that it ends in."""
        names = self.base.tensors
        if target in names:
            return target
        near = [x for x in names if x.endswith(f".{target}") or target.endswith(f".{x}")]
        if len(near) != 1:
            raise UserError(
                f"The adapter {self.folder} changes '{target}', which its base "
                f"{self.base.folder} does not hold; {WAYOUT}."
            )
        return near[0]


def _base(folder: Path, settings: Mapping[str, Any], above: tuple[Path, ...]) -> Checkpoint:
    """The base that an adapter names: a path from here or from its folder, or a Hub id."""
    named = settings["base_model_name_or_path"]
    places = (Path(named).expanduser(), folder / named)
    found = next((str(place) for place in places if place.is_dir()), named)
    try:
        base = local_folder(found, settings.get("revision"))
        if base.resolve() in above:
            raise UserError(
                f"{base} is an adapter with itself as its base; set base_model_name_or_path in "
                f"its {SETTINGS} to the model."
            )
        return read_checkpoint(base, above)
    except UserError as error:
        raise UserError(f"The base of the adapter {folder} cannot be read: {error}") from None


def _settings(folder: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((folder / SETTINGS).read_text())
        kind, base, alpha = (
            found[key] for key in ("peft_type", "base_model_name_or_path", "lora_alpha")
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{folder / SETTINGS} is not a LoRA adapter's ({error}); {WAYOUT}."
        ) from None
    start = str(found.get("init_lora_weights")).lower()
    plain = start if start.startswith(CHANGES_BASE) else kind
    what = next((name for key, name in (VARIANTS | UNMERGEABLE).items() if found.get(key)), plain)
    if what in UNMERGEABLE.values():
        raise UserError(
            f"The adapter {folder} is of the kind {what}, which cannot be merged into its base's "
            "weights; leave it out, or train plain LoRA instead."
        )
    if what != "LORA" or not base or not isinstance(alpha, int | float):
        raise UserError(
            f"The adapter {folder} is of the kind {what}, of which only plain LoRA is "
            f"read here; {WAYOUT}."
        )
    return found
