"""Stage `interpolate`: search the fine-tuned experts' mixture on dev (section 4.4, Eq. 2)."""

import logging
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dfwe.data.corpus import Corpus
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.loggers import RunLog
from dfwe.pipeline.recipe import Recipe
from dfwe.scoring.decoding import Decoding
from dfwe.search.config import Search
from dfwe.search.loop import Result
from dfwe.statistics.bootstrap import replicates, resolution, standard_error
from dfwe.statistics.cross_fitting import CrossFitted
from dfwe.tasks.task import Task
from dfwe.weights.loading import load

if TYPE_CHECKING:
    from dfwe.scoring.scorer import Scores

log = logging.getLogger(__name__)
VERSION = 1
Named = dict[str, Any]  # of alpha: expert -> weight, or group -> expert -> weight


@dataclass(frozen=True)
class Interpolate:
    """alpha* = argmax over the simplex of the target's dev score of theta(alpha)."""

    label: str
    group: str
    experts: tuple[Step, ...]
    task: Task
    corpus: Corpus
    model: ModelFamily
    decoding: Decoding
    search: Search

    stage = "interpolate"

    @property
    def parents(self) -> tuple[Step, ...]:
        return self.experts

    @cached_property
    def recipe(self) -> Recipe:
        read = self.model.scoring(self.task, self.corpus, "dev", self.decoding)
        settings = {**read, "search": self.search.settings()}
        parents = tuple(step.recipe for step in self.experts)
        return Recipe(self.stage, VERSION, settings, parents)

    def run(self, context: Context) -> None:
        """Search, or go on with an unfinished ledger, and commit theta(alpha*)."""
        from dfwe.search.ledger import recorded_seconds
        from dfwe.weights.space import WeightSpace

        work = context.store.work(self.recipe)
        began = time.monotonic() - recorded_seconds(work)  # by processes that were killed
        folders = [context.store.weights(step.recipe) for step in self.experts]
        space = WeightSpace.from_pretrained(
            folders,
            labels=[step.label for step in self.experts],
            cache=context.store.cache("flat"),
        )
        if self.search.groups is not None:
            space = space.grouped(self.search.groups)
        with context.log(self.recipe, self.label, self.group) as run_log:
            result, crossed, module = self._search(context, space, folders[0], work, run_log)
            alpha = named(result.alpha, space.labels, space.groups)
            pictures = self._pictures(result, space.labels, alpha, work)
            run_log.images({f"search/{name}": path for name, path in pictures.items()})
            run_log.tables("search/trials", *_table(result, space.labels, space.groups))
            cross_fitted = crossed and _cross_fitted(crossed, result, space)
            run_log.summary(
                {"dev/score": result.score, "evaluations": result.evaluations}
                | {
                    f"dev/cross_fitted/{key}": cross_fitted[key]
                    for key in ("score", "optimism")
                    if cross_fitted
                }
            )
            export = work / "export"
            shutil.rmtree(export, ignore_errors=True)
            space.export(result.alpha, export)

            def fill(folder: Path) -> None:
                for path in [*export.iterdir(), *pictures.values()]:
                    path.rename(folder / path.name)
                for ledger in work.glob("*.jsonl"):  # copied: a commit may be killed
                    shutil.copy(ledger, folder)

            scores = self._scores(result, module.scores, space, time.monotonic() - began)
            passes = result.evaluations + (cross_fitted["evaluations"] if cross_fitted else 0)
            cost = {"tokens": passes * module.dev.tokens, "parameters": space.size}
            made = context.store.commit(
                self.recipe, fill, {**scores, "cross_fitted": cross_fitted, **cost}
            )
            run_log.result(self.recipe, made)

    def _search(
        self, context: Context, space: Any, folder: Path, work: Path, run_log: RunLog
    ) -> tuple[Result, CrossFitted | None, Any]:
        """What the search found, also without each fold, and the module with theta(alpha*)."""
        from dfwe.callbacks.progress import search_bar
        from dfwe.callbacks.weight_search import WeightSearch
        from dfwe.data.batches import scoring_loader
        from dfwe.search.ledger import Ledger
        from dfwe.weights.layout import flatten

        network, tokenizer = load(folder)
        dev = self.model.tokenize(self.task, self.corpus, "dev", tokenizer, context.tokens)
        module = self.model.module(network, self.task, self.decoding, dev)
        with search_bar(f"search {self.label}", self.search.evaluations) as bar:

            def follow(trial: Any, best: Any, fold: int | None = None) -> None:
                if fold is not None:
                    return bar(trial, best, f"without fold {fold}")
                bar(trial, best)
                run_log.lightning.log_metrics(
                    {"search/score": trial.score, "search/best": best.score}, step=trial.index
                )

            ledger, hear = Ledger(work / "trials.jsonl"), self._resolution(space.n)
            callback = WeightSearch(space, self.search, ledger, follow, context.workers, hear)
            trainer = context.trainer(
                logger=False,
                callbacks=[callback],
                default_root_dir=work,
            )
            device = trainer.strategy.root_device
            flatten(network.to(device))
            trainer.validate(module, scoring_loader(dev, device), verbose=False)
        assert callback.result is not None
        return callback.result, callback.cross_fitted, module

    def _resolution(self, n: int) -> Callable[[Any, "Scores"], None]:
        """Says what dev can resolve once the n experts are scored, which open every search."""
        heard: list[tuple[str, ...]] = []

        def hear(alpha: Any, scores: "Scores") -> None:
            if len(heard) < n and alpha.max() == 1:
                heard.append(scores.texts)
                if len(heard) == n:
                    examples = self.task.examples(self.corpus, "dev")
                    sentence = resolution(self.task, heard, examples)
                    if sentence is not None:
                        log.info(sentence)

        return hear

    def _pictures(
        self, result: Result, labels: tuple[str, ...], alpha: Named, work: Path
    ) -> dict[str, Path]:
        from dfwe.reporting.plots import alpha_bars, search_trajectory

        rows = [trial.row() for trial in result.trials]
        return {
            "trajectory": search_trajectory(rows, labels, result.best.index, work / "search.png"),
            "alpha": alpha_bars(alpha, work / "alpha.png"),
        }

    def _scores(self, result: Result, dev: "Scores", space: Any, seconds: float) -> dict[str, Any]:
        centroid = next(trial for trial in result.trials if np.ptp(trial.alpha) == 0)
        best = result.best
        pure = zip(space.labels, np.eye(space.n), strict=True)
        return {
            "stage": self.stage,
            "label": self.label,
            "alpha": named(best.alpha, space.labels, space.groups),
            "dev": {
                "score": best.score,
                "metrics": best.metrics,
                "log_likelihood": best.log_likelihood,
            },
            "uniform": {"dev": {"score": centroid.score, "metrics": centroid.metrics}},
            "experts": {
                label: {"dev": {"score": trial.score, "metrics": trial.metrics}}
                for label, corner in pure
                for trial in result.trials
                if (trial.alpha == corner).all()
            },
            **self._plainest(result, dev, space),
            "evaluations": result.evaluations,
            "iterations": result.iterations,
            "repeats": result.repeats,
            "seconds": seconds,
        }

    def _plainest(self, result: Result, dev: "Scores", space: Any) -> dict[str, Any]:
        """The one-standard-error choice; none of a search by another measure than the score."""
        if self.search.objective != "score":
            return {}
        examples = self.task.examples(self.corpus, "dev")
        error = standard_error(replicates(self.task, dev.texts, examples))
        plain = result.nearest_centroid(within=error)
        return {
            "one_standard_error": {
                "alpha": named(plain.alpha, space.labels, space.groups),
                "dev": {
                    "score": plain.score,
                    "metrics": plain.metrics,
                    "log_likelihood": plain.log_likelihood,
                },
                "standard_error": error,
            }
        }


