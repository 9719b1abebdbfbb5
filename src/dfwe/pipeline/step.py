"""A step: one cached result, what decides it and how it is computed."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from dfwe.errors import UserError, reason
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Record
from dfwe.pipeline.trainer import build_callbacks
from dfwe.plain import Plain

if TYPE_CHECKING:
    import lightning as L

    from dfwe.pipeline.context import Context
    from dfwe.pipeline.run_log import RunLog

Settings = Mapping[str, Plain]


@dataclass(frozen=True)
class Size:
    """How much computing a step is, as far as that is known beforehand.

    Args:
        examples: that are read, over all passes; at most, where it may stop early.
        tokens: about as many, as `Cost.tokens` counts them.
        parameters: of the model; None while there is none to look at.
        unfinished: how many models as large it keeps on disk until it is done.
    """

    examples: int = 0
    tokens: int = 0
    parameters: int | None = None
    unfinished: int = 0


AnyRecord = TypeVar("AnyRecord", bound=Record)


class Step(ABC):
    """One node of a plan; a frozen dataclass whose fields pickle to less than 100 kB.

    Two steps are equal where their recipes are.

    Attributes:
        kind: names recipe, folder and artifact: letters, digits, "-".
        version: raised when the same settings give another result.
        record: the type of what is stored.
        has_weights: whether the result is a model.
        timed_as: the kind of step whose stored timings tell how long this one takes.
        stage: which `stage=` computes this step.
        label: what a person calls it; never hashed.
        group: what a logger groups it under; never hashed.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    record: ClassVar[type[Record]]
    has_weights: ClassVar[bool] = True
    timed_as: ClassVar[str | None] = None
    stage: str
    label: str
    group: str

    @property
    def parents(self) -> tuple["Step", ...]:
        """The steps whose results this one starts from."""
        return ()

    @property
    def reads_weights(self) -> bool:
        """Whether computing it needs its parents' weights, or their records and files alone."""
        return True

    @property
    def counts_as_cost(self) -> bool:
        """Whether a method that rests on this step pays for it."""
        return True

    @abstractmethod
    def settings(self) -> Settings:
        """What decides the result besides the parents, as plain data."""

    @property
    def size(self) -> Size:
        """How much computing this is, for a forecast."""
        return Size()

    @abstractmethod
    def run(self, run: "Run") -> Record:
        """Computes the result: files into `run.output`, the record returned."""

    @cached_property
    def recipe(self) -> Recipe:
        parents = tuple(step.recipe for step in self.parents)
        return Recipe(self.kind, self.version, self.settings(), parents)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Step) and self.recipe.name == other.recipe.name

    def __hash__(self) -> int:
        return hash(self.recipe.name)

    def __getstate__(self) -> dict[str, object]:
        """The declared fields: what was computed from them stays behind."""
        assert is_dataclass(self)
        names = {item.name for item in fields(self)}
        return {name: value for name, value in self.__dict__.items() if name in names}


@dataclass
class Run:
    """What the executor hands to a step that it computes.

    Args:
        step: the step.
        context: where and how the plan runs.
        output: an empty folder: what is written there becomes the result.
        work: unfinished work, kept until the result is committed.
        log: the step's log.
        earlier_seconds: what earlier attempts took whose work this one continues; a step with
            a journal (epochs, trials) sets it.
    """

    step: Step
    context: "Context"
    output: Path
    work: Path
    log: "RunLog"
    earlier_seconds: float = 0.0

    def weights(self, parent: Step) -> Path:
        """The folder of a parent's weights, checked against their digest.

        Raises:
            UserError: the result is missing or its weights are damaged.
        """
        return self.context.store.weights(parent.recipe)

    def check_device(self, kind: str) -> None:
        """Raise UserError unless this run's device is of the kind that the recipe names."""
        if self.context.device.type != kind:
            raise UserError(
                f"'{self.step.label}' is to be trained on {kind}, as its recipe says, but this "
                f"run's device is {self.context.device.type}; set trainer.accelerator={kind}, or "
                "to this device's kind."
            )

    def trainer(self, **settings: object) -> "L.Trainer":
        """Lightning's trainer, whose files are this step's unfinished work."""
        name = self.step.recipe.name
        return self.context.build_trainer(name, default_root_dir=self.work, **settings)

    def fit(
        self,
        module: "L.LightningModule",
        data: "L.LightningDataModule",
        callbacks: Sequence["L.Callback"],
        resumable: Path | None,
        **settings: object,
    ) -> None:
        """Trains a module; as short as the trainer's arguments say.

        Args:
            module: what is trained.
            data: its batches, drawn anew each epoch.
            callbacks: Lightning's; among them what keeps the epochs.
            resumable: the checkpoint to resume from.
            settings: further arguments of the Trainer.

        Raises:
            UserError: Lightning refuses what it is asked for.
        """
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from lightning.pytorch.callbacks import ProgressBar

        from dfwe.pipeline.journal import Journal, Replay

        observers = build_callbacks("callbacks", self.context.callbacks)
        shows = self.context.trainer.arguments.get("enable_progress_bar", True)
        if not shows or any(isinstance(observer, ProgressBar) for observer in observers):
            callbacks = [c for c in callbacks if not isinstance(c, ProgressBar)]
        loggers = self.log.lightning
        if loggers:
            journal = Journal(self.work / "log.jsonl")
            observers = [Replay(journal), *observers]
            loggers = [*loggers, journal]
        shortened = self.context.shortened
        if shortened:
            shortened = {**shortened, "min_steps": None}
        trainer = self.trainer(
            logger=loggers,
            callbacks=[*observers, *callbacks],
            enable_checkpointing=True,
            enable_progress_bar=shows,
            reload_dataloaders_every_n_epochs=1,
            **{**settings, **shortened},
        )
        try:
            trainer.fit(module, data, ckpt_path=resumable, weights_only=True)
        except (MisconfigurationException, ModuleNotFoundError) as error:
            raise UserError(f"Lightning says: {reason(error)}.") from None

    def read(self, parent: Step, record: type[AnyRecord]) -> AnyRecord:
        """What is stored about a parent's result."""
        return self.context.store.record(parent.recipe, record)
