"""Progress bars of training, scoring and search, one line each, on standard error."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from datetime import timedelta

import lightning as L
from lightning.pytorch.callbacks import ProgressBar
from lightning.pytorch.utilities.types import STEP_OUTPUT
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
)
from rich.text import Text

from dfwe.callbacks.epochs import Epochs
from dfwe.reporting.terminal import console
from dfwe.search.ledger import Trial

log = logging.getLogger(__name__)


class _Clock(ProgressColumn):
    """The time left, as far as it is known; of what has ended, the time that it took."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time if task.finished else task.time_remaining
        if seconds is None:
            return Text("-:--:--")
        left = "" if task.finished else " left"
        return Text(f"{timedelta(seconds=round(seconds))}{left}")


def _is_quiet() -> bool:
    """Whether the terminal is to show warnings alone."""
    handlers = logging.getLogger().handlers
    return any(type(h) is logging.StreamHandler and h.level > logging.INFO for h in handlers)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=12),
        MofNCompleteColumn(),
        _Clock(),
        TextColumn("{task.fields[note]}"),
        console=console(stderr=True),
        disable=_is_quiet(),
    )


def _fill(progress: Progress, task: TaskID) -> None:
    """What has ended is full, though less was done than might have been."""
    progress.update(task, total=progress.tasks[task].completed)
    progress.stop_task(task)


class TrainingBar(ProgressBar):
    """Optimizer steps over all epochs, with the best epoch's dev score or the training loss.

    Args:
        title: what is trained.
        epochs: what each epoch came to; stands before the bar in the list of callbacks.
    """

    def __init__(self, title: str, epochs: Epochs) -> None:
        super().__init__()
        self.title = title
        self.epochs = epochs
        self.progress = _progress()
        self.task = TaskID(0)

    def disable(self) -> None:
        self.progress.disable = True

    def enable(self) -> None:
        self.progress.disable = _is_quiet()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        epochs = trainer.max_epochs or 1
        if trainer.current_epoch > 0:
            log.info(
                "%s: resuming at epoch %d of %d", self.title, trainer.current_epoch + 1, epochs
            )
        self.progress.start()
        self.task = self.progress.add_task(
            self.title,
            total=epochs * int(self.total_train_batches),
            note=self.epochs.note,
            completed=trainer.global_step,
        )

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: STEP_OUTPUT,
        batch: object,
        batch_idx: int,
    ) -> None:
        self.progress.update(self.task, completed=trainer.global_step)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.progress.update(self.task, note=self.epochs.note)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        _fill(self.progress, self.task)
        self.progress.stop()

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        self.progress.stop()


@contextmanager
def search_bar(title: str, evaluations: int | None) -> Generator[Callable[..., None]]:
    """A bar over a search's evaluations; call what it gives with each trial and the best.

    A third argument names another search of as many evaluations, which gets another line.
    """
    with _progress() as progress:
        lines: dict[str, TaskID] = {}

        def begin(name: str) -> None:
            for task in [*lines.values()][-1:]:  # searches follow one another
                _fill(progress, task)
            lines[name] = progress.add_task(name, total=evaluations, note="")

        begin(title)

        def follow(trial: Trial, best: Trial, name: str = title) -> None:
            if name not in lines:
                begin(name)
            task = lines[name]
            note = "" if best.score is None else f"best dev {best.score:.2f}"
            progress.update(task, completed=trial.index + 1, note=note)

        yield follow
        _fill(progress, [*lines.values()][-1])


@contextmanager
def scoring_bar(title: str, models: int) -> Generator[Callable[[], None]]:
    """A bar over scored models; call what it gives once a model."""
    with _progress() as progress:
        task = progress.add_task(title, total=models, note="")
        yield lambda: progress.advance(task)
