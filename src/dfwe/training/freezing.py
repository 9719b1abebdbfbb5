"""Which parameters are trained: all, or few (BitFit, Ben Zaken et al. 2022)."""

from typing import TYPE_CHECKING, Literal

from dfwe.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Trained = Literal["all", "biases", "norms"]
KNOWN = ("all", "biases", "norms")


def freeze(network: "PreTrainedModel", trained: Trained, key: str = "training.parameters") -> None:
    """Leave gradients only to what is trained.

    A pooler counts as head: it stands between states and classifier, as the dense layer of
    RoBERTa's head does, and a fresh or idle one would hide the backbone from it.

    Args:
        network: whose parameters are frozen, in place.
        trained: what of the backbone is trained, `all`, `biases` or layer `norms`; the head
            always is.
        key: the setting's key, for the message.

    Raises:
        UserError: the backbone has no such parameters, as a T5 has no biases.
    """
    if trained == "all":
        return
    backbone = backbone_prefix(network)
    whole = not any(name.startswith(backbone) for name, _ in network.named_parameters())
    left = 0
    for name, parameter in network.named_parameters():
        inside = (whole or name.startswith(backbone)) and "pooler" not in name.split(".")
        parameter.requires_grad = not inside or _is(trained, name)
        left += inside and parameter.requires_grad
    if not left:
        other = "norms" if trained == "biases" else "all"
        raise UserError(
            f"{key}={trained} leaves nothing to train: a {network.config.model_type} has none in "
            f"its backbone; set {key}={other}."
        )


def backbone_prefix(network: "PreTrainedModel") -> str:
    """The prefix of the names of the backbone's parameters in a model with a head."""
    return f"{network.base_model_prefix}."


def _is(trained: Trained, name: str) -> bool:
    """Whether a parameter of the backbone is trained, by its name."""
    path, _, kind = name.rpartition(".")
    if trained == "biases":
        return kind == "bias"
    module = path.rpartition(".")[2].lower()
    return "norm" in module or module.startswith("ln_")  # as GPT-2 calls them
