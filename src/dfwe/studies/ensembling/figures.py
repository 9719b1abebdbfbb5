"""The report's pictures, from what the runs left in the store."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfwe.pipeline.step import Step
from dfwe.pipeline.store import Store
from dfwe.reporting import figures
from dfwe.reporting.html import Picture
from dfwe.reporting.terminal import shown
from dfwe.search.evaluation import Trial
from dfwe.search.ledger import read_trials
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.studies.ensembling.runs import Runs, average_gain


def draw(runs: Runs, folder: Path) -> dict[str, list[Picture]]:
    """Heading -> pictures, SVG files in `folder`; what no run has is left out."""
    store = runs.store
    searches = {
        task: [_trials(store, plan.interpolation) for plan, _ in group]
        for task, group in runs.finished.items()
    }
    chosen = {
        task: [_alpha(store, plan.interpolation) for plan, _ in group]
        for task, group in runs.finished.items()
    }
    lands = [
        Picture(
            figures.landscape(
                _trials(store, step),
                [expert.label for expert in step.parents],
                task,
                folder / f"landscape_{task}_{name}.svg",
            ),
            f"{task}: dev score of mixtures of three fine-tuned experts, first seed. Corners are "
            "single experts; the middle is their average.",
        )
        for task, group in runs.finished.items()
        for plan, _ in group[:1]
        for name, step in zip(plan.study.landscapes, plan.drawn, strict=True)
        if step.recipe in store
    ]
    drawn = [
        Picture(
            figures.trajectories(searches, folder / "trajectories.svg"),
            "The best dev score found so far, by evaluation; a line per seed.",
        ),
        Picture(
            figures.alphas(chosen, folder / "alphas.svg"),
            "The chosen weight of each expert: bars are means over seeds, dots are seeds, the "
            "dashed line is equal weights.",
        ),
        Picture(
            figures.dev_against_test(_points(runs), folder / "dev_test.svg"),
            "Dev against test score, a point per run: below the diagonal, dev promised more than "
            "test kept.",
        ),
    ]
    if gains := _gains(runs):
        drawn.append(
            Picture(
                figures.cost_against_gain(gains, "seconds", folder / "cost.svg"),
                "What a method costs and gains over fine-tuning: time of training and search of "
                "one run, means over tasks and seeds.",
            )
        )
    pictures = {"The search, and what it is worth": drawn}
    return {**pictures, "Between the experts": lands} if lands else pictures


def _points(runs: Runs) -> dict[str, list[tuple[float, float]]]:
    """Method -> (dev, test) of each run; without the methods that have no dev score."""
    points = {
        shown(name): [
            (entry.dev, entry.test)
            for task in runs.finished
            for entry in runs.of(task, name)
            if entry.dev is not None
        ]
        for name in runs.names
    }
    return {name: pairs for name, pairs in points.items() if pairs}


def _gains(runs: Runs) -> dict[str, tuple[float, float]]:
    """Method -> (seconds, gain over fine-tuning); without those that cost nothing."""
    gains: dict[str, tuple[float, float]] = {}
    for name in runs.names:
        tasks = [task for task in runs.finished if runs.of(task, name)]
        costs = [entry.cost.seconds or 0.0 for task in tasks for entry in runs.of(task, name)]
        if (seconds := float(np.mean(costs))) > 0:
            gained = average_gain(runs, tasks, name, "baseline").mean
            gains[shown(name)] = (seconds, gained)
    return gains


def _trials(store: Store, step: Step) -> Sequence[Trial]:
    return read_trials(store.file(step.recipe, TRIALS))


def _alpha(store: Store, step: Step) -> dict[str, float]:
    """expert -> weight; with groups the mean over them."""
    alpha = store.record(step.recipe, SearchRecord).alpha
    weights = alpha.reshape(-1, alpha.shape[-1]).mean(axis=0)  # (n,)
    labels = [expert.label for expert in step.parents]
    return dict(zip(labels, weights.tolist(), strict=True))
