"""Run a graph of steps: what is in the store is skipped, the rest is made in order."""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from time import sleep
from typing import Any, Protocol

from dfwe.errors import UserError
from dfwe.pipeline.context import Context
from dfwe.pipeline.recipe import Recipe

log = logging.getLogger(__name__)
POLL = 1.0  # seconds between two looks at what other processes are at


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

    def run(self, context: Context) -> None:
        """Make the result and commit it to the store."""
        ...


@dataclass(frozen=True)
class Stage:
    """Which kinds of step a call makes; the others must be in the store already.

    Args:
        name: as in `stage=`.
        makes: the kinds of step.
        work: called with what builds the configured study, this stage and the lab; None makes
            DFWE's plan of the study.
    """

    name: str
    makes: tuple[str, ...]
    work: Callable[..., None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "makes", tuple(self.makes))


def execute(steps: Iterable[Step], stage: Stage, context: Context) -> None:
    """Make the steps (parents first) that the stage makes and the store lacks.

    Processes with a store in common share the work: a step that another one is at is left to it
    while there are others to make.

    Raises:
        UserError: a parent is missing and this stage does not make it.
    """
    wanted = {step.recipe.address: step for step in steps if step.stage in stage.makes}
    lacking = _lacking(wanted.values(), context)
    if not wanted:
        log.info("There is nothing for stage=%s to make here.", stage.name)
    elif not lacking:
        log.info("Everything stage=%s makes is in the store; nothing to train.", stage.name)
    _check_parents(lacking, context)
    if lacking:
        context.check()
    whole = len(lacking)
    while lacking:
        step, claim = _claim(lacking, context)
        with claim:
            if step.recipe not in context.store:  # another process may have just made it
                log.info("[%d/%d] %s", whole - len(lacking) + 1, whole, _named(step))
                step.run(context)
        lacking = _lacking(lacking, context)


def _lacking(steps: Iterable[Step], context: Context) -> list[Step]:
    return [step for step in steps if step.recipe not in context.store]


def _claim(lacking: Sequence[Step], context: Context) -> tuple[Step, AbstractContextManager[Any]]:
    """The first step whose parents are made and that no other process is at; waits for one."""
    waits = False
    while True:
        taken = []
        for step in lacking:
            if _lacking(step.parents, context):
                continue
            if claim := context.store.claim(step.recipe):
                return step, claim
            taken.append(step)
        _check_parents(lacking, context)  # someone may have emptied the store
        if not waits:
            log.info("Waiting for the process that is at %s", _named(taken[0]))
        waits = True
        sleep(POLL)


def _check_parents(lacking: Sequence[Step], context: Context) -> None:
    coming = {step.recipe.address for step in lacking}
    for step in lacking:
        for parent in _lacking(step.parents, context):
            if parent.recipe.address not in coming:
                raise UserError(
                    f"{step.stage} of '{step.label}' needs the result of stage={parent.stage} for "
                    f"'{parent.label}', which is not in the store {context.store.root}; "
                    "make it with: "
                    f"{context.command(parent.stage)}"
                )


def _named(step: Step) -> str:
    return f"{step.stage}: {step.label} ({step.recipe.address})"
