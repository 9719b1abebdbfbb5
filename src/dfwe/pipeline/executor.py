"""Runs a graph of steps: walks back from what a stage asks for and stops at what is stored."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from dfwe.errors import UserError
from dfwe.markup import printable
from dfwe.pipeline.context import Context
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.step import Run, Step
from dfwe.pipeline.store import Store

log = logging.getLogger(__name__)
POLL = 1.0  # seconds between two looks at what other processes compute


@dataclass(frozen=True)
class Stage:
    """Which steps a call computes; the others must be in the store already.

    Args:
        name: as in `stage=`.
        computes: the stages of the steps that it computes.
        work: called with what builds the configured study, this stage and the context, gives a
            `Work`; None is DFWE's of the study.
    """

    name: str
    computes: tuple[str, ...]
    work: Callable[..., object] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "computes", tuple(self.computes))
        if self.work is not None and not callable(self.work):
            raise UserError(
                f"stage.work={printable(str(self.work))} should be a function: "
                "stage.work._target_=PATH and stage.work._partial_=true."
            )


@dataclass(frozen=True)
class Work:
    """What a stage is to do.

    Args:
        present: shows what came out, once the steps are computed; gives the scores that a sweeper
            may maximise, by name.
        steps: those whose results it needs.
    """

    present: Callable[[], Mapping[str, float | None]]
    steps: tuple[Step, ...] = ()


def perform(
    work: Work, stage: Stage, context: Context, announce: Callable[[], None] = lambda: None
) -> Mapping[str, float | None]:
    """Computes what a stage lacks and shows what came out; the scores that `work` gives.

    Args:
        work: what there is to do.
        stage: which of its steps are computed.
        context: where and how.
        announce: as in `execute`.
    """
    if work.steps:
        execute(work.steps, stage, context, announce)
    return work.present()


def execute(
    steps: Iterable[Step],
    stage: Stage,
    context: Context,
    announce: Callable[[], None] = lambda: None,
) -> None:
    """Computes what the stage asks for and the store lacks.

    Asked for are those of the stage's steps that no other of them starts from. Processes with a
    store in common share the work: a step that another one computes is left to it while there
    are others.

    Args:
        steps: of the plan, parents first.
        stage: which of them are asked for.
        context: where and how.
        announce: called when there is something to compute and nothing speaks against it.

    Raises:
        UserError: a parent is missing and this stage does not compute it; or the context's checks
            fail.
    """
    wanted = wanted_steps(steps, stage)
    lacking = lacking_steps(wanted, context)
    if not wanted:
        log.info("There is nothing for stage=%s to compute here.", stage.name)
    elif not lacking:
        for step in wanted:
            if step.recipe in context.store:  # those of a finished result may be gone
                context.store.stored(step.recipe)
        log.info("Everything stage=%s computes is in the store.", stage.name)
    if lacking:
        context.check()
        announce()
    total, pending = len(lacking), {step.recipe.name: step for step in lacking}
    while (claimed := _claim(pending, context)) is not None:
        step, claim = claimed
        with claim:
            if not _is_ready(step, context.store):  # another process may just have computed it
                number = total - len(pending) + 1
                log.info("[%d/%d] %s", number, total, describe(step))
                compute(step, context)
        del pending[step.recipe.name]


def compute(step: Step, context: Context) -> None:
    """Runs one step whose parents are stored: log, time, commit, digest and lineage."""
    from dfwe.pipeline.run_log import open_log

    began = time.monotonic()
    store, recipe = context.store, step.recipe
    work = store.work(recipe)
    run_of = context.run_of(recipe, step.label, step.group, work)
    with open_log(context.loggers, run_of) as run_log:
        run = Run(step, context, store.output(recipe), work, run_log)
        record = step.run(run)
        seconds = time.monotonic() - began + run.earlier_seconds
        where = provenance(
            step.label, seconds, context.device.type, stage=step.stage, group=step.group
        )
        folder = store.commit(recipe, record, where)
        log.debug("%s took %.1f s, earlier attempts included.", recipe.name, seconds)
        run_log.result(recipe, folder, store.stored(recipe))


def lineage(step: Step) -> Iterator[Step]:
    """The step's ancestors, parents first, and the step; one that is reached twice comes once."""
    visited: set[str] = set()
    yield from _lineage(step, visited)


