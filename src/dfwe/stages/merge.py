"""Models without a search: the base with the target's head, and merges of several."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Generic, TypeVar

from dfwe.data.corpus import Corpus
from dfwe.models.family import ModelFamily
from dfwe.pipeline.deferred import describe
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Settings, Size, Step
from dfwe.stages.import_checkpoint import BaseRecord, ImportBase
from dfwe.stages.mixing import export_into, space_of
from dfwe.tasks.task import Task
from dfwe.weights.loading import save

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.weights.space import WeightSpace

Origin = TypeVar("Origin", bound=Step)  # the step that gives theta_0
MergeRule = Callable[["WeightSpace", "Tensor"], "Tensor"]  # experts, base (P,) -> theta (P,)


class WeightsRecord(Record):
    """A model that was computed without measuring anything."""


@dataclass(frozen=True, eq=False)
class Base(Step):
    """The pretrained model as training on `task` starts from it: theta_0.

    Studies that start from the same weights and head share it.
    """

    group: str
    task: Task
    corpus: Corpus
    model: ModelFamily
    seed: int
    pretraining: Step | None = None

    kind: ClassVar[str] = "base"
    record: ClassVar[type[Record]] = WeightsRecord
    stage: str = field(default="experts", init=False)
    label: str = field(default="base", init=False)

    @property
    def parents(self) -> tuple[Step, ...]:
        return () if self.pretraining is None else (self.pretraining,)

    @property
    def size(self) -> Size:
        return Size(parameters=self.model.parameters)

    def settings(self) -> Settings:
        return self.model.origin(self.task, self.corpus, self.seed)

    def run(self, run: Run) -> WeightsRecord:
        folder = run.weights(self.pretraining) if self.pretraining else self.model.folder
        network, tokenizer = self.model.start(folder, self.task, self.corpus, self.seed)
        save(network, tokenizer, run.output)
        return WeightsRecord()


class ByRule(Step, Generic[Origin]):
    """One model from several and theta_0 by a fixed rule, which sees no data."""

    experts: tuple[Step, ...]
    base: Origin
    rule: MergeRule

    kind: ClassVar[str] = "merge"
    record: ClassVar[type[Record]] = WeightsRecord

    @property
    def parents(self) -> tuple[Step, ...]:
        return (self.base, *self.experts)

    @property
    def size(self) -> Size:
        return self.base.size

    def settings(self) -> Settings:
        return {"rule": describe(self.rule)}


@dataclass(frozen=True, eq=False)
class Merge(ByRule[Base]):
    """A merge of models that were trained here.

    Args:
        stage: the stage that computes it.
        label: what a person calls it.
        group: what a logger groups it under.
        experts: the models; those without a head for `task` get the one training would start from.
        base: theta_0.
        rule: (space of the experts, theta_0) -> theta, as in `dfwe.weights.merge`.
    """

    stage: str
    label: str
    group: str
    experts: tuple[Step, ...]
    base: Base
    rule: MergeRule

    def run(self, run: Run) -> WeightsRecord:
        from dfwe.weights.space import WeightSpace

        base = self.base

        def start(step: Step) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
            return base.model.start(run.weights(step), base.task, base.corpus, base.seed)

        network, tokenizer = start(base)
        whole = WeightSpace.from_modules([network])
        rows = [WeightSpace.from_modules([start(step)[0]]).rows[0] for step in self.experts]
        space = whole.with_rows(rows, [step.label for step in self.experts])
        theta = self.rule(space, whole.rows[0])
        whole.with_rows([theta], [self.label]).write([1.0], network)
        save(network, tokenizer, run.output)
        return WeightsRecord()


@dataclass(frozen=True, eq=False)
class MergeCheckpoints(ByRule[ImportBase]):
    """A merge of a person's checkpoints.

    Args:
        label: what a person calls it.
        group: what a logger groups it under.
        experts: the checkpoints.
        base: theta_0; tensors that it lacks, an encoder's head, stay the checkpoints' average.
        rule: as in `Merge`.
    """

    label: str
    group: str
    experts: tuple[Step, ...]
    base: ImportBase
    rule: MergeRule

    stage: str = field(default="interpolate", init=False)

    def run(self, run: Run) -> WeightsRecord:
        from dfwe.weights.base import merged
        from dfwe.weights.rows import stored_row

        space = space_of(run, self.experts)
        base = stored_row(run.weights(self.base), run.context.store.cache("flat")).theta
        missing = run.read(self.base, BaseRecord).averaged
        theta = merged(self.rule, space, base, missing)
        export_into(run, space.with_rows([theta], [self.label]))
        return WeightsRecord()


def average(space: "WeightSpace", base: "Tensor") -> "Tensor":
    """The experts' uniform average, whatever the base is."""
    return space.at([1.0 / space.n] * space.n)
