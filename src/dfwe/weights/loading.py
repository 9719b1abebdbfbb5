"""Networks and tokenizers, read as transformers reads them and judged, and back into a folder."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import JsonValue

from dfwe.errors import UserError, machine_failed, reason
from dfwe.pipeline.recipe import digest
from dfwe.weights.adapters import Adapter, Kind, Merge, merge, read_checkpoint, replace
from dfwe.weights.checkpoint import (
    CONFIG,
    FLOATS,
    GENERATION,
    SAVE_AGAIN,
    TOKENIZER_CONFIG,
    WHOLE,
    Checkpoint,
)
from dfwe.weights.generation import generate, generation_of, read_generation
from dfwe.weights.judgement import (
    LoadingInfo,
    check_depth,
    check_kinds,
    check_ties,
    embedding_rows,
    first_mismatch,
    first_not_finite,
    head_names,
    in_backbone,
    judge,
    mismatch,
    not_finite,
    tied_head,
)
from dfwe.weights.readout import read_at_mean, readout_of, reads_mean, write_pooling
from dfwe.weights.untyped import quiet

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

log = logging.getLogger(__name__)
MAPPINGS: dict[Kind, str] = {
    "seq2seq": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "causal": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "encoder": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "backbone": "MODEL_MAPPING",
}
ENDINGS: dict[str, Kind] = {
    "ForSequenceClassification": "encoder",
    "ForCausalLM": "causal",
    "LMHeadModel": "causal",
}
CUSTOM = (
    "needs code of its own (auto_map), which is never run here; save the model as a class of "
    "transformers, or with the version of transformers that has it"
)


@dataclass(frozen=True)
class Loaded:
    """A checkpoint's network.

    Args:
        network: in evaluation mode; of an adapter's base, in the shapes of the merged model.
        stored: whether each of its tensors is, by name and value, what the files hold.
        merge: what an adapter changes in the base's values; None for a plain checkpoint.
        settings: what an adapter changes in the base's `config.json`.
        notes: what is to be said of it, in sentences.
        fresh: the names of its tensors that start from random numbers.
    """

    network: "PreTrainedModel"
    stored: bool
    merge: Merge | None
    settings: Mapping[str, JsonValue]
    notes: tuple[str, ...]
    fresh: frozenset[str]


def load_model(name: str | Path) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
    """The float32 network and its tokenizer, as they were scored.

    transformers' classes load the same, but for an encoder whose head reads the mean of the
    tokens (`1_Pooling/config.json`): theirs would read the first token.

    Args:
        name: a folder or a Hub id, of a model or of a LoRA adapter.

    Raises:
        UserError: no model of a family that gives answers can be loaded from it.
    """
    return load(name)


def load(name: str | Path) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The float32 network and its tokenizer from a folder that `save_pretrained` wrote.

    The head of an encoder reads where the folder's `1_Pooling/config.json` says.

    Raises:
        UserError: the folder has no model of a family that gives answers, or its tokenizer
            cannot end or pad a text, or its head cannot read where the file says.
    """
    checkpoint = read_checkpoint(name)
    folder, family = checkpoint.source, family_of(checkpoint)
    network, tokenizer = load_as(family, checkpoint)
    if family == "encoder" and readout_of(folder) == "mean":
        read_at_mean(network)
    complete(tokenizer, family, folder)
    return fuse_gelu(network), tokenizer


def complete(tokenizer: "PreTrainedTokenizerBase", family: str, folder: Path) -> None:
    """Let the end pad, where a tokenizer has nothing else that does.

    Raises:
        UserError: it cannot end a text or, for an encoder, pad one.
    """
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    wanted = "pad_token" if family == "encoder" else "eos_token"
    if getattr(tokenizer, f"{wanted}_id") is None:
        raise UserError(
            f"The tokenizer of {folder} has no {wanted}, without which no batch can "
            "be built; set it and save the tokenizer beside the model."
        )