def describe(step: Step) -> str:
    """A step as the log names it."""
    return f"{step.stage}: {step.label} ({step.recipe.name})"


def _lineage(step: Step, visited: set[str]) -> Iterator[Step]:
    if step.recipe.name in visited:
        return
    visited.add(step.recipe.name)
    for parent in step.parents:
        yield from _lineage(parent, visited)
    yield step


def wanted_steps(steps: Iterable[Step], stage: Stage) -> list[Step]:
    """The steps that a stage computes, each once."""
    named = {step.recipe.name: step for step in steps if step.stage in stage.computes}
    return list(named.values())


def final_steps(steps: Sequence[Step]) -> list[Step]:
    """Those of the steps that no other of them starts from."""
    inner = {parent.recipe.name for step in steps for parent in lineage(step) if parent != step}
    return [step for step in steps if step.recipe.name not in inner]


def _is_ready(step: Step, store: Store) -> bool:
    """Whether the store has all of the step's result: weights that were pruned are lacking."""
    return store.has_weights(step.recipe) if step.has_weights else step.recipe in store


def lacking_steps(wanted: Sequence[Step], context: Context) -> list[Step]:
    """The steps to compute, parents first.

    Raises:
        UserError: one of them is not among the wanted.
    """
    known = {step.recipe.name: step for step in wanted}
    lacking: dict[str, Step] = {}

    def visit(step: Step, child: Step | None) -> None:
        name = step.recipe.name
        if name in lacking:
            return
        if child is None or not child.reads_weights:  # its record is enough
            if step.recipe in context.store:
                return
        elif _is_ready(step, context.store):
            return
        if name not in known:
            raise _missing(step, child, context, _stages_left(wanted, context.store))
        for parent in step.parents:
            visit(parent, step)
        lacking[name] = known[name]

    for step in final_steps(wanted):
        visit(step, None)
    return [step for step in wanted if step.recipe.name in lacking]


def _claim(
    pending: dict[str, Step], context: Context
) -> tuple[Step, AbstractContextManager[object]] | None:
    """The first step with stored parents that no other process computes; waits for one.

    Steps that others have computed leave `pending`; None when it is empty.
    """
    waits = False
    while pending:
        taken: list[Step] = []
        for name, step in list(pending.items()):
            if _is_ready(step, context.store):
                del pending[name]
                continue
            missing = [parent for parent in step.parents if not _has(parent, step, context.store)]
            for parent in missing:
                if parent.recipe.name not in pending:  # someone may have emptied the store
                    raise _missing(parent, step, context)
            if missing:
                continue
            if claim := context.store.claim(step.recipe):
                return step, claim
            taken.append(step)
        if not taken:  # all that were pending are stored
            continue
        if not waits:
            log.info("Waiting for the process that computes %s", describe(taken[0]))
        waits = True
        time.sleep(POLL)
    return None


def _has(parent: Step, child: Step, store: Store) -> bool:
    return _is_ready(parent, store) if child.reads_weights else parent.recipe in store


def _stages_left(wanted: Sequence[Step], store: Store) -> list[str]:
    """The stages of what the wanted steps start from and neither they nor the store have."""
    known = {step.recipe.name for step in wanted}
    left = (
        step.stage
        for final in final_steps(wanted)
        for step in lineage(final)
        if step.recipe.name not in known and step.recipe not in store
    )
    return list(dict.fromkeys(left))


def _missing(
    step: Step, child: Step | None, context: Context, stages: Sequence[str] = ()
) -> UserError:
    stage = "all" if context.shortened else step.stage  # a shortened run's store is its own
    needed_by = "" if child is None else f"{child.recipe.kind} of '{child.label}' needs "
    if len(stages) > 1:
        return UserError(
            f"{needed_by}results of stage={' and stage='.join(stages)}, which are not in the "
            f"store {context.store.root}; compute them with: {context.command('all')}"
        )
    return UserError(
        f"{needed_by}the result of stage={step.stage} for '{step.label}', which is not in the "
        f"store {context.store.root}; compute it with: {context.command(stage)}"
    )
