"""Stages `experts` and `finetune`: training on one or more tasks (sections 4.2.1, 4.3)."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from dfwe.data.corpus import Corpus
from dfwe.data.dialogue import fingerprint
from dfwe.errors import UserError
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.loggers import RunLog
from dfwe.pipeline.recipe import Recipe
from dfwe.scoring.decoding import Decoding
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import save

if TYPE_CHECKING:
    from dfwe.callbacks.checkpoint import BestEpoch

VERSION = 1


@dataclass(frozen=True)
class Train:
    """Train a model on the few-shot training splits of `tasks`; keep its best dev epoch.

    Args:
        stage: `experts` or `finetune`.
        label: what a person calls the expert; not part of its address.
        tasks: the training set, one or several tasks.
        monitor: the task whose dev score selects the epoch.
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
    start: Step | None = None
    head: int | None = None

    @property
    def parents(self) -> tuple[Step, ...]:
        return () if self.start is None else (self.start,)

    @cached_property
    def recipe(self) -> Recipe:
        settings = {
            "train": {
                task.name: fingerprint(task.examples(self.corpus, "train")) for task in self.tasks
            },
            # Draws are mixed in this order; one task has none.
            **({"order": [task.name for task in self.tasks]} if len(self.tasks) > 1 else {}),
            "dev": fingerprint(self.monitor.examples(self.corpus, "dev")),
            "monitor": self.monitor.settings(),
            "model": self.model.settings(),
            "training": self.training.settings(),
            "decoding": self.decoding.settings(),
            "seed": self.seed,
            **({} if self.head is None else {"head": self.head}),
        }
        return Recipe(self.stage, VERSION, settings, tuple(step.recipe for step in self.parents))

    def run(self, context: Context) -> None:
        """Train, or go on where a killed run stopped, and commit the best epoch."""
        from dfwe.callbacks.checkpoint import BestEpoch

        best = BestEpoch(context.store.work(self.recipe), self.training.patience)
        with context.log(self.recipe, self.label, self.group) as run_log:
            network, tokenizer, tokens = self._fit(context, best, run_log)
            best.restore(network)
            cost = {"tokens": tokens * len(best.epochs), "parameters": network.num_parameters()}
            made = context.store.commit(
                self.recipe,
                lambda folder: save(network, tokenizer, folder),
                {**self._scores(best), **cost},
            )
            run_log.result(self.recipe, made)

    def _fit(self, context: Context, best: "BestEpoch", run_log: RunLog) -> tuple[Any, Any, int]:
        """The trained network, its tokenizer, and the tokens of an epoch."""
        import lightning as L

        from dfwe.callbacks.checkpoint import EpochCheckpoint
        from dfwe.callbacks.progress import TrainingBar
        from dfwe.training.datamodule import TaskDataModule

        L.seed_everything(self.seed, verbose=False)
        model, corpus = self.model, self.corpus
        start = context.store.weights(self.start.recipe) if self.start else model.folder
        head = self.seed if self.head is None else self.head
        network, tokenizer = model.start(start, self.monitor, corpus, head)
        train = {
            task.name: model.tokenize(task, corpus, "train", tokenizer, context.tokens)
            for task in self.tasks
        }
        dev = model.tokenize(self.monitor, corpus, "dev", tokenizer, context.tokens)
        data = TaskDataModule(train, dev, self.training, self.seed)
        module = model.module(
            network,
            self.monitor,
            self.decoding,
            dev,
            train=train,
            training=self.training,
            seed=self.seed,
        )
        resume = EpochCheckpoint(best.folder)
        trainer = context.trainer(
            max_epochs=self.training.epochs,
            precision=self.training.precision,
            logger=run_log.lightning,
            callbacks=[best, TrainingBar(f"{self.stage} {self.label}"), resume],
            reload_dataloaders_every_n_epochs=1,
            default_root_dir=best.folder,
        )
        trainer.fit(
            module,
            data,
            ckpt_path=resume.found,
            weights_only=False,
        )
        if not best.epochs:
            raise UserError(f"Training '{self.label}' ended before its first epoch was complete.")
        run_log.summary(
            {"best_epoch": best.best, "dev/best_score": best.epochs[best.best]["score"]}
        )
        return network, tokenizer, sum(split.tokens for split in train.values())

    def _scores(self, best: "BestEpoch") -> dict[str, Any]:
        chosen = best.epochs[best.best]
        return {
            "stage": self.stage,
            "label": self.label,
            "monitor": self.monitor.name,
            "best_epoch": best.best,
            "dev": {key: chosen[key] for key in ("score", "metrics", "log_likelihood")},
            "epochs": best.epochs,
            "seconds": best.seconds,
        }
