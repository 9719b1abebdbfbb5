"""Stages `experts` and `finetune`: training on one or more tasks (sections 4.2.1, 4.3)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import about_tokens, fingerprint
from dfwe.errors import UserError
from dfwe.models.family import ModelFamily
from dfwe.pipeline.record import Cost, Record, SplitScores
from dfwe.pipeline.step import Run, Settings, Size, Step
from dfwe.pipeline.trainer import build_callbacks
from dfwe.scoring.decoding import Decoding
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import save

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.callbacks.checkpoint import BestEpoch
    from dfwe.callbacks.epochs import Epoch, Epochs


class EpochRecord(Record):
    """One epoch.

    Args:
        epoch: from 1.
        train_loss: the mean over its steps, in nats per target token.
        dev: the monitored task's scores after it.
        seconds: what it took.
    """

    epoch: int
    train_loss: float
    dev: SplitScores
    seconds: float


class TrainRecord(Record):
    """A training.

    Args:
        monitor: the task whose dev score selected the epoch.
        best_epoch: the epoch whose weights are kept, from 1.
        dev: its scores.
        epochs: all that were trained.
        cost: tokens read in training.
    """

    monitor: str
    best_epoch: int
    dev: SplitScores
    epochs: tuple[EpochRecord, ...]
    cost: Cost


@dataclass(frozen=True, eq=False)
class Train(Step):
    """Trains a model on the few-shot training splits of `tasks`; keeps its best dev epoch.

    Args:
        stage: `experts` or `finetune`.
        label: what a person calls the expert; not part of its address.
        group: what a logger groups it under.
        tasks: the training set, one or several tasks.
        monitor: the task whose dev score selects the epoch.
        corpus: where the tasks' dialogues come from.
        model: the family and its pretrained weights.
        training: how it is trained.
        decoding: how dev is answered.
        seed: of the order of examples, dropout and fresh heads.
        device: the kind of device that trains: dropout draws other numbers on each.
        start: the step whose weights training starts from; None starts from `model`.
        head: the seed of a fresh head, where it is not `seed`: heads from one seed can be mixed.
    """

    stage: str
    label: str
    group: str
    tasks: tuple[Task, ...]
    monitor: Task
    corpus: Corpus
    model: ModelFamily
    training: TrainingConfig
    decoding: Decoding
    seed: int
    device: str
    start: Step | None = None
    head: int | None = None

    kind: ClassVar[str] = "train"
    record: ClassVar[type[Record]] = TrainRecord

    @property
    def parents(self) -> tuple[Step, ...]:
        return () if self.start is None else (self.start,)

    def settings(self) -> Settings:
        return {
            "train": {
                task.name: fingerprint(task.examples(self.corpus, "train")) for task in self.tasks
            },
            "order": [task.name for task in self.tasks],  # draws are mixed in this order
            "dev": fingerprint(self.monitor.examples(self.corpus, "dev")),
            "monitor": self.monitor.settings(),
            "model": self.model.settings(),
            "training": self.training.settings(),
            "decoding": self.decoding.settings(),
            "seed": self.seed,
            "device": self.device,
            "head": self.head,
        }

    @property
    def size(self) -> Size:
        splits = [task.examples(self.corpus, "train") for task in self.tasks]
        batches = sum(self.training.batches_of(len(split)) for split in splits)
        epochs = self.training.epochs_of(max(1, batches // self.training.batches))
        tokens = sum(about_tokens(split, self.model.input_limit) for split in splits)
        return Size(
            examples=epochs * sum(map(len, splits)),
            tokens=epochs * tokens,
            parameters=self.model.parameters,
            unfinished=4,  # the last epoch with Adam's two moments, and the best one
        )

    def check(self) -> None:
        """Raise UserError if the training splits are too small for these settings, an optimizer
        or a callback cannot be made, or dev cannot be answered by this decoding or measured by
        its metrics."""
        self.monitor.check_metrics(self.corpus)
        self.decoding.check(self.monitor, self.corpus)
        self.training.check()
        self.training.check_size(
            {task.name: len(task.examples(self.corpus, "train")) for task in self.tasks}
        )

    def run(self, run: Run) -> TrainRecord:
        """Trains, or resumes where a killed run stopped."""
        from dfwe.callbacks.checkpoint import BestEpoch
        from dfwe.callbacks.epochs import ScoredEpochs

        scored, best = ScoredEpochs(), BestEpoch(run.work, copies=bool(self.training.callbacks))
        trained = self.fit(run, scored, best)
        if "fast_dev_run" not in run.context.shortened:  # which keeps no epoch
            best.restore(trained.network)
        save(trained.network, trained.tokenizer, run.output)
        epochs = tuple(_epoch(row) for row in scored.epochs)
        dev = epochs[scored.best - 1].dev
        run.log.summary({"best_epoch": scored.best, "dev/best_score": dev.score})
        return TrainRecord(
            monitor=self.monitor.name,
            best_epoch=scored.best,
            dev=dev,
            epochs=epochs,
            cost=trained.cost,
        )

    def fit(
        self,
        run: Run,
        epochs: "Epochs",
        best: "BestEpoch | None" = None,
        number: int | None = None,
    ) -> "Trained":
        """The network after its last epoch; what a killed run has trained is not trained again.

        Args:
            run: of the step that trains so.
            epochs: the rows of the epochs.
            best: keeps the weights of the epoch that dev prefers; None where dev is not scored.
            number: of epochs; None for as many as `training` and dev say.
        """
        import lightning as L

        from dfwe.callbacks.checkpoint import EpochCheckpoint
        from dfwe.callbacks.early_stopping import Patience
        from dfwe.callbacks.progress import TrainingBar
        from dfwe.training.datamodule import TaskDataModule

        run.check_device(self.device)
        L.seed_everything(self.seed, verbose=False)
        model, corpus, tokens = self.model, self.corpus, run.context.tokens
        start = run.weights(self.start) if self.start else model.folder
        head = self.seed if self.head is None else self.head
        network, tokenizer = model.start(start, self.monitor, corpus, head)
        train = {
            task.name: model.tokenize(task, corpus, "train", tokenizer, tokens)
            for task in self.tasks
        }
        dev = model.tokenize(self.monitor, corpus, "dev", tokenizer, tokens)
        data = TaskDataModule(train, dev, self.training, self.seed)
        assert data.steps is not None
        module = model.module(
            network,
            self.monitor,
            self.decoding,
            dev,
            train=train,
            training=self.training,
            seed=self.seed,
        )
        scores = best is not None
        patience = self.training.patience if scores else None
        stopping = [] if patience is None else [Patience(patience)]
        own = build_callbacks("training.callbacks", self.training.callbacks)
        bar = TrainingBar(f"{self.stage} {run.step.label}", epochs)
        last = EpochCheckpoint(run.work, best)
        run.fit(
            module,
            data,
            [*own, epochs, *stopping, bar, *([] if best is None else [best]), last],
            last.resumable,
            max_epochs=self.training.epochs_of(len(data.steps)) if number is None else number,
            min_steps=(self.training.steps_at_least or None) if number is None else None,
            limit_val_batches=None if scores else 0,
            precision=self.training.precision,
        )
        if not epochs.epochs:
            raise UserError(f"Training '{self.label}' ended before its first epoch was complete.")
        run.earlier_seconds = epochs.earlier_seconds
        read = sum(split.tokens for split in train.values())
        cost = Cost(tokens=read * len(epochs.epochs), parameters=network.num_parameters())
        return Trained(network, tokenizer, cost)


@dataclass(frozen=True)
class Trained:
    """What a training leaves, before it is stored."""

    network: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerBase"
    cost: Cost


def _epoch(row: "Epoch") -> EpochRecord:
    assert row.dev is not None
    return EpochRecord(
        epoch=row.epoch, train_loss=row.train_loss, dev=row.dev, seconds=row.seconds
    )
