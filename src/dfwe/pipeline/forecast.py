"""What a stage is about to compute: how much is stored, why the rest is new, time and disk."""

import math
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from dfwe.pipeline.context import Context
from dfwe.pipeline.differences import Difference, nearest
from dfwe.pipeline.executor import Stage, final_steps, lacking_steps, lineage, wanted_steps
from dfwe.pipeline.inventory import Result, inventory
from dfwe.pipeline.provenance import machine
from dfwe.pipeline.step import Step

BYTES = 4  # of a parameter


@dataclass(frozen=True)
class Part:
    """What there is to do for one stage.

    Args:
        stage: as in `stage=`.
        done: results that are stored.
        lacking: results to compute.
        examples: to be read, over all passes; at most, where training or search may stop early.
        tokens: about as many.
        seconds: about as many; None where the store has no timing to go by.
        bytes: of the results' weights; None where a model's size is not known yet.
    """

    stage: str
    done: int
    lacking: int
    examples: int
    tokens: int
    seconds: float | None
    bytes: float | None


@dataclass(frozen=True)
class Forecast:
    """What a stage is about to compute.

    Args:
        stage: as in `stage=`.
        parts: by stage of the steps, in the order of the work.
        new: the labels of the results to be computed, where the main one is stored.
        differences: the settings in which the main result differs from the nearest stored one;
            None where the store has none of its kind, or has the result.
        timings: how many stored results the seconds are taken from.
        elsewhere: whether these were computed on other machines.
        free: bytes on the store's disk.
        unfinished: bytes that a step needs beside that until it is done.
    """

    stage: str
    parts: tuple[Part, ...]
    new: tuple[str, ...]
    differences: tuple[Difference, ...] | None
    timings: int
    elsewhere: bool
    free: int
    unfinished: int

    @property
    def lacking(self) -> int:
        """How many results are to be computed."""
        return sum(part.lacking for part in self.parts)


def forecast(steps: Iterable[Step], stage: Stage, context: Context, device: str) -> Forecast:
    """What `execute` would compute; nothing is.

    Args:
        steps: of the plan.
        stage: which of them are asked for.
        context: whose store is looked at.
        device: the kind of device whose timings count.

    Raises:
        UserError: a result is missing that this stage does not compute.
    """
    wanted = wanted_steps(steps, stage)
    lacking = lacking_steps(wanted, context)
    results = inventory(context.store).results
    timings = Timings.of(results.values(), device)
    main = max(final_steps(wanted), key=lambda step: len(list(lineage(step))), default=None)
    is_new = main in lacking
    kept = [step.size.unfinished * (_bytes(step) or 0) for step in lacking]
    return Forecast(
        stage=stage.name,
        parts=tuple(
            _part(name, wanted, lacking, timings)
            for name in dict.fromkeys(step.stage for step in wanted)
        ),
        new=() if is_new else tuple(step.label for step in final_steps(lacking)),
        differences=nearest(main.recipe, results) if main is not None and is_new else None,
        timings=len(timings.results),
        elsewhere=timings.elsewhere,
        free=shutil.disk_usage(_existing(context.store.root)).free,
        unfinished=max(kept, default=0),
    )


def _part(name: str, wanted: Sequence[Step], lacking: Sequence[Step], timings: "Timings") -> Part:
    every = [step for step in wanted if step.stage == name]
    left = [step for step in lacking if step.stage == name]
    seconds = [timings.seconds(step) for step in left]
    weights = [_bytes(step) for step in left]
    return Part(
        stage=name,
        done=len(every) - len(left),
        lacking=len(left),
        examples=sum(step.size.examples for step in left),
        tokens=sum(step.size.tokens for step in left),
        seconds=_sum(seconds),
        bytes=_sum(weights),
    )


@dataclass(frozen=True)
class Timings:
    """What stored results took: those of this machine, or else of others.

    Args:
        results: on devices of the same kind.
        elsewhere: whether they were computed on other machines.
    """

    results: tuple[Result, ...]
    elsewhere: bool

    @classmethod
    def of(cls, results: Iterable[Result], device: str) -> "Timings":
        """The timings of the results on a kind of device."""
        same = [result for result in results if result.provenance.device.split()[0] == device]
        here = [result for result in same if result.provenance.machine == machine()]
        return cls(tuple(here or same), bool(same) and not here)

    def seconds(self, step: Step) -> float | None:
        """About how long a step takes; None where nothing like it is stored.

        By tokens and parameters where the nearest in size had them; else as the others of its
        kind took.
        """
        kinds = (step.kind, step.timed_as)
        size = step.size
        known: list[tuple[float, int, int]] = []  # seconds, tokens, parameters
        for result in self.results:
            cost = result.cost
            if (
                cost is not None
                and result.recipe.kind in kinds
                and cost.tokens
                and cost.parameters
            ):
                known.append((result.provenance.seconds, cost.tokens, cost.parameters))
        if known and size.tokens and size.parameters:
            model = size.parameters
            nearest = min(abs(math.log(parameters / model)) for *_, parameters in known)
            rates = [
                seconds / tokens / parameters
                for seconds, tokens, parameters in known
                if abs(math.log(parameters / model)) == nearest
            ]
            return median(rates) * size.tokens * model
        alike = [r.provenance.seconds for r in self.results if r.recipe.kind == step.kind]
        return median(alike) if alike else None


def _bytes(step: Step) -> int | None:
    if not step.has_weights:
        return 0
    parameters = step.size.parameters
    return None if parameters is None else BYTES * parameters


def _sum(values: Sequence[float | None]) -> float | None:
    """None where a value is not known."""
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None


def _existing(path: Path) -> Path:
    """The nearest folder above a path that exists."""
    return next(place for place in (path, *path.parents) if place.exists())
