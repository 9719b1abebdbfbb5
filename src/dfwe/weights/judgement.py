"""What a checkpoint's tensors are, where the network does not take them one by one.

`from_pretrained` fills the network with what it finds and only warns of the rest, which it leaves
out, or draws at random. Here each such tensor falls under a rule: it is harmless, it is said in
one line, or the checkpoint is refused.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from dfwe.errors import UserError
from dfwe.weights.checkpoint import CONFIG, FLOATS, SAVE_AGAIN, WHOLE, Checkpoint

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Shape = tuple[int, ...]
PACKED = re.compile(
    r".+\.(qweight|qzeros|scales|g_idx|SCB|weight_packed|weight_scale|weight_scale_inv|"
    r"weight_zero_point|(weight\.)?(nested_)?(absmax|quant_map)|weight\.quant_state\..+|codebooks)"
)
EMPTY = (
    "is empty in {folder}, as DeepSpeed's ZeRO-3 leaves it where the parts of the processes were "
    "not gathered; gather them (zero_to_fp32.py) and save the model again"
)


class LoadingInfo(TypedDict):
    """What `from_pretrained(..., output_loading_info=True)` returns beside the network."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, Shape, Shape]]  # name, shape in the file, in the network


@dataclass(frozen=True)
class Rule:
    """What a tensor is that the network has no place for.

    Args:
        names: a pattern of such tensors' names.
        refusal: why the checkpoint is refused, and the way out; None where it is not.
        note: what is said of it instead; None where nothing needs to be said.
    """

    names: str
    refusal: str | None = None
    note: str | None = None


RULES = (
    Rule(
        r"(.*\.)?(position_ids|token_type_ids|rotary_emb\.inv_freq|num_batches_tracked|"
        r"attn\.(masked_)?bias|EncDecAttention\.relative_attention_bias\.weight)",  # old buffers
    ),
    Rule(
        r".*\.(lora_|base_layer\.|modules_to_save\.|ia3_l|hada_|lokr_|oft_|boft_).*",
        refusal="holds an adapter inside the model ({names}); merge it with peft's "
        "merge_and_unload() and save the model with save_pretrained",
    ),
    Rule(
        r"(.*\.)?(v_head|value_head|critic)\..*",
        refusal="holds a value head ({names}), which is not part of a {kind}; load the model "
        "without it and save it with save_pretrained",
    ),
    Rule(
        r"(.*\.)?(pooler|cls|lm_head|vocab_transform|vocab_layer_norm|vocab_projector|"
        r"generator_lm_head|generator_predictions|discriminator_predictions)\..*",
        note="{folder} holds {names}, which a {kind} does not have and transformers leaves out.",
    ),
)


def check_kinds(checkpoint: Checkpoint) -> None:
    """Check that a checkpoint's files hold plain numbers.

    Raises:
        UserError: it is quantised, or holds none or other kinds of numbers.
    """
    folder = checkpoint.folder
    wayout = "dequantise it and save it in half or single precision"
    if checkpoint.config.get("quantization_config"):
        raise UserError(f"{folder} is quantised; {wayout}.")
    for name, entry in checkpoint.tensors.items():
        packed = PACKED.fullmatch(name) or (
            entry.dtype in WHOLE and name.rpartition(".")[2] == "weight"
        )
        if packed or (entry.dtype.startswith("F") and entry.dtype not in FLOATS):
            raise UserError(f"{folder} is quantised ('{name}' is of {entry.dtype}); {wayout}.")
        if entry.dtype not in (*FLOATS, *WHOLE):
            raise UserError(
                f"'{name}' in {folder} is of {entry.dtype}, which is not mixed; save the model in "
                "half or single precision."
            )
    if not checkpoint.layout.names:
        raise UserError(f"{folder} holds no floating-point tensor; save the model again.")


