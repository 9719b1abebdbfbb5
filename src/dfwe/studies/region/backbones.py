"""Fine-tuned models without their heads, as points of one weight space."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dfwe.errors import UserError
from dfwe.training.freezing import backbone_prefix
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.layout import Layout
from dfwe.weights.loading import config_of, family_of, load, load_as
from dfwe.weights.rows import Row, stored_row
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
    checkpoint = read_checkpoint(folder)
    try:
        answers = family_of(checkpoint) != "encoder"
    except UserError:  # a bare encoder
        answers = False
    return load(folder) if answers else load_as("backbone", checkpoint, other_head=True)


def empty_backbone(folder: Path | None) -> "PreTrainedModel":
    """A backbone on the meta device, without values.

    Args:
        folder: a checkpoint; None stands for a model that stage=pretrain creates, a T5.

    Raises:
        UserError: the folder has no model.
    """
    from transformers import AutoModel, T5Config

    config = T5Config() if folder is None else config_of(read_checkpoint(folder))
    with torch.device("meta"):
        return AutoModel.from_config(config)  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]


def backbone_space(
    base: Path,
    folders: Sequence[Path],
    labels: Sequence[str],
    read: Callable[[Path], Row] = stored_row,
    ready: "Callable[[PreTrainedModel], PreTrainedModel]" = lambda network: network,
) -> tuple[WeightSpace, "PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The weight space of backbones, the pretrained network and its tokenizer.

    The space has n + 1 rows (P,): those of `folders`, memory-mapped where possible, and the
    pretrained one last. `space.write(alpha, network)` turns the network into any point of it.

    Args:
        base: the checkpoint that the others started from.
        folders: n checkpoints.
        labels: their n names.
        read: a checkpoint's row; by default that of a result of dfwe's own steps.
        ready: what trainings change in the pretrained network first, as `ModelFamily.ready`.

    Raises:
        UserError: a checkpoint has another architecture than `base`, or cannot be read.
    """
    network, tokenizer = load_backbone(base)
    network = ready(network)
    wholes = [read(folder) for folder in folders]
    pooled = getattr(network, "pooler", None) is not None
    if pooled and not all(map(_has_pooler, wholes)):  # a RoBERTa's head takes its place
        network.register_module("pooler", None)
    layout = Layout.of(network)
    prefix = backbone_prefix(network)
    rows = [
        backbone_row(whole, folder, layout, prefix)
        for whole, folder in zip(wholes, folders, strict=True)
    ]
    space = WeightSpace([*rows, row_of(network, layout)], layout, [*labels, BASE])
    return space, network, tokenizer


def _has_pooler(row: Row) -> bool:
    return any("pooler" in name.split(".") for name in row.layout.names)


def backbone_row(row: Row, folder: Path, layout: Layout, prefix: str) -> Tensor:
    """A checkpoint's theta (P,), restricted to the backbone of `layout`.

    It is memory-mapped where the backbone's parameters lie side by side in the file, and copied
    otherwise. Names are compared without the prefix, which a checkpoint with a head puts before
    those of its backbone and a bare backbone does not.

    Args:
        row: the whole checkpoint's.
        folder: its folder, for messages.
        layout: of the backbone.
        prefix: what precedes the names of a backbone's parameters, such as `bert.`.

    Raises:
        UserError: a parameter is missing, or has another shape.
    """
    whole = row.theta
    places = {
        name.removeprefix(prefix): (start, stop, shape)
        for name, start, stop, shape in row.layout.spans()
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
