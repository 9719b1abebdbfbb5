"""Models made without a search: the base with the target's head, and merges of several."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfwe.data.corpus import Corpus
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.recipe import Recipe
from dfwe.tasks.task import Task
from dfwe.weights.loading import save

if TYPE_CHECKING:
    from torch import Tensor

    from dfwe.weights.space import WeightSpace

VERSION = 1
Method = Callable[["WeightSpace", "Tensor"], "Tensor"]  # experts, base (P,) -> theta (P,)


@dataclass(frozen=True)
class Base:
    """The pretrained model as training on `task` starts from it: theta_0.

    Studies that start from the same weights and head share it.
    """

    group: str
    task: Task
    corpus: Corpus
    model: ModelFamily
    seed: int
    pretraining: Step | None = None

    stage = "experts"
    label = "base"

    @property
    def parents(self) -> tuple[Step, ...]:
        return () if self.pretraining is None else (self.pretraining,)

    @cached_property
    def recipe(self) -> Recipe:
        settings = self.model.origin(self.task, self.corpus, self.seed)
        return Recipe("base", VERSION, settings, tuple(step.recipe for step in self.parents))

    def run(self, context: Context) -> None:
        folder = context.store.weights(self.pretraining.recipe) if self.pretraining else None
        network, tokenizer = self.model.start(
            folder or self.model.folder, self.task, self.corpus, self.seed
        )
        with context.log(self.recipe, self.label, self.group) as run_log:
            made = context.store.commit(
                self.recipe, lambda path: save(network, tokenizer, path), {}
            )
            run_log.result(self.recipe, made)


@dataclass(frozen=True)
class Merge:
    """One model from several by a fixed rule, which sees no data.

    Args:
        stage: the stage that makes it.
        experts: the models; those without a head for `task` get the one training would start from.
        base: theta_0.
        method: (space of the experts, theta_0) -> theta, as in `dfwe.weights.merge`.
    """

    stage: str
    label: str
    group: str
    experts: tuple[Step, ...]
    base: Base
    method: Method

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.base, *self.experts)

    @cached_property
    def recipe(self) -> Recipe:
        method: Any = self.method
        plain = isinstance(method, partial)
        name, keywords = (method.func, method.keywords) if plain else (method, {})
        settings = {"method": name.__name__, **keywords}
        return Recipe("merge", VERSION, settings, tuple(step.recipe for step in self.parents))

    def run(self, context: Context) -> None:
        from dfwe.weights.space import WeightSpace

        began = time.monotonic()
        base = self.base

        def start(step: Step) -> tuple[Any, Any]:
            folder = context.store.weights(step.recipe)
            return base.model.start(folder, base.task, base.corpus, base.seed)

        network, tokenizer = start(base)
        whole = WeightSpace.from_modules([network])
        rows = [WeightSpace.from_modules([start(step)[0]]).rows[0] for step in self.experts]
        space = whole.with_rows(rows, [step.label for step in self.experts])
        theta = self.method(space, whole.rows[0])
        whole.with_rows([theta], [self.label]).write([1.0], network)

        def fill(folder: Path) -> None:
            save(network, tokenizer, folder)

        with context.log(self.recipe, self.label, self.group) as run_log:
            made = context.store.commit(self.recipe, fill, {"seconds": time.monotonic() - began})
            run_log.result(self.recipe, made)


def average(space: "WeightSpace", base: "Tensor") -> "Tensor":
    """The experts' uniform average, whatever the base is."""
    return space.at([1.0 / space.n] * space.n)