def check_depth(checkpoint: Checkpoint) -> None:
    """Check that config.json asks for no more layers than there are tensors.

    `from_pretrained` builds all of them before it looks at the weights.

    Raises:
        UserError: it does.
    """
    number = len(checkpoint.tensors)
    for key, value in checkpoint.config.items():
        if "layer" in key and isinstance(value, int) and value > number:
            raise UserError(
                f"{checkpoint.source / CONFIG} says {key}={value}, but the weights are {number} "
                f"tensors; put config.json right, or {SAVE_AGAIN}."
            )


def judge(
    folder: Path,
    network: "PreTrainedModel",
    info: LoadingInfo,
    *,
    leave_head: bool = False,
    new_head: bool = False,
    given: Collection[str] = (),
) -> tuple[str, ...]:
    """Judge what of a checkpoint the network did not take, and what it lacks.

    Args:
        folder: the checkpoint, for messages.
        network: as loaded from it.
        info: what `from_pretrained` says of the loading.
        leave_head: the checkpoint's head may be left out.
        new_head: the network's head, and the pooler before it, may start from random numbers.
        given: the network's parameters that come from elsewhere.

    Returns:
        What is to be said of it, in sentences.

    Raises:
        UserError: weights are lost, would start from random numbers, or are no weights.
    """
    kind, missing = type(network).__name__, info["missing_keys"]
    unexpected = sorted(info["unexpected_keys"])
    parameters = dict(network.named_parameters(remove_duplicate=False))
    wrapped = [name for name in unexpected if name.partition(".")[2] in parameters]
    if wrapped and missing:
        raise UserError(
            f"The tensors in {folder} are named '{wrapped[0]}' and so on, as a wrapper around the "
            f"model writes them, and not as a {kind}'s; save the model inside with "
            "save_pretrained."
        )
    notes, left = _judge_unexpected(folder, network, unexpected)
    inside = [name for name in left if in_backbone(network, name)]
    if lost := inside if leave_head else left:
        raise UserError(
            f"{folder} holds {listed(lost)}, for which a {kind} of its config.json has no place; "
            f"put config.json right, or {SAVE_AGAIN}."
        )

    def may_be_new(name: str) -> bool:
        return new_head and not _in_body(network, name)

    fresh = set(missing)
    for name, found, wanted in sorted(info["mismatched_keys"]):
        if not may_be_new(name) and name not in given:
            raise mismatch(folder, name, found, wanted)
        fresh.add(name)
    fresh -= set(given)
    if lacking := sorted(name for name in fresh if not may_be_new(name)):
        raise UserError(
            f"{folder} lacks {listed(lacking)} of a {kind}, which would start from random "
            f"numbers; get the whole checkpoint, or {SAVE_AGAIN}."
        )
    if leave_head:
        notes = [f"{folder} has no {listed(sorted(fresh))}: a new one starts."] if fresh else []
    return tuple(notes)


def check_ties(folder: Path, network: "PreTrainedModel", names: Collection[str]) -> None:
    """Check that a head which `config.json` calls untied has not been tied for want of a tensor.

    Args:
        folder: the checkpoint, for messages.
        network: as loaded from it.
        names: of the tensors in the checkpoint.

    Raises:
        UserError: the checkpoint lacks its head, or its embeddings.
    """

    def stored(name: str) -> bool:
        return any(x == name or x.endswith(f".{name}") or name.endswith(f".{x}") for x in names)

    for side in tied_head(network):
        if not any(map(stored, side)):
            raise UserError(
                f"{folder} lacks {listed(side[:1])}, and its config.json says that head and "
                "embeddings are not tied; get the whole checkpoint, or set tie_word_embeddings "
                "in config.json to true."
            )


def tied_head(network: "PreTrainedModel") -> tuple[list[str], ...]:
    """The names of the output embedding's weight, and of those it is tied to; none if untied."""
    head = head_names(network)
    parameters = dict(network.named_parameters(remove_duplicate=False))
    tied = {id(parameters[name]) for name in head}
    inputs = [x for x, p in parameters.items() if id(p) in tied and x not in head]
    return (sorted(head), inputs) if inputs else ()