def load_as(
    kind: Kind, checkpoint: Checkpoint, *, other_head: bool = False, **settings: object
) -> tuple["PreTrainedModel", "PreTrainedTokenizerBase"]:
    """The float32 network of a kind, and the tokenizer.

    Args:
        kind: which network of the architecture.
        checkpoint: of a model or of an adapter.
        other_head: its head is not the checkpoint's, and may start from random numbers.
        settings: of its configuration, instead of the checkpoint's.

    Raises:
        UserError: the folder has no such model, or no tokenizer.
    """
    import torch

    loaded = load_network(checkpoint, kind, dtype=torch.float32, other_head=other_head, **settings)
    for note in loaded.notes:
        log.info("%s", note)
    network = loaded.network
    if loaded.merge is not None:
        with torch.no_grad():
            for name, parameter in network.named_parameters():
                parameter.copy_(loaded.merge(name, parameter))
    if (name := first_not_finite(network.state_dict().items())) is not None:
        raise not_finite(checkpoint.folder, name)
    tokenizer = load_tokenizer(checkpoint, network)
    if tokenizer is None:
        raise no_tokenizer(checkpoint)
    return network, tokenizer


def load_network(
    checkpoint: Checkpoint,
    kind: Kind | None = None,
    *,
    dtype: "torch.dtype | None" = None,
    other_head: bool = False,
    **settings: object,
) -> Loaded:
    """The network that `from_pretrained` reads, after every tensor of the files is judged.

    No code but transformers' own is run, and nothing is unpickled but tensors. Weights of
    safetensors in the network's precision stay in the file, mapped.

    Args:
        checkpoint: of a model or of an adapter.
        kind: which network of the architecture; the one that `config.json` names by default.
        dtype: of the network; the widest of the files' by default.
        other_head: its head is not the checkpoint's, and may start from random numbers.
        settings: of its configuration, instead of the checkpoint's.

    Raises:
        UserError: transformers cannot load it, weights are lost or are no weights, or its
            forward pass fails.
    """
    import torch

    check_kinds(checkpoint)
    check_depth(checkpoint)
    folder, adapter = checkpoint.source, checkpoint if isinstance(checkpoint, Adapter) else None
    kind = kind or (None if adapter is None else adapter.network)
    config = config_of(checkpoint, **settings)
    network_class = _class(config, checkpoint, kind)
    if adapter is not None and not other_head:
        labels = cast(int, config.num_labels)
        config.num_labels = adapter.labels(_shapes(config, network_class), labels)
    state = checkpoint.state()
    network, info = _from_pretrained(
        network_class, config, state, dtype or getattr(torch, _widest(checkpoint)), folder
    )
    names = tuple(name for name, _ in network.named_parameters(remove_duplicate=False))
    parts = {} if adapter is None else adapter.parts(names)
    if other_head:  # an adapter's head is not wanted either
        parts = {name: part for name, part in parts.items() if in_backbone(network, name)}
    given = [name for name, part in parts.items() if "whole" in part]
    left = other_head or (adapter is not None and adapter.network is not None)
    counters = {name for name, entry in checkpoint.tensors.items() if entry.dtype in WHOLE}
    info["unexpected_keys"] -= counters  # buffers of earlier versions and of training
    notes = judge(folder, network, info, leave_head=left, new_head=other_head, given=given)
    if checkpoint.config.get("tie_word_embeddings") is False:
        check_ties(folder, network, [*state, *given])
        for names in tied_head(network)[:1]:  # for their values are equal
            replace(
                network, names, state.get(names[0], network.get_parameter(names[0]).data.clone())
            )
    if generates := cast(Any, network).can_generate():
        network.generation_config = read_generation(folder)
    changes, changed = None, {}
    if adapter is not None:
        changes = merge(adapter, network, parts)
        changed = _merged_settings(adapter, network)
    _run(network, checkpoint.folder)
    if generates:
        _generate(network, checkpoint.folder)
    tensors = tensors_of(network).items()
    stored = all(name in state and _is_same(state[name], tensor) for name, tensor in tensors)
    other = {name for name, *_ in info["mismatched_keys"]}
    fresh = frozenset((info["missing_keys"] | other) - set(given))
    return Loaded(network, stored and adapter is None, changes, changed, notes, fresh)


