"""Encoders with a head under training: one backbone, one head per task (TLiDB's encoders)."""

from collections.abc import Mapping
from copy import deepcopy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.func import functional_call

from dfwe.data.batches import Batch
from dfwe.data.tokenization import TokenizedSplit
from dfwe.pipeline.recipe import digest
from dfwe.scoring.decoding import Decoding
from dfwe.scoring.losses import label_losses
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.freezing import backbone_prefix
from dfwe.training.module import TaskModule

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Head = dict[str, Tensor]  # parameter name -> value


class ClassificationModule(TaskModule):
    """A transformers encoder for sequence classification, whose head is the scored task's.

    Args:
        heads: task name -> the head of another task it is trained on; these are no part of the
            network.
        network: a transformers model.
        task: what validation scores.
        decoding: how its answers are read.
        dev: the split that validation scores.
        training: how it is trained; None for a module that is only scored.
        seed: with the epoch, decides dropout.
        test: what `trainer.test` scores.
    """

    def __init__(
        self,
        heads: Mapping[str, Head],
        network: "PreTrainedModel",
        task: Task,
        decoding: Decoding,
        dev: TokenizedSplit,
        training: TrainingConfig | None = None,
        seed: int = 0,
        test: TokenizedSplit | None = None,
    ) -> None:
        super().__init__(network, task, decoding, dev, training, seed, test)
        names = {task: sorted(head) for task, head in heads.items()}
        self.heads = nn.ModuleDict(
            {task: nn.ParameterList([heads[task][name] for name in names[task]]) for task in heads}
        )
        self._names = names

    def losses(self, batch: Batch) -> Tensor:
        inputs = {"input_ids": batch.source, "attention_mask": batch.mask}
        head: Head = {}
        if batch.task in self._names:
            values = self.heads[batch.task]
            assert isinstance(values, nn.ParameterList)
            head = dict(zip(self._names[batch.task], values, strict=True))
        output = functional_call(self.network, head, kwargs=inputs)
        return label_losses(output.logits, batch.target)


def head_names(network: "PreTrainedModel") -> list[str]:
    """The names of the parameters outside the network's backbone."""
    backbone = backbone_prefix(network)
    return [name for name, _ in network.named_parameters() if not name.startswith(backbone)]


def fresh_head(network: "PreTrainedModel", labels: int, task: str, seed: int) -> Head:
    """A new head, decided by the task's name, its number of labels and the seed alone.

    Args:
        network: the encoder that the head belongs to.
        labels: how many labels the task has.
        task: the task's name.
        seed: decides the values.
    """
    config = deepcopy(network.config)
    config.num_labels = labels
    with torch.device("meta"):
        empty = type(network)(config)
    shapes = {name: parameter.shape for name, parameter in empty.named_parameters()}
    number = int(digest(["head", task, labels, seed])[:15], 16)
    generator = torch.Generator().manual_seed(number)
    head: Head = {}
    for name in sorted(head_names(empty)):
        value = torch.zeros(shapes[name])  # a bias
        if value.ndim > 1:
            value.normal_(0.0, config.initializer_range, generator=generator)
        elif name.endswith("weight"):  # of a layer norm
            value.fill_(1.0)
        head[name] = value
    return head
