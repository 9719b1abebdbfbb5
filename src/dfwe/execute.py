"""Run a graph of steps: what is in the store is skipped, the rest is made in order."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from dfwe.errors import UserError
from dfwe.lab import Lab
from dfwe.recipe import Recipe

log = logging.getLogger(__name__)


class Step(Protocol):
    """One node of a plan."""

    @property
    def stage(self) -> str:
        """The stage that makes it, as in `stage=`."""
        ...

    @property
    def label(self) -> str:
        """What a person calls it."""
        ...

    @cached_property
    def recipe(self) -> Recipe: ...

    @property
    def parents(self) -> tuple["Step", ...]: ...

    def run(self, lab: Lab) -> None:
        """Make the result and commit it to the store."""
        ...


@dataclass(frozen=True)
class Stage:
    """Which kinds of step a call makes; the others must be in the store already.

    Args:
        name: as in `stage=`.
        makes: the kinds of step.
        work: what to do with study, stage and lab; None makes DFWE's plan of the study.
    """

    name: str
    makes: tuple[str, ...]
    work: Callable[..., None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "makes", tuple(self.makes))


def execute(steps: Iterable[Step], stage: Stage, lab: Lab) -> None:
    """Make the steps (parents first) that the stage makes and the store lacks.

    Raises:
        UserError: a parent is missing and this stage does not make it.
    """
    wanted = [step for step in steps if step.stage in stage.makes]
    lacking = [step for step in wanted if step.recipe not in lab.store]
    missing = list({step.recipe.address: step for step in lacking}.values())  # each once
    for number, step in enumerate(missing, 1):
        _check_parents(step, lab)
        with lab.store.lock(step.recipe):
            if step.recipe in lab.store:  # another process made it while this one waited
                continue
            log.info("[%d/%d] %s: %s (%s)", number, len(missing), step.stage, step.label,
                     step.recipe.address)  # fmt: skip
            step.run(lab)
    if wanted and not missing:
        log.info("Everything stage=%s makes is in the store; nothing to train.", stage.name)


def _check_parents(step: Step, lab: Lab) -> None:
    for parent in step.parents:
        if parent.recipe not in lab.store:
            raise UserError(
                f"{step.stage} of '{step.label}' needs the result of stage={parent.stage} for "
                f"'{parent.label}', which is not in the store {lab.store.root}; make it with: "
                f"{lab.command(parent.stage)}"
            )
