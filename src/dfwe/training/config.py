"""How a model is trained: Table 1 of the paper and what it leaves open."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dfwe.errors import UserError, check_choice, check_whole
from dfwe.training.freezing import KNOWN, Trained

PRECISIONS = ("32-true", "bf16-mixed")
LEAST = {"batch": 1, "effective_batch": 1, "epochs": 1, "warmup": 0, "tokens": 1}


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of one training run.

    Args:
        learning_rate: Adam's, constant after the warm-up.
        batch: examples of one task whose token losses are averaged together (TLiDB's GPU batch).
        effective_batch: examples of an optimizer step, a multiple of `batch`.
        epochs: at most so many passes.
        patience: epochs without a better dev score before training stops; None never stops.
        warmup: optimizer steps of linear warm-up.
        precision: Lightning's name: `32-true`, or `bf16-mixed`.
        monitor: whose dev score selects the epoch: the `target`'s (the paper), or the expert's
            `own`, so that targets can share a source's expert.
        parameters: what is trained: `all`, `biases` (BitFit) or layer `norms`; a head always.
        tokens: padded source tokens of a micro-batch. The gradient is the same for every value,
            up to rounding, but not what dropout draws.
    """

    learning_rate: float = 1e-4
    batch: int = 8
    effective_batch: int = 24
    epochs: int = 5
    patience: int | None = None
    warmup: int = 0
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    monitor: Literal["target", "own"] = "target"
    parameters: Trained = "all"
    tokens: int = 2048

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            check_whole(f"training.{name}", getattr(self, name), least)
        if self.patience is not None:
            check_whole("training.patience", self.patience, 1)
        if self.effective_batch % self.batch:
            raise UserError(
                f"training.effective_batch={self.effective_batch} is not a multiple of "
                f"training.batch={self.batch}."
            )
        check_choice("training.precision", self.precision, PRECISIONS)
        check_choice("training.monitor", self.monitor, ("target", "own"))
        check_choice("training.parameters", self.parameters, KNOWN)
        if not isinstance(self.learning_rate, int | float) or self.learning_rate <= 0:
            raise UserError(f"training.learning_rate={self.learning_rate} must be above 0.")

    def settings(self) -> dict[str, Any]:
        """What decides weights; `monitor` shows in the recipe as the monitored task."""
        kept = asdict(self)
        del kept["monitor"]
        if self.parameters == "all":  # as recipes said it before there was a choice
            del kept["parameters"]
        else:
            kept["head"] = "with pooler"  # as `freeze` counts it
        return kept
