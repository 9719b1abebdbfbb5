"""Modules as rows of a weight space: what to read from one, and where to write into one."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dfwe.errors import UserError
from dfwe.weights.layout import Layout

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

    from dfwe.weights.space import WeightSpace


def row_of(module: "Module", layout: Layout) -> "Tensor":
    """A copy of the module's parameters as theta (P,), float32, on the CPU."""
    import torch

    named = dict(module.named_parameters())
    return torch.cat([named[name].detach().float().cpu().flatten() for name in layout.names])


def buffers_of(module: "Module") -> dict[str, "Tensor"]:
    """Copies of the buffers that the module saves."""
    names = dict(module.named_parameters(remove_duplicate=False))
    state = module.state_dict()
    return {name: held.detach().cpu().clone() for name, held in state.items() if name not in names}


def write_constants(constants: Mapping[str, "Tensor"], module: "Module") -> None:
    """Copy the tensors that are not mixed into the module's buffers of their names."""
    if constants:
        buffers = dict(module.named_buffers(remove_duplicate=False))
        for name in constants.keys() & buffers.keys():
            buffers[name].copy_(constants[name])


def places(module: "Module", space: "WeightSpace") -> dict[str, "Tensor"]:
    """name -> the module's tensor, of all in the space's layout.

    Raises:
        UserError: names or shapes differ, or the module ties two tensors that differ in the
            space (transformers ties the head of a T5 that is built from a configuration).
    """
    named = {name: held.data for name, held in module.named_parameters(remove_duplicate=False)}
    named |= dict(module.named_buffers(remove_duplicate=False))
    taken: dict[int, tuple[str, slice]] = {}
    for name, start, stop, shape in space.layout.spans():
        if name not in named or tuple(named[name].shape) != shape:
            found = f"of shape {tuple(named[name].shape)}" if name in named else "missing"
            raise UserError(
                f"The module's '{name}' is {found}, the experts' has shape {shape}; "
                "load the module from one of the experts."
            )
        place = named[name].data_ptr()
        first, span = taken.setdefault(place, (name, slice(start, stop)))
        if first != name and any(not row[span].equal(row[start:stop]) for row in space.rows):
            raise UserError(
                f"The module ties '{name}' to '{first}', but they differ in the "
                "experts; load the module with from_pretrained."
            )
    for name, held in module.named_parameters():
        if held.data_ptr() not in taken:
            raise UserError(
                f"The experts lack the module's parameter '{name}'; load the module "
                "from one of the experts."
            )
    return {name: named[name] for name in space.layout.names}