def embedding_rows(network: "PreTrainedModel") -> int | None:
    """How many rows the input embedding has; None for a network that embeds no tokens."""
    try:
        weight: Tensor = cast(Any, network).get_input_embeddings().weight
    except (AttributeError, NotImplementedError):
        return None
    return weight.shape[0]


def head_names(network: "PreTrainedModel") -> frozenset[str]:
    """The names of the output embedding's weight; none where the network has none."""
    head: object = cast(Any, network).get_output_embeddings()
    modules: Iterable[tuple[str, object]] = cast(Any, network).named_modules()
    found = (name for name, module in modules if module is head)
    return frozenset(f"{name}.weight" for name in found)


def mismatch(folder: Path, name: str, found: Shape, wanted: Shape) -> UserError:
    """The error for a tensor of another shape than the configuration asks for."""
    if 0 in found:
        return UserError(f"'{name}' {EMPTY.format(folder=folder)}.")
    return UserError(
        f"'{name}' has the shape {list(found)} in {folder}, but {list(wanted)} by its config.json "
        f"(vocab_size, num_labels and the like); put config.json right, or {SAVE_AGAIN}."
    )


def first_not_finite(tensors: "Iterable[tuple[str, Tensor]]") -> str | None:
    """The name of the first floating-point tensor with a NaN or an infinity."""
    for name, tensor in tensors:
        if tensor.is_floating_point() and tensor.numel():
            least, largest = tensor.aminmax()  # NaN, if any value is
            if not (least.isfinite() and largest.isfinite()):
                return name
    return None


def not_finite(folder: Path, name: str) -> UserError:
    """The error for a tensor with a NaN or an infinity."""
    return UserError(
        f"'{name}' in {folder} holds values that are not finite; training diverged, so leave this "
        "checkpoint out."
    )


def first_mismatch(
    state: "Mapping[str, Tensor]", wanted: Mapping[str, Shape], prefix: str
) -> tuple[str, Shape, Shape] | None:
    """The first tensor of another shape than the network's of its name: name and both shapes.

    Args:
        state: of the checkpoint.
        wanted: the network's shapes by name.
        prefix: of the names of its backbone, which a checkpoint may leave out or add.
    """
    for name in sorted(state):
        for other in (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")):
            found = tuple(state[name].shape)
            if other in wanted and found != wanted[other]:
                return name, found, wanted[other]
    return None


def listed(names: Iterable[str]) -> str:
    """Two of the names, and how many more there are."""
    names = [f"'{name}'" for name in names]
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more


def _judge_unexpected(
    folder: Path, network: "PreTrainedModel", names: list[str]
) -> tuple[list[str], list[str]]:
    """What is to be said, and the names that fall under no rule."""
    kind = type(network).__name__
    parameters = network.named_parameters(remove_duplicate=False)
    modules = {name.rpartition(".")[0] for name, _ in parameters}
    notes: list[str] = []
    for rule in RULES:
        under = [name for name in names if re.fullmatch(rule.names, name)]
        if rule.note is not None:  # a head that the network has would lack what is left out
            under = [name for name in under if name.rpartition(".")[0] not in modules]
        names = [name for name in names if name not in under]
        words = {"folder": folder, "kind": kind, "names": listed(under)}
        if under and rule.refusal is not None:
            raise UserError(f"{folder} {rule.refusal.format(**words)}.")
        if under and rule.note is not None:
            notes.append(rule.note.format(**words))
    return notes, names


def in_backbone(network: "PreTrainedModel", name: str) -> bool:
    """Whether a tensor's name is one of the network without its head."""
    prefix = network.base_model_prefix
    if name.startswith(f"{prefix}."):
        return True
    first = name.partition(".")[0]
    return first in {child for child, _ in network.base_model.named_children()}


def _in_body(network: "PreTrainedModel", name: str) -> bool:
    """Whether a parameter is the backbone's and no pooler's, which stands before a head."""
    return in_backbone(network, name) and "pooler" not in name.split(".")