def tensors_of(network: "PreTrainedModel") -> "dict[str, torch.Tensor]":
    """Name -> tensor of a network's state; each tensor stands once, under its first name."""
    parameters = {name: x.data for name, x in network.named_parameters()}
    named = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    buffers = {name: x for name, x in network.state_dict().items() if name not in named}
    return parameters | buffers


def load_tokenizer(
    checkpoint: Checkpoint, network: "PreTrainedModel"
) -> "PreTrainedTokenizerBase | None":
    """The tokenizer as AutoTokenizer reads it; None where the folder has none.

    Raises:
        UserError: as `read_tokenizer`, or it has more tokens than the network's embedding has
            rows.
    """
    tokenizer = read_tokenizer(checkpoint)
    if tokenizer is None:
        return None
    size, rows = 1 + max(tokenizer.get_vocab().values(), default=-1), embedding_rows(network)
    if rows is not None and size > rows:
        raise UserError(
            f"The tokenizer of {checkpoint.folder} has {size} tokens but its embedding {rows} "
            "rows; take the tokenizer that the model was trained with, or resize all models alike "
            "(resize_token_embeddings)."
        )
    return tokenizer


def read_tokenizer(checkpoint: Checkpoint) -> "PreTrainedTokenizerBase | None":
    """The tokenizer in a folder as AutoTokenizer reads it; None where there is none.

    Raises:
        UserError: it cannot be read, needs code of its own, or lacks a file of its class.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    folder = checkpoint.tokenizer_folder
    if folder is None or not checkpoint.config:
        return None
    try:
        with quiet():
            tokenizer: PreTrainedTokenizerBase = cast(Any, AutoTokenizer).from_pretrained(
                folder, config=config_of(checkpoint), trust_remote_code=False
            )
    except UserError:
        raise
    except Exception as error:  # whatever a library raises for a file that is not as it should be
        why = CUSTOM if "custom code" in str(error) else f"cannot be read ({reason(error)})"
        raise UserError(f"The tokenizer of {folder} {why}; save the tokenizer again.") from None
    names = set(type(tokenizer).vocab_files_names.values()) - {TOKENIZER_CONFIG}
    if names and not any((folder / name).is_file() for name in names | {"tokenizer.json"}):
        raise UserError(
            f"The tokenizer of {folder}, a {type(tokenizer).__name__}, lacks its vocabulary "
            f"({', '.join(sorted(names))}); save the tokenizer again."
        )
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        # Or they would be saved as the last call happened to leave them.
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    return tokenizer


def no_tokenizer(checkpoint: Checkpoint) -> UserError:
    """The error for a model that is to read texts and has no tokenizer."""
    return UserError(
        f"{checkpoint.folder} has no tokenizer, without which no text can be read; save the one "
        "that the model was trained with beside it."
    )


def digest_of(tokenizer: "PreTrainedTokenizerBase") -> str:
    """A digest of what a tokenizer does to texts, in hex."""
    from transformers import PreTrainedTokenizerFast

    special = {key: str(token) for key, token in tokenizer.special_tokens_map.items()}
    if isinstance(tokenizer, PreTrainedTokenizerFast):
        return digest([special, tokenizer.backend_tokenizer.to_str()])
    return digest([special, type(tokenizer).__name__, tokenizer.get_vocab()])


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


def family_of(checkpoint: Checkpoint) -> Kind:
    """seq2seq, causal or encoder (with a head for labels), by the configuration.

    Raises:
        UserError: it is none of these, a bare encoder for example.
    """
    if isinstance(checkpoint, Adapter) and checkpoint.network not in (None, "backbone"):
        return checkpoint.network
    config, folder = checkpoint.config, checkpoint.source
    named = config.get("architectures")
    kind = str(named[-1] if isinstance(named, list) and named else config.get("model_type", ""))
    if not kind:
        raise UserError(f"{folder / CONFIG} is no model's configuration; {SAVE_AGAIN}.")
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
    if (name := first_not_finite(network.named_parameters())) is not None:
        raise UserError(
            f"{name} has values that are not finite, so that nothing is kept: a training ends "
            "so when its learning rate is too high; lower training.learning_rate."
        )
    head = cast(Any, network).get_output_embeddings()
    tied = head is not None and head.weight is network.get_input_embeddings().weight
    network.config.tie_word_embeddings = tied
    with quiet():
        network.save_pretrained(folder, save_original_format=False)  # pyright: ignore[reportUnknownMemberType]
    tokenizer.save_pretrained(folder)  # pyright: ignore[reportUnknownMemberType]
    if reads_mean(network):
        write_pooling(folder, network.config.hidden_size)


def config_of(checkpoint: Checkpoint, **settings: object) -> "PreTrainedConfig":
    """config.json as transformers reads it, with other settings.

    Raises:
        UserError: it is missing, damaged, or of a model that transformers does not have.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    folder = checkpoint.source
    if not checkpoint.config:
        state = "damaged" if (folder / CONFIG).exists() else "missing"
        raise UserError(f"{folder / CONFIG} is {state}; {SAVE_AGAIN}.")
    try:
        with quiet():
            config: PreTrainedConfig = cast(Any, AutoConfig).from_pretrained(
                folder, trust_remote_code=False, **settings
            )
    except Exception as error:  # whatever a library raises for a file that is not as it should be
        known = str(checkpoint.config.get("model_type")) in CONFIG_MAPPING
        if "auto_map" in checkpoint.config and not known:
            raise UserError(f"{folder} {CUSTOM}.") from None
        raise UserError(
            f"{folder / CONFIG} cannot be read by transformers ({reason(error)}); put it right, "
            f"or {SAVE_AGAIN}."
        ) from None
    return config


