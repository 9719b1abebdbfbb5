"""Fine-tuned models without their heads, as points of one weight space."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dfwe.errors import UserError
from dfwe.training.freezing import backbone_prefix
from dfwe.weights.layout import Layout
from dfwe.weights.loading import family_of, load, load_as, unloadable
from dfwe.weights.rows import Checkpoint
from dfwe.weights.space import WeightSpace, row_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BASE = "pretrained"  # the label of the model the others started from


def load_backbone(folder: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The float32 network without its classification head, and its tokenizer.

    A language model has no such head and is loaded whole.

    Raises:
        UserError: the folder has no model of a known family, or no usable tokenizer.
    """
    from transformers import AutoModel

    try:
        answers = family_of(folder) != "encoder"
    except UserError:  # a bare encoder
        answers = False
    return load(folder) if answers else load_as(AutoModel, folder)


def empty_backbone(folder: Path | None) -> "PreTrainedModel":
    """A backbone on the meta device, without values.

    Args:
        folder: a checkpoint; None stands for a model that stage=pretrain creates, a T5.

    Raises:
        UserError: the folder has no model.
    """
    from transformers import AutoConfig, AutoModel, T5Config

    config = T5Config()
    if folder is not None:
        try:
            config = AutoConfig.from_pretrained(folder)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        except (OSError, ValueError) as error:
            raise unloadable(folder, error) from None
    with torch.device("meta"):
        return AutoModel.from_config(config)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def backbone_space(
    base: Path,
    folders: Sequence[Path],
    labels: Sequence[str],
    cache: Path | None = None,
    ready: "Callable[[PreTrainedModel], PreTrainedModel]" = lambda network: network,
) -> tuple[WeightSpace, "PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The weight space of backbones, the pretrained network and its tokenizer.

    The space has n + 1 rows (P,): those of `folders`, memory-mapped where possible, and the
    pretrained one last. `space.write(alpha, network)` turns the network into any point of it.

    Args:
        base: the checkpoint that the others started from.
        folders: n checkpoints.
        labels: their n names.
        cache: where flat copies of checkpoints are kept that cannot be mapped.
        ready: what trainings change in the pretrained network first, as `ModelFamily.ready`.

    Raises:
        UserError: a checkpoint has another architecture than `base`, or cannot be read.
    """
    network, tokenizer = load_backbone(base)
    network = ready(network)
    pooled = getattr(network, "pooler", None) is not None
    if pooled and not all(map(_has_pooler, folders)):  # a RoBERTa's head takes its place
        network.register_module("pooler", None)
    layout = Layout.of(network)
    prefix = backbone_prefix(network)
    rows = [backbone_row(folder, layout, prefix, cache) for folder in folders]
    space = WeightSpace([*rows, row_of(network, layout)], layout, [*labels, BASE])
    return space, network, tokenizer


def _has_pooler(folder: Path) -> bool:
    names = Checkpoint.read(Path(folder).expanduser()).layout.names
    return any("pooler" in name.split(".") for name in names)


def backbone_row(folder: Path, layout: Layout, prefix: str, cache: Path | None = None) -> Tensor:
    """A checkpoint's theta (P,), restricted to the backbone of `layout`.

    It is memory-mapped where the backbone's parameters lie side by side in the file, and copied
    otherwise. Names are compared without the prefix, which a checkpoint with a head puts before
    those of its backbone and a bare backbone does not.

    Args:
        prefix: what precedes the names of a backbone's parameters, such as `bert.`.
        cache: where a flat copy is kept of a checkpoint that cannot be mapped.

    Raises:
        UserError: a parameter is missing, or has another shape; or the checkpoint is damaged.
    """
    checkpoint = Checkpoint.read(Path(folder).expanduser())
    whole = checkpoint.row(cache)
    places = {
        name.removeprefix(prefix): (start, stop, shape)
        for name, start, stop, shape in checkpoint.layout.spans()
    }
    spans: list[tuple[int, int]] = []
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        start, stop, actual = places.get(name.removeprefix(prefix), (0, 0, None))
        if actual != shape:
            fault = "missing" if actual is None else f"of shape {actual}"
            raise UserError(
                f"'{name}' is {fault} in {folder}, the pretrained model's has shape {shape}; "
                "compare models of one architecture."
            )
        spans.append((start, stop))
    if all(stop == start for (_, stop), (start, _) in pairwise(spans)):
        return whole[spans[0][0] : spans[-1][1]]
    return torch.cat([whole[start:stop] for start, stop in spans])
