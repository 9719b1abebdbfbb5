"""How a model is trained: Table 1 of the paper and what it leaves open."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Annotated, Literal

from pydantic import BeforeValidator

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred, describe, parts
from dfwe.pipeline.trainer import build_callbacks
from dfwe.plain import Plain
from dfwe.settings import Count, Positive, Whole, settings
from dfwe.training.freezing import Trained
from dfwe.training.optimizers import check_optimizer

ADAM = Deferred("dfwe.training.optimizers.adam")
CONSTANT = Deferred("dfwe.training.optimizers.constant")


def _callable(key: str) -> BeforeValidator:
    def check(value: object) -> object:
        if not callable(value):
            raise UserError(
                f"training.{key}={value} names nothing that can be called: choose by "
                f"training/{key}=, or by dotted path, training.{key}._target_=."
            )
        return value

    return BeforeValidator(check)


@settings("training")
class TrainingConfig:
    """Settings of one training run.

    Args:
        learning_rate: Adam's, constant after the warm-up.
        batch: examples of one task whose token losses are averaged together (TLiDB's GPU batch).
        effective_batch: examples of an optimizer step, a multiple of `batch`.
        epochs: the most passes over the training examples.
        patience: epochs without a better dev score before training stops; None never stops.
        steps_at_least: optimizer steps that a training has, with more epochs where the data are
            few; it does not stop before.
        warmup: optimizer steps of linear warm-up.
        clip: the largest norm of a step's gradient, as in TLiDB; None does not clip.
        accumulation: how an optimizer step sums its batches' losses. `tlidb`, as the paper's
            code: each divided by `effective_batch / batch`, in a multi-task run also by the root
            of its task's number of batches; what an epoch leaves over is carried into the first
            step of the next. `mean`: their mean, and the last step of an epoch may be smaller.
        precision: Lightning's name: `32-true`, or `bf16-mixed`.
        monitor: whose dev score selects the epoch: the `target`'s (the paper), or, by `own`, that
            of a source for its expert, so that targets can share it.
        noise: the order of examples and dropout: `common` to all experts of a study, or each has
            its `own`; heads start equal either way.
        parameters: what is trained: `all`, `biases` (BitFit) or layer `norms`; a head always.
        tokens: padded source tokens of a micro-batch. The gradient is the same for every value,
            up to rounding, but not what dropout draws.
        optimizer: called with the trained parameters and the rate (`training.optimizers`).
        schedule: called with the optimizer, `warmup` and the number of steps.
        callbacks: of Lightning, in order, which may change what is trained; each is called for
            each training.

    Raises:
        UserError: a setting is out of its range, or of another type.
    """

    learning_rate: Positive = 1e-4
    batch: Count = 8
    effective_batch: Count = 24
    epochs: Count = 5
    patience: Count | None = None
    steps_at_least: Whole = 0
    warmup: Whole = 0
    clip: Positive | None = 1.0
    accumulation: Literal["tlidb", "mean"] = "tlidb"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    monitor: Literal["target", "own"] = "target"
    noise: Literal["common", "own"] = "common"
    parameters: Trained = "all"
    tokens: Count = 2048
    optimizer: Annotated[Callable[..., object], _callable("optimizer")] = ADAM
    schedule: Annotated[Callable[..., object], _callable("schedule")] = CONSTANT
    callbacks: Sequence[Annotated[Callable[..., object], _callable("callbacks")]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "callbacks", tuple(self.callbacks))
        if "lr" in parts(self.optimizer)[1]:
            raise UserError("training.optimizer.lr= is not set there: set training.learning_rate.")
        if self.effective_batch % self.batch:
            raise UserError(
                f"training.effective_batch={self.effective_batch} is not a multiple of "
                f"training.batch={self.batch}."
            )

    @property
    def batches(self) -> int:
        """Batches of an optimizer step."""
        return self.effective_batch // self.batch

    def batches_of(self, examples: int) -> int:
        """Batches that so many examples of one task make; the last may be smaller."""
        return -(-examples // self.batch)

    def epochs_of(self, steps: int) -> int:
        """Epochs of a training whose epochs have so many optimizer steps."""
        return max(self.epochs, -(-self.steps_at_least // steps))

    def check_size(self, examples: Mapping[str, int]) -> None:
        """Check that an epoch has a whole optimizer step.

        Args:
            examples: task name -> the size of its training split.

        Raises:
            UserError: `accumulation=tlidb` would never make a step.
        """
        batches = sum(map(self.batches_of, examples.values()))
        if self.accumulation == "tlidb" and batches < self.batches:
            raise UserError(
                f"An epoch of {' and '.join(examples)} has {sum(examples.values())} examples, too "
                f"few for one step of training.effective_batch={self.effective_batch}; lower it, "
                "or set training.accumulation=mean."
            )

    def check(self) -> None:
        """Try what is chosen by dotted path, before hours of work.

        Raises:
            UserError: an optimizer, a schedule or a callback cannot be made.
        """
        if self.callbacks:
            build_callbacks("training.callbacks", self.callbacks)
        if self._is_default("optimizer", ADAM) and self._is_default("schedule", CONSTANT):
            return
        check_optimizer(self.optimizer, self.schedule, lr=self.learning_rate, warmup=self.warmup)

    def settings(self) -> Mapping[str, Plain]:
        """What decides weights; `monitor` shows in a recipe as the task, `noise` as the seed.

        An optimizer, a schedule and callbacks stand there where they are not the usual ones, so
        that trainings by these keep their addresses.
        """
        chosen = ("optimizer", "schedule", "callbacks")
        hidden = ("monitor", "noise", *chosen)
        names = [item.name for item in fields(self) if item.name not in hidden]
        values: dict[str, Plain] = {name: getattr(self, name) for name in names}
        for name, usual in (("optimizer", ADAM), ("schedule", CONSTANT)):
            if not self._is_default(name, usual):
                values[name] = _described(getattr(self, name))
        if self.callbacks:
            values["callbacks"] = [describe(callback) for callback in self.callbacks]
        return values

    def _is_default(self, name: str, usual: Deferred) -> bool:
        return describe(getattr(self, name)) == describe(usual)


def _described(part: Callable[..., object]) -> dict[str, Plain]:
    """A part as its recipe has it, without the rate's default: `learning_rate` is the rate."""
    described = describe(part)
    arguments = described["arguments"]
    assert isinstance(arguments, Mapping)
    return {**described, "arguments": {k: v for k, v in arguments.items() if k != "lr"}}