def _class(
    config: "PreTrainedConfig", checkpoint: Checkpoint, kind: Kind | None
) -> "type[PreTrainedModel]":
    """transformers' class for the network: of this kind, or the one that config.json names."""
    import transformers

    names = checkpoint.config.get("architectures")
    name = str(names[-1]) if isinstance(names, list) and names else ""
    named = getattr(transformers, name, None)
    if kind is None:
        if (
            isinstance(named, type)
            and issubclass(named, transformers.PreTrainedModel)
            and named.config_class is not None
            and isinstance(config, named.config_class)
        ):
            return named
        if "auto_map" in checkpoint.config:
            raise UserError(f"{checkpoint.source} {CUSTOM}.")
        kind = next((kind for end, kind in ENDINGS.items() if name.endswith(end)), None)
        kind = "seq2seq" if config.is_encoder_decoder else kind
    found: Any = getattr(transformers, MAPPINGS[kind]).get(type(config), None) if kind else None
    classes = cast(
        "tuple[type[PreTrainedModel], ...]", found if isinstance(found, tuple) else (found,)
    )
    if kind is None:
        raise UserError(
            f"{checkpoint.source / CONFIG} names no class of transformers in architectures, but "
            f"'{name}'; name the class that the model was saved from."
        )
    if found is None:
        raise UserError(
            f"{checkpoint.source} is a {config.model_type}, of which transformers has no {kind} "
            "network; choose another model."
        )
    return next((x for x in classes if x is named), classes[0])


def _from_pretrained(
    network_class: "type[PreTrainedModel]",
    config: "PreTrainedConfig",
    state: "Mapping[str, torch.Tensor]",
    dtype: "torch.dtype",
    folder: Path,
) -> "tuple[PreTrainedModel, LoadingInfo]":
    try:
        with quiet():
            return cast(Any, network_class).from_pretrained(
                None,
                config=config,
                state_dict=dict(state),
                dtype=dtype,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                trust_remote_code=False,
            )
    except Exception as error:  # whatever a library raises for a file that is not as it should be
        if machine_failed(error):
            raise
        shapes = _shapes(config, network_class)
        wrong = first_mismatch(state, shapes, network_class.base_model_prefix)
        raise (unloadable(folder, error) if wrong is None else mismatch(folder, *wrong)) from None


