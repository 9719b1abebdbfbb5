"""Progress bars: Lightning's for training and scoring, one of our own for the search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning.pytorch.callbacks import RichProgressBar
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dfwe.search.loop import Trial


def training_bar() -> RichProgressBar:
    """Epochs, steps, the running loss and the last dev score."""
    return RichProgressBar(leave=False)


@contextmanager
def search_bar(title: str, evaluations: int | None) -> Iterator["SearchBar"]:
    """A bar over the search's evaluations with the best score so far."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[best]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield SearchBar(progress, progress.add_task(title, total=evaluations, best=""))


class SearchBar:
    """Follows a search trial by trial."""

    def __init__(self, progress: Progress, task: object) -> None:
        self.progress = progress
        self.task = task

    def __call__(self, trial: Trial, best: Trial) -> None:
        shown = "" if best.score is None else f"best dev {best.score:.2f}"
        self.progress.update(self.task, completed=trial.index + 1, best=shown)  # type: ignore[arg-type]


@contextmanager
def scoring_bar(title: str, batches: int) -> Iterator[Callable[[], None]]:
    """A bar over scored batches; call what it gives once a batch."""
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(title, total=batches)
        yield lambda: progress.advance(task)
