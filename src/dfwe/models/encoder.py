"""Encoders with a head as a family of models: what they read, where their heads come from."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit, as_tokenizer, tokenize_labels
from dfwe.errors import UserError
from dfwe.models.family import Config, ModelFamily
from dfwe.pipeline.files import file_digest
from dfwe.plain import Plain
from dfwe.scoring.decoding import Decoding
from dfwe.settings import settings
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.checkpoint import WEIGHTS, Checkpoint
from dfwe.weights.loading import load_as
from dfwe.weights.readout import POOLING, Readout, read_at_mean, readout_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.training.module import TaskModule


@settings("model")
class SequenceClassifier(ModelFamily):
    """A pretrained encoder; each task it is trained on gets a classification head.

    A checkpoint keeps the head of the task that selected its epoch. Training on another task
    starts with a head that the task and the seed alone decide, so that all that is fine-tuned
    on a target descends from one head and can be mixed.

    Args:
        sha256: what the pretrained weight file must be, where known.
        pooler: `own`, as pretrained; or `identity`, for a body whose pretraining left its pooler
            idle: it starts with handing on what it reads. Small random values there keep
            the gradient from body and head alike.
        readout: what a head reads of the last states: the `first` token's, or the `mean` of all
            tokens'; `auto` is what `1_Pooling/config.json` of the model says, else `first`.
    """

    sha256: str | None = None
    pooler: Literal["own", "identity"] = "own"
    readout: Literal["auto", "first", "mean"] = "auto"

    family: ClassVar[str] = "encoder"

    def settings(self) -> Mapping[str, Plain]:
        return {
            **super().settings(),
            "family": self.family,
            "pooler": self.pooler,
            "readout": self.resolved_readout,
        }

    @cached_property
    def resolved_readout(self) -> Readout:
        """What a head reads, `auto` resolved.

        Raises:
            UserError: the model's folder names another pooling than these two.
        """
        if self.readout != "auto":
            return self.readout
        return "first" if self.path is None else readout_of(read_checkpoint(self.folder).source)

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """Where its heads read and, where that is the mean, the first token beside it."""
        return ("first",) if self.resolved_readout == "first" else ("mean", "first")

    @property
    def _limits(self) -> dict[str, int]:
        return {"max_input": self.input_limit}

    def check(self, decoding: Decoding, training: TrainingConfig) -> None:
        super().check(decoding, training)
        if training.monitor == "target":
            raise UserError(
                "training.monitor=target asks a source's expert for the target's dev score, but "
                f"with model={self.name} it has no head for the target; set training.monitor=own."
            )

    def check_task(self, task: Task, corpus: Corpus) -> None:
        examples = task.examples(corpus, "train")
        for example in examples:
            _gold(task, examples[0].options, example)

    def fits(self, checkpoint: Checkpoint, config: Config, task: Task, corpus: Corpus) -> None:
        super().fits(checkpoint, config, task, corpus)
        folder, labels = checkpoint.source, _labels(checkpoint.folder, config)
        options = task.examples(corpus, "train")[0].options
        unnamed = labels == [f"LABEL_{number}" for number in range(len(labels))]
        same = [label.lower() for label in labels] == [option.lower() for option in options]
        if len(labels) != len(options) or not (unnamed or same):
            raise UserError(
                f"The head of {checkpoint.folder} has the labels {', '.join(labels)}, but "
                f"task={task.name} has, in this order, {', '.join(options)}; put the rows of the "
                "head and id2label in its order, or fine-tune on the task here."
            )
        readout = readout_of(folder)
        if self.readout not in ("auto", readout):
            place = "the mean of the tokens" if readout == "mean" else "the first token"
            raise UserError(
                f"The head of {folder} reads {place} by its {POOLING} or for want of one, but "
                f"model.readout={self.readout}; set model.readout=auto, or put that file right."
            )

    def start(
        self, folder: Path, task: Task, corpus: Corpus, seed: int
    ) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
        """The network with the head for `task`, a fresh one if it has none, and the tokenizer."""
        from dfwe.training.classifier import fresh_head

        examples = task.examples(corpus, "train")
        labels = examples[0].options
        if folder == self.folder and self.sha256 not in (None, file_digest(folder / WEIGHTS)):
            raise UserError(
                f"{folder / WEIGHTS} is not the file that model={self.name} names "
                "(its sha256 differs); download it again."
            )
        network, tokenizer = load_as(
            "encoder", read_checkpoint(folder), other_head=True, num_labels=len(labels)
        )
        if folder == self.folder:
            network = self.ready(network)
        if self.resolved_readout == "mean":
            read_at_mean(network)
        if getattr(network.config, "finetuning_task", None) != task.name:
            network.load_state_dict(
                fresh_head(network, len(labels), task.name, seed), strict=False
            )
        network.config.finetuning_task = task.name
        network.config.id2label = dict(enumerate(labels))
        network.config.label2id = {label: number for number, label in enumerate(labels)}
        return network, tokenizer

    def ready(self, network: "PreTrainedModel") -> "PreTrainedModel":
        import torch

        if self.pooler == "own":
            return network
        children = (child for module in network.modules() for child in module.named_children())
        pooler = next((child for name, child in children if name.endswith("pooler")), None)
        layer = getattr(pooler, "dense", None)
        if not isinstance(layer, torch.nn.Linear):
            raise UserError(
                f"model={self.name} has no pooler to set to the identity; set model.pooler=own."
            )
        with torch.no_grad():
            layer.weight.copy_(torch.eye(*layer.weight.shape))
            layer.bias.zero_()
        return network

    def origin(self, task: Task, corpus: Corpus, seed: int) -> Mapping[str, Plain]:
        labels = task.examples(corpus, "train")[0].options
        head = {"task": task.name, "labels": labels, "seed": seed, "pooler": self.pooler}
        return {
            **super().origin(task, corpus, seed),
            **head,
            "readout": self.resolved_readout,
        }

    def tokenize(
        self,
        task: Task,
        corpus: Corpus,
        split: str,
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        """A split of a task; a prompt that never varies is left out, a head needs no asking."""
        examples = task.examples(corpus, split)
        golds = [_gold(task, examples[0].options, example) for example in examples]
        if len({example.prompt for example in task.examples(corpus, "train")}) == 1:
            examples = tuple(replace(example, prompt="") for example in examples)
        return tokenize_labels(
            examples, golds, as_tokenizer(tokenizer), max_input=self.input_limit, cache=cache
        )

    def module(
        self,
        network: "PreTrainedModel",
        task: Task,
        decoding: Decoding,
        dev: TokenizedSplit,
        *,
        train: Mapping[str, TokenizedSplit] | None = None,
        training: TrainingConfig | None = None,
        seed: int = 0,
        test: TokenizedSplit | None = None,
    ) -> "TaskModule":
        from dfwe.training.classifier import ClassificationModule, fresh_head

        heads = {
            name: fresh_head(network, len(split.examples[0].options), name, seed)
            for name, split in (train or {}).items()
            if name != task.name
        }
        return ClassificationModule(heads, network, task, decoding, dev, training, seed, test)


def _labels(folder: Path, config: Config) -> list[str]:
    """The names of a head's labels, in the order of its rows.

    Raises:
        UserError: `id2label` names other numbers than 0, 1, 2, ...
    """
    named = config.get("id2label")
    named = named if isinstance(named, dict) else {}
    labels = {str(number): str(label) for number, label in named.items()}
    numbers = [str(number) for number in range(len(labels))]
    if not labels or set(labels) != set(numbers):
        raise UserError(
            f"The id2label in the config.json of {folder} names the labels "
            f"{', '.join(labels) or 'of no number'}, but a head's are numbered from 0; put it "
            'right, as in {"0": "sad", "1": "glad"}.'
        )
    return [labels[number] for number in numbers]


def _gold(task: Task, options: tuple[str, ...], example: Example) -> list[int]:
    """What the head should say: a label's number, or 0 and 1 for each label.

    Raises:
        UserError: the task is not one of choosing from a fixed set of labels.
    """
    if not example.options:
        raise UserError(
            f"task={task.name} is answered in free text, which an encoder with a head cannot "
            "give; choose label tasks as the target and in sources.list."
        )
    if example.options != options:
        raise UserError(
            f"task={task.name} offers other answers in each example, such as in {example.id}, "
            "but an encoder's head has one set of labels; choose other tasks."
        )
    gold = task.answer.gold(example)
    assert not isinstance(gold, tuple)  # the accepted texts of a task in free text
    return [int(value) for value in gold] if isinstance(gold, list) else [int(gold)]
