"""The finished runs of several tasks and seeds, and averages over them."""

import logging
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from dfwe.errors import UserError
from dfwe.pipeline.differences import differences, stored_values, values_of
from dfwe.pipeline.inventory import inventory
from dfwe.pipeline.store import Store
from dfwe.statistics.bootstrap import Difference
from dfwe.studies.ensembling.comparison import Entry, entries, gain
from dfwe.studies.ensembling.plan import Plan

FEW, MOST = 3, 6  # settings in which a near miss differs; differences that are named
log = logging.getLogger(__name__)
Plans = Callable[[str, int], Plan]  # task, seed -> its plan, all else as configured


class Runs:
    """The finished runs of the wanted tasks and seeds; the others are named in the log.

    Raises:
        UserError: there is none.
    """

    def __init__(self, plans: Plans, tasks: Sequence[str], seeds: Sequence[int], store: Store):
        self.store = store
        self.plans = {task: [plans(task, seed) for seed in seeds] for task in tasks}
        self.finished: dict[str, list[tuple[Plan, dict[str, Entry]]]] = {}
        for task, group in self.plans.items():
            done = [plan for plan in group if plan.evaluation.recipe in store]
            lost = [str(plan.study.seed) for plan in group if plan not in done]
            if lost:
                near = _near_misses(next(plan for plan in group if plan not in done), store)
                log.warning(
                    "%s: no finished run of seed %s in the store; skipped.%s",
                    task,
                    ", ".join(lost),
                    near,
                )
            if done:
                self.finished[task] = [(plan, entries(plan, store)) for plan in done]
                lacking = {
                    c.name
                    for plan, rows in self.finished[task]
                    for c in plan.methods
                    if c.name not in rows
                }
                if lacking:
                    log.warning(
                        "%s: not every seed has a test score of %s; left out.",
                        task,
                        ", ".join(sorted(lacking)),
                    )
        if not self.finished:
            raise UserError(
                f"The store {store.root} has no finished run of {', '.join(tasks)} with these "
                "settings; compute it with stage=all, or compare what there is: "
                f"report.runs={store.root}."
            )

    def of(self, task: str, name: str) -> list[Entry]:
        """A method's entries on a task, one per seed; empty unless every run has it."""
        rows = [entries.get(name) for _, entries in self.finished[task]]
        return [row for row in rows if row is not None] if None not in rows else []

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The methods that any task has."""
        plans = [plan for runs in self.finished.values() for plan, _ in runs]
        every = dict.fromkeys(c.name for plan in plans for c in plan.methods)
        return tuple(name for name in every if any(self.of(task, name) for task in self.finished))


def _near_misses(plan: Plan, store: Store) -> str:
    """The stored runs that differ from a plan in a few settings; blank where there are none."""
    recipe, results = plan.evaluation.recipe, inventory(store).results
    wanted = values_of(recipe)
    known = (
        differences(wanted, stored_values(result, results))
        for result in results.values()
        if result.recipe.kind == recipe.kind
    )
    near = [found for found in known if 0 < len(found) <= FEW]
    if not near:
        return ""
    named = dict.fromkeys(str(difference) for found in near for difference in found)
    runs = "1 run differs" if len(near) == 1 else f"{len(near)} runs differ"
    return f" {runs} in few settings: {', '.join([*named][:MOST])}."


def average_gain(runs: Runs, tasks: Sequence[str], over: str, under: str) -> Difference:
    """The mean over tasks of the gain, each task's the mean over its seeds."""
    return gain([(runs.of(task, over), runs.of(task, under)) for task in tasks])


def average(runs: Runs, tasks: Sequence[str], name: str) -> float:
    """The mean over tasks of a method's mean test score over seeds."""
    return float(np.mean([np.mean([e.test for e in runs.of(task, name)]) for task in tasks]))
