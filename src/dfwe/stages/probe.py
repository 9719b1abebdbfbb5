"""A linear probe: the pretrained network, its last layer a logistic regression on the target."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from dfwe.data.batches import evaluation_batches, scoring_tokens
from dfwe.data.dialogue import fingerprint
from dfwe.data.tokenization import TokenizedSplit
from dfwe.errors import UserError
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.scoring.lists import integers
from dfwe.stages.merge import Base
from dfwe.statistics.logistic_regression import fit
from dfwe.weights.loading import save
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel


class ProbeRecord(Record):
    """A linear probe.

    Args:
        examples: that it was fitted on.
        penalty: what cross-validation chose; None where all have one label.
    """

    examples: int
    penalty: float | None


@dataclass(frozen=True, eq=False)
class Probe(Step):
    """Logistic regression on what the last layer of a frozen network reads.

    Its weights become that layer's, so that the probe is a model as any other.

    Args:
        base: the pretrained network with a head for the target.
        with_dev: whether it is fitted on dev's examples too, which a search sees.
    """

    base: Base
    with_dev: bool

    kind: ClassVar[str] = "probe"
    version: ClassVar[int] = 2
    record: ClassVar[type[Record]] = ProbeRecord
    stage: str = field(default="experts", init=False)
    label: str = field(init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", "probe with dev" if self.with_dev else "probe")
        object.__setattr__(self, "group", self.base.group)

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.base,)

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that it is fitted on."""
        return ("train", "dev") if self.with_dev else ("train",)

    def settings(self) -> Settings:
        base = self.base
        read = {
            split: fingerprint(base.task.examples(base.corpus, split)) for split in self.splits
        }
        return {**read, "model": base.model.settings()}

    def run(self, run: Run) -> ProbeRecord:
        """Fits the probe.

        Raises:
            UserError: the network has no linear layer that gives the labels.
        """
        import torch

        base = self.base
        folder = run.weights(base)
        network, tokenizer = base.model.start(folder, base.task, base.corpus, base.seed)
        place(network, run.context.device)
        network.eval()
        layer = _last_layer(network)
        rows: list[NDArray[np.float64]] = []
        labels: list[int] = []
        for split in self.splits:
            tokenized = base.model.tokenize(
                base.task, base.corpus, split, tokenizer, run.context.tokens
            )
            rows.append(_features(network, layer, tokenized))
            labels += [int(target[0]) for target in tokenized.targets]
        regression = fit(np.concatenate(rows), np.array(labels), layer.out_features)
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(regression.weights.tolist()))
            layer.bias.copy_(torch.tensor(regression.bias.tolist()))
        save(network.cpu(), tokenizer, run.output)
        return ProbeRecord(examples=len(labels), penalty=regression.penalty)


def _last_layer(network: "PreTrainedModel") -> "nn.Linear":
    """The layer that gives the logits: the last linear one with an output for each label."""
    from torch import nn

    layers = [
        module
        for module in network.modules()
        if isinstance(module, nn.Linear) and module.out_features == network.config.num_labels
    ]
    if not layers or "bias" not in dict(layers[-1].named_parameters()):
        raise UserError(
            f"{type(network).__name__} has no linear layer with a bias for its labels, which a "
            "probe needs; leave the controls probe, probe_with_dev and probe_then_finetune out."
        )
    return layers[-1]


def _features(
    network: "PreTrainedModel", layer: "nn.Linear", tokenized: TokenizedSplit
) -> NDArray[np.float64]:
    """What the layer reads of each example, (m, d)."""
    import torch

    read: list[Tensor] = []

    def keep(module: "nn.Module", inputs: Sequence["Tensor"]) -> None:
        read.append(inputs[0].double().cpu())

    order: list[int] = []
    device = next(network.parameters()).device
    with torch.inference_mode(), layer.register_forward_pre_hook(keep):
        for batch in evaluation_batches(tokenized, scoring_tokens(device)):
            order += integers(batch.index)
            batch = batch.to(device)
            network(input_ids=batch.source, attention_mask=batch.mask)
    rows = torch.cat(read).numpy()
    return rows[np.argsort(order)]
