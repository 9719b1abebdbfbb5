"""Where a model comes from: a Hub id, a folder, an installed package or `stage=pretrain`."""

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import JsonValue

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import Example, fingerprint
from dfwe.data.tokenization import TOKENIZATION, TokenizedSplit, as_tokenizer, tokenize
from dfwe.errors import UserError
from dfwe.pipeline.files import file_digest
from dfwe.plain import Plain
from dfwe.pretraining.config import PretrainingConfig
from dfwe.scoring.decoding import Decoding
from dfwe.scoring.labels import check_labels
from dfwe.settings import Count, Name, settings
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.generation import Generation, read_generation
from dfwe.weights.hub import local_folder
from dfwe.weights.loading import complete, family_of, load, no_tokenizer, read_tokenizer
from dfwe.weights.readout import Readout

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.training.module import TaskModule

log = logging.getLogger(__name__)
Config = Mapping[str, JsonValue]  # the content of a config.json
CHOICES = {
    "seq2seq": "model=seq2seq",
    "encoder": "model=encoder",
    "causal": "model=causal",
}
MOST_INPUT = 512  # tokens of an input, unless a model has fewer positions
COUNTED_FROM_PAD = ("camembert", "longformer", "mpnet")  # their first position is pad_token_id + 1


@settings("model")
class ModelFamily(ABC):
    """A pretrained model and the limits of its input; a subclass says how its family reads.

    Args:
        name: what the tables call it.
        path: a Hub id (`google/flan-t5-base`), a folder, of a model or of an adapter,
            `shipped:NAME`, or `package:NAME/FOLDER` of an installed package; None when
            `pretraining` makes it.
        revision: a Hub commit, to pin the weights.
        max_input: source tokens, end token included; longer dialogues are shortened. None is
            MOST_INPUT, or what the model's positions leave, if that is less.
        max_target: target tokens in training, end token included.
        pretraining: settings of `stage=pretrain`, for a model that is trained from scratch.
    """

    name: Name
    path: str | None = None
    revision: str | None = None
    max_input: Count | None = None
    max_target: Count = 128
    pretraining: PretrainingConfig | None = None

    family: ClassVar[str]

    @cached_property
    def folder(self) -> Path:
        """The local folder of config, weights and tokenizer; fetched from the Hub if need be."""
        if self.path is None and self.pretraining is None:
            raise UserError(
                f"model={self.name} is a family of models; name one of them, a folder or a Hub "
                "id: model.path=."
            )
        if self.path is None:
            raise UserError(f"model={self.name} is trained by stage=pretrain and has no path.")
        try:
            folder = local_folder(self.path, self.revision)
        except UserError as error:
            raise UserError(f"{error} Or try model=tiny, which is shipped.") from None
        if not folder.is_dir():
            raise UserError(
                f"model.path={self.path} is not a folder; give one, or a Hub id, OWNER/NAME."
            )
        return folder

    def settings(self) -> Mapping[str, Plain]:
        """What decides weights: the digest of the files, not where they lie."""
        limits = {**self._limits, "tokenization": TOKENIZATION}
        return limits if self.path is None else {**limits, "weights": self.digest}

    @cached_property
    def digest(self) -> dict[str, str]:
        """sha256 by name of the files that decide what the model does."""
        checkpoint = read_checkpoint(self.folder)
        files = checkpoint.files | checkpoint.beside
        return {name: file_digest(path) for name, path in files.items() if "/" not in name}

    @cached_property
    def parameters(self) -> int | None:
        """How many the pretrained model has; None while stage=pretrain has not made it."""
        return None if self.path is None else read_checkpoint(self.folder).parameters

    def scoring(
        self, task: Task, corpus: Corpus, split: str, decoding: Decoding
    ) -> Mapping[str, Plain]:
        """What decides a score on a split besides the weights."""
        return {
            split: fingerprint(task.examples(corpus, split)),
            "task": task.settings(),
            "decoding": decoding.settings(),
            "tokenization": TOKENIZATION,
            **self._limits,
        }

    @property
    def readouts(self) -> tuple[Readout, ...]:
        """Where a linear probe reads the last states: first where the model was trained to be."""
        return ("mean",)

    @property
    def _limits(self) -> dict[str, int]:
        """Of inputs and of what is taught; gold likelihoods break ties, and end at the second."""
        return {"max_input": self.input_limit, "max_target": self.max_target}

    @cached_property
    def input_limit(self) -> int:
        """The most tokens of an input, `max_input` resolved."""
        if self.max_input is not None:
            return self.max_input
        if self.path is None:
            return MOST_INPUT
        return self.limit_of(read_checkpoint(self.folder).config)

    def limit_of(self, config: Config) -> int:
        """The most tokens of an input of a model with this configuration."""
        places = _positions(config)
        return MOST_INPUT if places is None else max(1, min(MOST_INPUT, places - self._beside))

    @property
    def _beside(self) -> int:
        """Positions that an input shares with the answer that it is continued by."""
        return self.max_target if self.family == "causal" else 0

    def check(self, decoding: Decoding, training: TrainingConfig) -> None:
        """Raise UserError if this model cannot be decoded or trained that way."""
        if self.family not in decoding.families:
            raise UserError(
                f"decoding={decoding.settings()['name']} reads a model of the family "
                f"{' or '.join(decoding.families)}, but model={self.name} is one of "
                f"{self.family}; leave decoding= out to get the model's default."
            )

    def check_task(self, task: Task, corpus: Corpus) -> None:  # noqa: B027
        """Raise UserError if a model of this kind cannot answer the task."""

    def fits(self, checkpoint: Checkpoint, config: Config, task: Task, corpus: Corpus) -> None:
        """Check that a model that was trained elsewhere can answer the task.

        Args:
            checkpoint: the model.
            config: its configuration, as transformers reads it.
            task: the task.
            corpus: where its examples come from.

        Raises:
            UserError: it is of another family, or has too few positions, or other labels.
        """
        family = family_of(checkpoint)
        if family != self.family:
            raise UserError(
                f"{checkpoint.folder} is of the family {family}, but model={self.name} reads "
                f"{self.family}; add {CHOICES[family]}."
            )
        self.check_length(checkpoint.folder, config)

    def check_length(self, folder: Path, config: Config) -> None:
        """Raise UserError if the model in `folder` has fewer positions than texts may be long."""
        places, wanted = _positions(config), self.input_limit + self._beside
        if places is not None and places < wanted:
            raise UserError(
                f"{folder} has {places} positions, but model.max_input and max_target "
                f"ask for {wanted}; lower model.max_input."
            )

    def check_answers(  # noqa: B027
        self,
        checkpoints: Sequence[Checkpoint],
        tasks: Sequence[Task],
        corpus: Corpus,
        decoding: Decoding,
    ) -> None:
        """Check that a model can write the answers; say what of its settings has no part in them.

        Args:
            checkpoints: the model, or those that are mixed: the first one's settings count, and
                the first tokenizer that there is.
            tasks: what it is scored on.
            corpus: where their examples come from.
            decoding: how answers are read off it.

        Raises:
            UserError: it has no tokenizer, or one that cannot write the labels.
        """

    def start(
        self, folder: Path, task: Task, corpus: Corpus, seed: int
    ) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
        """The network that training on `task` starts from, and its tokenizer."""
        return load(folder)

    def ready(self, network: "PreTrainedModel") -> "PreTrainedModel":
        """The pretrained network, changed in place to what trainings start from."""
        return network

    def origin(self, task: Task, corpus: Corpus, seed: int) -> Mapping[str, Plain]:
        """What decides the network that `start` returns for this model's folder."""
        return {} if self.path is None else {"weights": self.digest}

    @abstractmethod
    def tokenize(
        self,
        task: Task,
        corpus: Corpus,
        split: str,
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        """A split of a task as models of this family read it."""

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
        """The LightningModule that trains the network on `train` and scores it on `dev`.

        Without `train` and `training` it is only scored.
        """
        from dfwe.training.module import GenerationModule

        return GenerationModule(network, task, decoding, dev, training, seed, test)


@settings("model")
class TextModel(ModelFamily):
    """A model that answers in text."""

    @abstractmethod
    def tokenized(
        self,
        examples: tuple[Example, ...],
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        """Examples as models of this family read them."""

    def tokenize(
        self,
        task: Task,
        corpus: Corpus,
        split: str,
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        return self.tokenized(task.examples(corpus, split), tokenizer, cache)

    def check_answers(
        self,
        checkpoints: Sequence[Checkpoint],
        tasks: Sequence[Task],
        corpus: Corpus,
        decoding: Decoding,
    ) -> None:
        first = checkpoints[0]
        tokenizers = (read_tokenizer(checkpoint) for checkpoint in checkpoints)
        tokenizer = next((x for x in tokenizers if x is not None), None)
        if tokenizer is None:
            raise no_tokenizer(first)
        complete(tokenizer, self.family, first.folder)
        generating = [task for task in tasks if decoding.generates(task, corpus)]
        for task in tasks:
            distinct = {example.options: example for example in task.examples(corpus, "dev")}
            check_labels(
                task,
                self.tokenized(tuple(distinct.values()), tokenizer),
                generated=task in generating,
            )
        note = Generation.of(read_generation(first.source)).note(first.folder)
        if generating and note is not None:
            log.info("%s", note)


@settings("model")
class Seq2SeqLM(TextModel):
    """A pretrained encoder and decoder, which generates the answer."""

    family: ClassVar[str] = "seq2seq"

    def tokenized(
        self,
        examples: tuple[Example, ...],
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        return tokenize(
            examples,
            as_tokenizer(tokenizer),
            max_input=self.input_limit,
            max_target=self.max_target,
            cache=cache,
        )


def _positions(config: Config) -> int | None:
    """How many tokens a model has positions for; None where nothing limits them."""
    places = config.get("max_position_embeddings", config.get("n_positions"))
    kind, pad = str(config.get("model_type", "")), config.get("pad_token_id", 1)
    if not isinstance(places, int) or "t5" in kind:  # relative: n_positions limits nothing
        return None
    if "roberta" in kind or kind in COUNTED_FROM_PAD:
        places -= (pad if isinstance(pad, int) else 1) + 1
    return places
