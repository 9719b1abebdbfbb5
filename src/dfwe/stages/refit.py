"""Training on train and dev together, for as many epochs as trainings without a fold preferred."""

from dataclasses import dataclass, field
from statistics import median_low
from typing import ClassVar

from dfwe.pipeline.record import Cost, Record
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.stages.train import Train, TrainRecord
from dfwe.weights.loading import save


class RefitRecord(Record):
    """A training for a fixed number of epochs.

    Args:
        epochs: that were trained.
        train_loss: of each, the mean over its steps, in nats per target token.
        cost: tokens read in training.
    """

    epochs: int
    train_loss: tuple[float, ...]
    cost: Cost


@dataclass(frozen=True, eq=False)
class Refit(Step):
    """A training whose last epoch is kept: no examples are left to choose one by.

    It has the median of the numbers of epochs after which `folds` were best, the lower one of the
    middle two.

    Args:
        training: how it is trained, on what and from where.
        folds: the same training without each fold.
    """

    training: Train
    folds: tuple[Train, ...]

    kind: ClassVar[str] = "refit"
    record: ClassVar[type[Record]] = RefitRecord
    stage: str = field(init=False)
    label: str = field(init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        for name in ("stage", "label", "group"):
            object.__setattr__(self, name, getattr(self.training, name))

    @property
    def parents(self) -> tuple[Step, ...]:
        return (*self.training.parents, *self.folds)

    def settings(self) -> Settings:
        return self.training.settings()

    def run(self, run: Run) -> RefitRecord:
        """Trains, or resumes where a killed run stopped."""
        from dfwe.callbacks.epochs import Epochs

        best = [run.read(fold, TrainRecord).best_epoch for fold in self.folds]
        epochs = Epochs()
        trained = self.training.fit(run, epochs, number=median_low(best))
        save(trained.network, trained.tokenizer, run.output)
        return RefitRecord(
            epochs=len(epochs.epochs),
            train_loss=tuple(row.train_loss for row in epochs.epochs),
            cost=trained.cost,
        )
