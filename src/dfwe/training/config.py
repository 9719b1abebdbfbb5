"""How a model is trained: Table 1 of the paper and what it leaves open."""

from dataclasses import asdict
from typing import Literal

from dfwe.errors import UserError
from dfwe.settings import Count, Positive, Whole, settings
from dfwe.training.freezing import Trained


@settings("training")
class TrainingConfig:
    """Settings of one training run.

    Args:
        learning_rate: Adam's, constant after the warm-up.
        batch: examples of one task whose token losses are averaged together (TLiDB's GPU batch).
        effective_batch: examples of an optimizer step, a multiple of `batch`.
        epochs: the most passes over the training examples.
        patience: epochs without a better dev score before training stops; None never stops.
        warmup: optimizer steps of linear warm-up.
        precision: Lightning's name: `32-true`, or `bf16-mixed`.
        monitor: whose dev score selects the epoch: the `target`'s (the paper), or, by `own`, that
            of a source for its expert, so that targets can share it.
        parameters: what is trained: `all`, `biases` (BitFit) or layer `norms`; a head always.
        tokens: padded source tokens of a micro-batch. The gradient is the same for every value,
            up to rounding, but not what dropout draws.

    Raises:
        UserError: a setting is out of its range, or of another type.
    """

    learning_rate: Positive = 1e-4
    batch: Count = 8
    effective_batch: Count = 24
    epochs: Count = 5
    patience: Count | None = None
    warmup: Whole = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    monitor: Literal["target", "own"] = "target"
    parameters: Trained = "all"
    tokens: Count = 2048

    def __post_init__(self) -> None:
        if self.effective_batch % self.batch:
            raise UserError(
                f"training.effective_batch={self.effective_batch} is not a multiple of "
                f"training.batch={self.batch}."
            )

    def settings(self) -> dict[str, object]:
        """What decides weights; `monitor` shows in the recipe as the monitored task."""
        values = asdict(self)
        del values["monitor"]
        return values