def _shapes(
    config: "PreTrainedConfig", network_class: "type[PreTrainedModel]"
) -> dict[str, tuple[int, ...]]:
    """Name -> shape of the network's tensors; empty where it cannot be built."""
    import torch

    try:
        with quiet(), torch.device("meta"):
            network = cast(Any, network_class)(config)
    except Exception:  # whatever a library raises for a configuration that is not as it should be
        return {}
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def _merged_settings(adapter: Adapter, network: "PreTrainedModel") -> dict[str, JsonValue]:
    """What of the base's configuration is another once the adapter is merged.

    Raises:
        UserError: what the adapter gives whole does not fit the rest of the network.
    """
    config = network.config
    rows = embedding_rows(network)
    if rows is not None and getattr(config, "vocab_size", rows) != rows:
        config.vocab_size = rows
    wanted = _shapes(config, type(network))
    for name, tensor in network.state_dict().items():
        if name in wanted and tuple(tensor.shape) != wanted[name]:
            raise UserError(
                f"With the adapter {adapter.folder}, '{name}' has the shape "
                f"{list(tensor.shape)}, but {list(wanted[name])} is needed: the adapter gives "
                f"embeddings or a head of another size than its base {adapter.base.folder}, and "
                "not all of it; name the base as it was in training, saved with save_pretrained."
            )
    now: dict[str, JsonValue] = {"architectures": [type(network).__name__]}
    for key in ("vocab_size", "id2label", "label2id"):
        now[key] = cast(Any, config).to_dict().get(key)
    if config.tie_word_embeddings and head_names(network) and not tied_head(network):
        now["tie_word_embeddings"] = False
        if hasattr(config, "scale_decoder_outputs"):  # a T5 takes it from the flag, if not told
            now["scale_decoder_outputs"] = config.scale_decoder_outputs
    before = cast(Any, config_of(adapter)).to_dict()
    return {key: value for key, value in now.items() if value != before.get(key)}


def _run(network: "PreTrainedModel", folder: Path) -> None:
    """The forward pass on three tokens, of a network that reads tokens."""
    import torch

    rows = embedding_rows(network)
    if rows is None or network.main_input_name != "input_ids":
        return
    tokens = torch.arange(3)[None] % rows
    inputs = {"input_ids": tokens}
    if network.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = tokens
    try:
        with torch.no_grad():
            network(**inputs)
    except (RuntimeError, IndexError) as error:
        if machine_failed(error) or "not implemented for" in str(error):  # for half precision
            return
        raise unloadable(folder, error) from None
    except (TypeError, ValueError):  # it needs more than tokens
        return


def _generate(network: "PreTrainedModel", folder: Path) -> None:
    """Two tokens behind three, where its settings are not those of plain greedy decoding."""
    import torch

    settings, rows = generation_of(network), embedding_rows(network)
    known = settings.start is not None or not network.config.is_encoder_decoder
    if rows is None or network.main_input_name != "input_ids" or (known and not settings.changes):
        return
    tokens = torch.arange(3)[None] % rows
    try:
        generate(network, tokens, torch.ones_like(tokens), 2)
    except Exception as error:  # whatever a library raises for settings that do not go together
        if machine_failed(error) or "not implemented for" in str(error):  # for half precision
            return
        named = ", ".join(sorted(settings.changes)) or "without decoder_start_token_id"
        raise UserError(
            f"{folder} cannot generate by its settings ({named}): {reason(error)}; put them right "
            f"in its {GENERATION}."
        ) from None


def _is_same(stored: "torch.Tensor", tensor: "torch.Tensor") -> bool:
    """Whether two tensors have one memory, or equal values; which the former spares to read."""
    if stored.dtype != tensor.dtype or stored.shape != tensor.shape:
        return False
    return stored.data_ptr() == tensor.data_ptr() or stored.equal(tensor)


def _widest(checkpoint: Checkpoint) -> str:
    """torch's name of the widest floating-point type in a checkpoint's files."""
    kinds = [kind for kind in FLOATS if kind in checkpoint.dtypes]
    names = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
    return names[kinds[0]] if len(kinds) == 1 or kinds[0] == "F64" else "float32"
