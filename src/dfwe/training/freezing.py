"""Which parameters are trained: all, or few (BitFit, Ben Zaken et al. 2022)."""

from typing import Any, Literal

from dfwe.errors import UserError

Trained = Literal["all", "biases", "norms"]
KNOWN = ("all", "biases", "norms")


def freeze(network: Any, trained: Trained, key: str = "training.parameters") -> None:
    """Leave gradients only to what is trained: `biases` or layer `norms`, and the head always.

    A pooler counts as head: it reads the first token for the classifier, as the dense layer of
    RoBERTa's head does, and a fresh or idle one would hide the body from it.

    Args:
        key: what a person sets it by.

    Raises:
        UserError: the body has no such parameters, as a T5 has no biases.
    """
    if trained == "all":
        return
    backbone = backbone_prefix(network)
    whole = not any(name.startswith(backbone) for name, _ in network.named_parameters())
    kept = 0
    for name, parameter in network.named_parameters():
        inside = (whole or name.startswith(backbone)) and "pooler" not in name.split(".")
        parameter.requires_grad = not inside or _is(trained, name)
        kept += inside and parameter.requires_grad
    if not kept:
        other = "norms" if trained == "biases" else "all"
        raise UserError(
            f"{key}={trained} leaves nothing to train: a {network.config.model_type} has none in "
            f"its body; set {key}={other}."
        )


def backbone_prefix(network: Any) -> str:
    """What the names of the parameters of a model's body begin with, where it has a head."""
    return f"{network.base_model_prefix}."


def _is(trained: Trained, name: str) -> bool:
    owner, _, kind = name.rpartition(".")
    if trained == "biases":
        return kind == "bias"
    module = owner.rpartition(".")[2].lower()
    return "norm" in module or module.startswith("ln_")  # as GPT-2 calls them
