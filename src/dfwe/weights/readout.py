"""Where the head of an encoder reads: at the first token, or at the mean of all tokens.

Sentence encoders are trained at the mean. `1_Pooling/config.json`, in the layout of
sentence-transformers, says so; transformers' classifiers read the first token all the same.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from dfwe.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Readout = Literal["first", "mean"]
POOLING = Path("1_Pooling", "config.json")
FLAG = "pooling_mode_"  # before the name of a mode, in files of sentence-transformers 4 and older
MODES: dict[str, Readout] = {
    "cls": "first",
    "cls_token": "first",
    "mean": "mean",
    "mean_tokens": "mean",
}


class _Output(Protocol):
    """What is used of a backbone's output."""

    last_hidden_state: "Tensor"
    pooler_output: "Tensor"


def readout_of(folder: Path) -> Readout:
    """What the folder's `1_Pooling/config.json` says; `first` where there is no such file.

    Raises:
        UserError: the file is damaged, or names another mode or several.
    """
    path = folder / POOLING
    if not path.is_file():
        return "first"
    try:
        settings: dict[str, object] = json.loads(path.read_text())
        flags = [key for key, value in settings.items() if key.startswith(FLAG) and value is True]
        modes = [str(settings.get("pooling_mode"))] if "pooling_mode" in settings else flags
    except (OSError, ValueError, AttributeError, TypeError):
        modes = []
    names = [mode.removeprefix(FLAG) for mode in modes]
    if len(names) != 1 or names[0] not in MODES:
        raise UserError(
            f"{path} names the pooling '{' + '.join(names)}', but a head reads the first token "
            "(cls) or the mean of the tokens (mean); name one of these there or, for a pretrained "
            "model, set model.readout=first or mean."
        )
    return MODES[names[0]]


def write_pooling(folder: Path, width: int) -> None:
    """Write the `1_Pooling/config.json` of a model that is read at the mean.

    Args:
        folder: the model's.
        width: d, of its states.
    """
    settings: dict[str, int | bool] = {
        "word_embedding_dimension": width,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    path = folder / POOLING
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings, indent=2) + "\n")


def copy_pooling(source: Path, target: Path) -> None:
    """Copy the `1_Pooling/config.json` of a model to another folder, where there is one."""
    if (source / POOLING).is_file():
        (target / POOLING).parent.mkdir(exist_ok=True)
        shutil.copyfile(source / POOLING, target / POOLING)


def mean_of_tokens(states: "Tensor", mask: "Tensor") -> "Tensor":
    """The mean (m, d) of states (m, s, d) over the tokens that mask (m, s) does not hide."""
    if states.shape[:2] != mask.shape:
        raise ValueError(f"states {tuple(states.shape)} for a mask {tuple(mask.shape)}")
    weights = mask[..., None].to(states.dtype)
    return (states * weights).sum(1) / weights.sum(1)


def read_at_mean(network: "PreTrainedModel") -> "PreTrainedModel":
    """Let a classifier's head read the mean of the last states over the mask; in place.

    A hook hands the head this mean as the only state of the backbone: where the head, or the
    pooler before it, reads the first token, it then reads the mean, through the same layers.

    Args:
        network: in evaluation mode.

    Raises:
        UserError: the head of this architecture reads other than the first of the last states.
    """
    network.base_model.register_forward_hook(_hand_on_mean, with_kwargs=True)
    if not _reads_one_state(network):
        raise UserError(
            f"{type(network).__name__} cannot be read at the mean of its tokens, because its head "
            "does not take the first of the last states as BERT's and RoBERTa's do; set "
            "model.readout=first, or choose another model."
        )
    return network


def reads_mean(network: "PreTrainedModel") -> bool:
    """Whether the network's head reads the mean of the tokens."""
    hooks: Mapping[int, object] = vars(network.base_model)["_forward_hooks"]
    return _hand_on_mean in hooks.values()


def _hand_on_mean(
    module: "nn.Module",
    args: tuple[object, ...],
    kwargs: dict[str, "Tensor | None"],
    output: _Output,
) -> _Output:
    """A forward hook of a backbone, which passes on one state (m, 1, d)."""
    states, mask = output.last_hidden_state, kwargs["attention_mask"]
    mean = states.mean(1) if mask is None else mean_of_tokens(states, mask)
    return _hand_on(module, output, mean[:, None])


def _hand_on(module: "nn.Module", output: _Output, states: "Tensor") -> _Output:
    """The output of a backbone with other states, of which its pooler, if any, reads the first."""
    output.last_hidden_state = states
    pooler = getattr(module, "pooler", None)
    if pooler is not None:
        output.pooler_output = pooler(states)
    return output


def _reads_one_state(network: "PreTrainedModel") -> bool:
    """Whether different texts have equal logits where the backbone hands on equal states."""
    import torch

    def hand_on_ones(module: "nn.Module", args: tuple[object, ...], output: _Output) -> _Output:
        return _hand_on(module, output, torch.ones_like(output.last_hidden_state))

    texts = torch.arange(6, device=network.device).view(2, 3)
    with torch.no_grad(), network.base_model.register_forward_hook(hand_on_ones):
        try:
            logits = network(input_ids=texts, attention_mask=torch.ones_like(texts)).logits
        except Exception:  # whatever a head raises that needs more states
            return False
    return logits.ndim == 2 and torch.equal(logits[0], logits[1])
