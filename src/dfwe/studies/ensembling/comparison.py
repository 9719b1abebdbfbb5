"""The comparison on test: every method's score, its gain with an interval, and its cost."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from dfwe.pipeline.executor import lineage
from dfwe.pipeline.record import Cost, Record
from dfwe.pipeline.step import Step
from dfwe.pipeline.store import Store
from dfwe.reporting.results import MethodResult, Part
from dfwe.stages.evaluate import Evaluation, TestRecord
from dfwe.stages.interpolate import Interpolate, SearchRecord
from dfwe.stages.k_fold import KFold
from dfwe.stages.refit import Refit, RefitRecord
from dfwe.stages.train import Train, TrainRecord
from dfwe.statistics.bootstrap import DRAWS, Difference, difference, replicates
from dfwe.studies.ensembling.plan import Method, Plan

BACKWARD, FORWARD = 6, 2  # FLOPs a parameter and token (Kaplan et al. 2020), an upper estimate
PARTS = {  # what the gain consists of: from one method to the next
    "averaging": ("baseline", "seeds_uniform"),
    "transfer": ("seeds_uniform", "uniform"),
    "tuning of alpha": ("uniform", "dfwe"),
}
Number = TypeVar("Number", int, float)


class MethodCost(Record):
    """What a method costs as if it alone were computed; None for what is not known.

    Args:
        seconds: of training and search.
        evaluations: alphas that were scored.
        tokens: read by the models, padding left out.
        flops: an upper estimate.
    """

    seconds: float | None
    evaluations: int | None
    tokens: int | None
    flops: int | None


@dataclass(frozen=True)
class Entry:
    """A method of one study, measured.

    Args:
        name: the method's.
        dev: points; None where it was not scored on dev.
        test: points.
        draws: the test score's bootstrap replicates, (draws,); all equal to it by a person's own
            score, of which no answers are known.
        dialogues: how many these are drawn from; 0 where there are none.
        cost: of its training and search.
    """

    name: str
    dev: float | None
    test: float
    draws: NDArray[np.float64]
    dialogues: int
    cost: MethodCost


def entries(plan: Plan, store: Store) -> dict[str, Entry]:
    """Method -> what the store has of it; without those that are not scored on test yet."""
    rows: dict[str, Entry] = {}
    for method in plan.methods:
        if method.test.recipe not in store:
            continue
        test = store.record(method.test.recipe, TestRecord).scores(method.key)
        if test is None:
            continue
        draws, dialogues = np.full(DRAWS, test.score), 0
        if method.test.has_answers:
            texts, examples = method.test.answers(store)[method.key].texts, method.test.examples
            draws = replicates(plan.study.task, texts, examples)
            dialogues = len({example.dialogue for example in examples})
        rows[method.name] = Entry(
            name=method.name,
            dev=dev_score(method, store),
            test=test.score,
            draws=draws,
            dialogues=dialogues,
            cost=_cost(method, plan, store),
        )
    return rows


def dev_score(method: Method, store: Store) -> float | None:
    """A method's score on dev, in points; None where it has none."""
    step = method.step
    if step.recipe not in store:
        return None
    if isinstance(step, Train):
        return store.record(step.recipe, TrainRecord).dev.score
    if not isinstance(step, Interpolate) or isinstance(step, KFold):  # dev is not all it reads
        return None
    record = store.record(step.recipe, SearchRecord)
    if method.key == "uniform":
        return None if record.uniform is None else record.uniform.score
    choices = {"one_standard_error": record.one_standard_error, "likeliest": record.likeliest}
    if method.key in choices:
        choice = choices[method.key]
        return None if choice is None else choice.dev.score
    return record.dev.score


Pair = tuple[Sequence[Entry], Sequence[Entry]]  # of one task: a method's seeds, and another's


def gain(pairs: Sequence[Pair]) -> Difference:
    """How far the first methods are above the second on test, over tasks and seeds."""
    return difference(
        [
            (
                np.array([x.test - y.test for x, y in zip(over, under, strict=True)]),
                np.stack([x.draws - y.draws for x, y in zip(over, under, strict=True)]),
            )
            for over, under in pairs
        ],
        dialogues=min(entry.dialogues for over, _ in pairs for entry in over),
    )


def parts(runs: Sequence[Mapping[str, Entry]]) -> dict[str, Part] | None:
    """The gain of DFWE over fine-tuning, split; None without the control it needs.

    Averaging is what the uniform average of as many runs on the target alone gains, transfer what
    the average of experts from different sources gains over that one, and the rest is the search.
    """
    if not all("seeds_uniform" in row for row in runs):
        return None
    split: dict[str, Part] = {}
    for name, (under, over) in PARTS.items():
        gained = gain([([row[over] for row in runs], [row[under] for row in runs])])
        split[name] = Part(delta=gained.mean, interval=gained.interval)
    return split


def described(rows: Mapping[str, Entry]) -> list[MethodResult]:
    """The entries as they are stored, with their gain over fine-tuning alone."""
    base = rows["baseline"]
    gains = {name: gain([([entry], [base])]) for name, entry in rows.items()}
    return [
        MethodResult(
            name=name,
            dev=entry.dev,
            test=entry.test,
            delta=gains[name].mean,
            interval=gains[name].interval,
            seconds=entry.cost.seconds,
            evaluations=entry.cost.evaluations,
            tokens=entry.cost.tokens,
            flops=entry.cost.flops,
        )
        for name, entry in rows.items()
    ]


def _cost(method: Method, plan: Plan, store: Store) -> MethodCost:
    """Of its whole lineage: training and search, the test split left out."""
    steps = {step for step in lineage(method.step) if step.counts_as_cost}
    if method.key == "uniform" or isinstance(method.step, Evaluation):  # need no search
        steps.discard(plan.interpolation)
    trained = [_record_cost(step, store) for step in steps if isinstance(step, Train | Refit)]
    searched = [_record_cost(step, store) for step in steps if isinstance(step, Interpolate)]
    flops = [_flops(cost, BACKWARD) for cost in trained]
    flops += [_flops(cost, FORWARD) for cost in searched]
    return MethodCost(
        seconds=_sum(_seconds(step, store) for step in steps),
        evaluations=_sum(cost and cost.evaluations for cost in searched),
        tokens=_sum(cost and cost.tokens for cost in (*trained, *searched)),
        flops=_sum(flops),
    )


def _flops(cost: Cost | None, each: int) -> int | None:
    if cost is None or cost.tokens is None:
        return None
    return each * cost.tokens * cost.parameters


def _record_cost(step: Train | Refit | Interpolate, store: Store) -> Cost | None:
    if step.recipe not in store:
        return None
    record = store.record(step.recipe, step.record)
    assert isinstance(record, TrainRecord | RefitRecord | SearchRecord)
    return record.cost


def _seconds(step: Step, store: Store) -> float | None:
    return store.provenance(step.recipe).seconds if step.recipe in store else None


def _sum(values: Iterable[Number | None]) -> Number | Literal[0] | None:
    """None where a value is not known."""
    known = list(values)
    return None if None in known else sum(value for value in known if value is not None)
