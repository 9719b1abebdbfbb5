"""Networks and tokenizers from a folder that `save_pretrained` wrote, and back into one."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dfwe.errors import UserError, reason
from dfwe.pipeline.files import read_json
from dfwe.weights.hub import local_folder
from dfwe.weights.readout import read_at_mean, readout_of, reads_mean, write_pooling

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ENDINGS = {
    "ForSequenceClassification": "encoder",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
}


def load_model(name: str | Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The float32 network and its tokenizer, as they were scored.

    transformers' classes load the same, but for an encoder whose head reads the mean of the
    tokens (`1_Pooling/config.json`): theirs would read the first token.

    Args:
        name: a folder or a Hub id.

    Raises:
        UserError: no model of a family that gives answers can be loaded from it.
    """
    return load(local_folder(name))


def load(folder: Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The float32 network and its tokenizer from a folder that `save_pretrained` wrote.

    The head of an encoder reads where the folder's `1_Pooling/config.json` says.

    Raises:
        UserError: the folder has no model of a family that gives answers, or its tokenizer
            cannot end or pad a text, or its head cannot read where the file says.
    """
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSeq2SeqLM,
        AutoModelForSequenceClassification,
    )

    auto = {
        "seq2seq": AutoModelForSeq2SeqLM,
        "causal": AutoModelForCausalLM,
        "encoder": AutoModelForSequenceClassification,
    }
    family = family_of(folder)
    network, tokenizer = load_as(auto[family], folder)
    if family == "encoder" and readout_of(folder) == "mean":
        read_at_mean(network)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    wanted = "pad_token" if family == "encoder" else "eos_token"
    if getattr(tokenizer, f"{wanted}_id") is None:
        raise UserError(
            f"The tokenizer of {folder} has no {wanted}, without which no batch can "
            "be built; set it and save the tokenizer beside the model."
        )
    return fuse_gelu(network), tokenizer


def load_as(
    auto: Any, folder: Path, **options: object
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The float32 network that an Auto class reads, and the tokenizer.

    Args:
        auto: an Auto class of transformers.
        folder: a checkpoint.
        options: of `auto.from_pretrained`.

    Raises:
        UserError: the folder has no such model.
    """
    import torch
    from transformers import AutoTokenizer, PreTrainedTokenizerFast
    from transformers.utils import logging

    logging.disable_progress_bar()
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a head is left out, or initialised, on purpose
    try:
        network: PreTrainedModel = auto.from_pretrained(folder, dtype=torch.float32, **options)
        tokenizer: PreTrainedTokenizerBase = cast(Any, AutoTokenizer).from_pretrained(folder)
        if isinstance(tokenizer, PreTrainedTokenizerFast):
            # Or they would be saved as the last call happened to leave them.
            tokenizer.backend_tokenizer.no_truncation()
            tokenizer.backend_tokenizer.no_padding()
        return network.eval(), tokenizer
    except (OSError, ValueError, KeyError) as error:
        raise unloadable(folder, error) from None
    finally:
        logging.set_verbosity(verbosity)


def unloadable(folder: Path | None, error: Exception) -> UserError:
    """The error for a folder that transformers does not load."""
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
        config = read_json(folder / "config.json")
        kind = str(config["model_type"])
        if isinstance(architectures := config.get("architectures"), list) and architectures:
            kind = str(architectures[-1])
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{folder}/config.json is no model's configuration ({error}); save the "
            "model again with save_pretrained."
        ) from None
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    for ending, family in ENDINGS.items():
        if kind.endswith(ending):
            return family
    raise UserError(
        f"{folder} is a {kind}, which gives no answers; name a sequence-to-sequence model, a "
        "causal language model or an encoder with a head for labels."
    )


def save(network: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a folder that `from_pretrained` of any transformers reads back as it is.

    transformers 5 writes `tie_word_embeddings: true` for every T5, which older versions take at
    its word and overwrite an untied head; the truth is written instead. A network that is read at
    the mean of its tokens gets a `1_Pooling/config.json`.

    Raises:
        UserError: a weight is not finite.
    """
    for name, parameter in network.named_parameters():
        if not parameter.isfinite().all():
            raise UserError(
                f"{name} has values that are not finite, so that nothing is kept: a training ends "
                "so when its learning rate is too high; lower training.learning_rate."
            )
    from transformers.utils import logging

    head = cast(Any, network).get_output_embeddings()
    tied = head is not None and head.weight is network.get_input_embeddings().weight
    network.config.tie_word_embeddings = tied
    logging.disable_progress_bar()
    network.save_pretrained(folder)  # pyright: ignore[reportUnknownMemberType]
    tokenizer.save_pretrained(folder)  # pyright: ignore[reportUnknownMemberType]
    if reads_mean(network):
        write_pooling(folder, network.config.hidden_size)
