"""Optimizers and schedules, as `conf/training/optimizer` and `conf/training/schedule` name them.

An optimizer is called with the trained parameters and `lr`; a schedule with the optimizer, and
with those of `warmup` and `steps` that its signature takes. What is not dfwe's is named by its
dotted path: `training.optimizer._target_=torch.optim.SGD training.optimizer.momentum=0.9`.
"""

from collections.abc import Callable, Iterable, Sequence
from inspect import Parameter, signature
from math import cos, pi
from typing import TYPE_CHECKING

from dfwe.errors import UserError, reason
from dfwe.pipeline.deferred import parts

if TYPE_CHECKING:
    import torch
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

Part = Callable[..., object]
WARMUP = ("warmup", "num_warmup_steps")  # what libraries call it
STEPS = ("steps", "num_training_steps", "total_steps", "T_max")


def adam(
    parameters: "Iterable[torch.nn.Parameter]",
    lr: float,
    *,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> "Optimizer":
    """Adam (Kingma & Ba 2015), the paper's; `weight_decay` is an L2 penalty."""
    import torch

    first, second = betas
    return torch.optim.Adam(
        parameters, lr, (first, second), eps=eps, weight_decay=weight_decay, fused=True
    )


def adamw(
    parameters: "Iterable[torch.nn.Parameter]",
    lr: float,
    *,
    betas: Sequence[float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.01,
) -> "Optimizer":
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019), of all trained parameters."""
    import torch

    first, second = betas
    return torch.optim.AdamW(
        parameters, lr, (first, second), eps=eps, weight_decay=weight_decay, fused=True
    )


def constant(optimizer: "Optimizer", warmup: int) -> "LRScheduler":
    """The full rate after a linear warm-up."""
    return _scaled(optimizer, warmup, lambda passed: 1.0)


def linear(optimizer: "Optimizer", warmup: int, steps: int) -> "LRScheduler":
    """Down from the full rate, to 0 behind the last step."""
    return _scaled(optimizer, warmup, lambda passed: 1.0 - passed, steps)


def cosine(
    optimizer: "Optimizer", warmup: int, steps: int, *, lowest: float = 0.0
) -> "LRScheduler":
    """Half a cosine down from the full rate, to `lowest` of it behind the last step."""
    return _scaled(
        optimizer, warmup, lambda passed: lowest + (1 - lowest) * (1 + cos(pi * passed)) / 2, steps
    )


def _scaled(
    optimizer: "Optimizer", warmup: int, factor: Callable[[float], float], steps: int = 1
) -> "LRScheduler":
    """The rate times (step + 1) / warmup until it is full, then times `factor` of the share of
    the rest that has passed; steps count from 0."""
    from torch.optim.lr_scheduler import LambdaLR

    full = max(warmup - 1, 0)  # the first step at the full rate

    def scale(step: int) -> float:
        if step < full:
            return (step + 1) / warmup
        return factor(min(1.0, (step - full) / max(steps - full, 1)))

    return LambdaLR(optimizer, scale)


def optimizer_and_schedule(
    optimizer: Part,
    schedule: Part,
    parameters: "Iterable[torch.nn.Parameter]",
    *,
    lr: float,
    warmup: int,
    steps: Callable[[], int],
) -> "tuple[Optimizer, LRScheduler]":
    """What trains these parameters.

    Args:
        optimizer: called with the parameters and `lr`.
        schedule: called with the optimizer.
        parameters: those that are trained.
        lr: the full rate.
        warmup: optimizer steps of warm-up.
        steps: gives all optimizer steps of the training.

    Raises:
        UserError: an argument is wrong, or the schedule knows no warm-up that is asked for.
    """
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    try:
        optimizing = optimizer(parameters, lr=lr)
    except (TypeError, ValueError) as error:
        raise UserError(f"training.optimizer: {reason(error)}.") from None
    if not isinstance(optimizing, Optimizer):
        raise UserError("training.optimizer makes no optimizer of torch; name one.")
    open_ = _open(schedule)
    if warmup and not any(name in WARMUP for name in open_):
        raise UserError("This training.schedule has no warm-up; set training.warmup=0.")
    given = {name: warmup for name in open_ if name in WARMUP}
    given |= {name: steps() for name in open_ if name in STEPS}
    try:
        scheduling = schedule(optimizing, **given)
    except (TypeError, ValueError) as error:
        raise UserError(f"training.schedule: {reason(error)}.") from None
    if not isinstance(scheduling, LRScheduler):
        raise UserError("training.schedule makes no schedule of torch's; name one.")
    return optimizing, scheduling


def _open(schedule: Part) -> list[str]:
    """The names of its arguments that are neither given nor have a default."""
    function, given = parts(schedule)
    known = signature(function).parameters.items()
    empty = (Parameter.empty, None)
    return [name for name, p in known if name not in given and p.default in empty]


def check_optimizer(optimizer: Part, schedule: Part, *, lr: float, warmup: int) -> None:
    """Tries both on one parameter, before hours of work.

    Raises:
        UserError: an argument is wrong, or a step needs more than gradients.
    """
    import torch

    trial = torch.nn.Parameter(torch.zeros(1))
    trial.grad = torch.zeros(1)
    optimizing, scheduling = optimizer_and_schedule(
        optimizer, schedule, [trial], lr=lr, warmup=warmup, steps=lambda: 2
    )
    for key, step in (("optimizer", optimizing.step), ("schedule", scheduling.step)):
        try:
            step()
        except TypeError as error:
            raise UserError(
                f"training.{key} needs more than a training step has ({reason(error)}); choose "
                "another."
            ) from None