def named(alpha: NDArray[np.float64], labels: tuple[str, ...], groups: tuple[str, ...]) -> Named:
    """expert -> weight; with groups, alpha (g, n), group -> expert -> weight."""
    if alpha.ndim == 1:
        return dict(zip(labels, alpha.tolist(), strict=True))
    return {
        group: dict(zip(labels, row.tolist(), strict=True))
        for group, row in zip(groups, alpha, strict=True)
    }


def weights(alpha: Named) -> NDArray[np.float64]:
    """alpha as `named` was given it, (n,) or (g, n)."""
    rows = [list(row.values()) if isinstance(row, dict) else row for row in alpha.values()]
    return np.array(rows)


def _cross_fitted(crossed: CrossFitted, result: Result, space: Any) -> dict[str, Any]:
    """The cross-fitted score, and how far dev's score of the result is above it."""
    scored, more = (
        {(trial.alpha.tobytes(), trial.precision) for found in some for trial in found.trials}
        for some in ([result], crossed.searches)
    )
    return {
        "score": crossed.score,
        "metrics": crossed.metrics,
        "alphas": [named(x.alpha, space.labels, space.groups) for x in crossed.searches],
        "optimism": result.score - crossed.score,
        "evaluations": len(more - scored),  # beside the result's own
    }


def _table(
    result: Result, labels: tuple[str, ...], groups: tuple[str, ...]
) -> tuple[list[str], list[list[Any]]]:
    weights = [f"{group}/{label}" for group in groups for label in labels]
    columns = ["index", *(labels if len(groups) == 1 else weights), "score", "log_likelihood"]
    rows = [[t.index, *t.alpha.ravel().tolist(), t.score, t.log_likelihood] for t in result.trials]
    return columns, rows
