"""Calls of torch and transformers whose types are not declared, a function for each."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn
    from transformers import PreTrainedModel


def place(network: "nn.Module", device: "torch.device") -> None:
    """Move a network to a device."""
    network.to(device)


def halve(network: "nn.Module") -> None:
    """Round a network's weights to float16."""
    network.half()


def encoder_of(network: "PreTrainedModel") -> "nn.Module":
    """The encoder of a sequence-to-sequence model; the backbone of any other."""
    if network.config.is_encoder_decoder:
        return network.get_encoder()  # pyright: ignore[reportUnknownVariableType]
    return network.base_model


def seed_all(seed: int) -> None:
    """Seed torch's generators, on every device."""
    import torch

    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType]


def norm(vector: "Tensor") -> "Tensor":
    """The Euclidean norm, a scalar."""
    import torch

    return torch.as_tensor(vector.norm())  # pyright: ignore[reportUnknownMemberType]


@contextmanager
def quiet() -> Generator[None]:
    """Without transformers' warnings and progress: what it would warn of is judged here."""
    from transformers.utils import logging as library

    library.disable_progress_bar()
    verbosity = library.get_verbosity()
    library.set_verbosity_error()
    try:
        yield
    finally:
        library.set_verbosity(verbosity)
