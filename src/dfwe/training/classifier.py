"""Encoders with a head under training: one body, one head a task (TLiDB's encoders)."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfwe.data.batches import Batch
from dfwe.pipeline.recipe import digest
from dfwe.scoring.losses import label_losses
from dfwe.training.freezing import backbone_prefix
from dfwe.training.module import TaskModule

Head = dict[str, Tensor]  # parameter name -> value


class ClassificationModule(TaskModule):
    """A transformers encoder for sequence classification, whose own head is the scored task's.

    Args:
        heads: of the other tasks it is trained on; they are no part of the network.
        arguments: of `TaskModule`.
    """

    def __init__(self, heads: Mapping[str, Head], *arguments: Any) -> None:
        super().__init__(*arguments)
        names = {task: sorted(head) for task, head in heads.items()}
        self.heads = nn.ModuleDict(
            {task: nn.ParameterList([heads[task][name] for name in names[task]]) for task in heads}
        )
        self._names = names

    def losses(self, batch: Batch) -> Tensor:
        inputs = {"input_ids": batch.source, "attention_mask": batch.mask}
        head = {}
        if batch.task in self._names:
            values: Any = self.heads[batch.task]
            head = dict(zip(self._names[batch.task], values, strict=True))
        found = functional_call(self.network, head, kwargs=inputs)
        return label_losses(found.logits, batch.target)


def head_names(network: Any) -> list[str]:
    """The names of the parameters outside the network's body."""
    backbone = backbone_prefix(network)
    return [name for name, _ in network.named_parameters() if not name.startswith(backbone)]


def fresh_head(network: Any, labels: int, task: str, seed: int) -> Head:
    """A new head for `labels` labels, decided by the task's name and the seed alone."""
    config = type(network.config).from_dict({**network.config.to_dict(), "num_labels": labels})
    with torch.device("meta"):
        empty_backbone = type(network)(config)
    shapes = {name: held.shape for name, held in empty_backbone.named_parameters()}
    number = int(digest(["head", task, labels, seed])[:15], 16)
    generator = torch.Generator().manual_seed(number)
    head = {}
    for name in sorted(head_names(empty_backbone)):
        value = torch.zeros(shapes[name])  # a bias
        if value.ndim > 1:
            value.normal_(0.0, config.initializer_range, generator=generator)
        elif name.endswith("weight"):  # of a layer norm
            value.fill_(1.0)
        head[name] = value
    return head
