"""Fine-tuned models without their heads, as points of one weight space."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dfwe.errors import UserError
from dfwe.training.freezing import backbone_prefix
from dfwe.weights.layout import Layout
from dfwe.weights.loading import family_of, load, load_as, unloadable
from dfwe.weights.rows import Checkpoint
from dfwe.weights.space import WeightSpace, row_of

BASE = "pretrained"  # the label of the model the others started from


def load_backbone(folder: Path) -> tuple[Any, Any]:
    """The float32 network without its classification head, and its tokenizer.

    A language model has none; it is loaded whole.
    """
    from transformers import AutoModel

    try:
        answers = family_of(folder) != "encoder"
    except UserError:  # a bare encoder
        answers = False
    return load(folder) if answers else load_as(AutoModel, folder)


def empty_backbone(folder: Path | None) -> Any:
    """A body without values; None is for a model that stage=pretrain makes, a T5.

    Raises:
        UserError: the folder holds no model.
    """
    from transformers import AutoConfig, AutoModel, T5Config

    try:
        config = T5Config() if folder is None else AutoConfig.from_pretrained(folder)
    except (OSError, ValueError) as error:
        raise unloadable(folder, error) from None
    with torch.device("meta"):
        return AutoModel.from_config(config)


def backbone_space(
    base: Path,
    folders: Sequence[Path],
    labels: Sequence[str],
    cache: Path | None = None,
    ready: Callable[[Any], Any] = lambda network: network,
) -> tuple[WeightSpace, Any, Any]:
    """The bodies of `folders` and, as the last row, the pretrained body; network, tokenizer.

    Rows of checkpoints stay mapped. `space.write(alpha, network)` makes the network any point.

    Args:
        ready: makes the pretrained network what trainings start from, as `Model.ready`.

    Raises:
        UserError: a checkpoint has another architecture than `base`.
    """
    network, tokenizer = load_backbone(base)
    network = ready(network)
    pooled = getattr(network, "pooler", None) is not None
    if pooled and not all(map(_has_pooler, folders)):  # a RoBERTa's head takes its place
        network.pooler = None
    layout = Layout.of(network)
    prefix = backbone_prefix(network)
    rows = [backbone_row(folder, layout, prefix, cache) for folder in folders]
    space = WeightSpace([*rows, row_of(network, layout)], layout, [*labels, BASE])
    return space, network, tokenizer


def _has_pooler(folder: Path) -> bool:
    names = Checkpoint.read(Path(folder).expanduser()).layout.names
    return any("pooler" in name.split(".") for name in names)


def backbone_row(folder: Path, layout: Layout, prefix: str, cache: Path | None = None) -> Tensor:
    """A checkpoint's theta (P,) restricted to the body; mapped where its parts lie together.

    A body's names have the prefix in a model with a head, and none alone: neither side shows it.
    """
    checkpoint = Checkpoint.read(Path(folder).expanduser())
    whole = checkpoint.row(cache)
    places = {
        name.removeprefix(prefix): (start, stop, shape)
        for name, start, stop, shape in checkpoint.layout.spans()
    }
    spans = []
    for name, shape in zip(layout.names, layout.shapes, strict=True):
        start, stop, found = places.get(name.removeprefix(prefix), (0, 0, None))
        if found != shape:
            raise UserError(
                f"'{name}' is {'missing' if found is None else f'of shape {found}'} in {folder}, "
                f"the pretrained model's has shape {shape}; compare models of one architecture."
            )
        spans.append((start, stop))
    follows = all(a[1] == b[0] for a, b in pairwise(spans))
    if follows:
        return whole[spans[0][0] : spans[-1][1]]
    return torch.cat([whole[start:stop] for start, stop in spans])
