"""What every study has: a target, its sources, a family of models, and how they are trained."""

from dataclasses import dataclass
from functools import cached_property

from dfwe.data.corpus import Corpus, by_role
from dfwe.errors import UserError, check_whole
from dfwe.models.family import ModelFamily
from dfwe.scoring.decoding import Decoding
from dfwe.stages.pretrain import Pretrain
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig


@dataclass(frozen=True)
class Experiment:
    """What decides the models of one target task: the composed configuration as objects.

    Args:
        corpus: where dialogues come from; once built, as this target and its sources read it.
        task: the target.
        sources: the related tasks.
        model: the family and its pretrained weights.
        decoding: how answers are read off a model.
        training: how models are trained.
        seed: of everything that is drawn.
        device: the kind of device that trains.

    Raises:
        UserError: a source is the target itself, or is named twice; the model cannot be read by
            this decoding or trained by these settings.
    """

    corpus: Corpus
    task: Task
    sources: tuple[Task, ...]
    model: ModelFamily
    decoding: Decoding
    training: TrainingConfig
    seed: int
    device: str

    def __post_init__(self) -> None:
        check_whole("seed", self.seed)
        object.__setattr__(self, "corpus", by_role(self.corpus, self.task.title))
        names = [source.name for source in self.sources]
        if self.task.name in names:
            raise UserError(
                f"The source '{self.task.name}' is the target task itself; leave it out of "
                f"sources.list={names}, or choose another target by task=."
            )
        if len(set(names)) < len(names):
            raise UserError(f"sources.list={names} names a task twice; name each once.")
        self.model.check(self.decoding, self.training)

    @cached_property
    def pretraining(self) -> Pretrain | None:
        """The step that pretrains the model, if it is pretrained here."""
        if self.model.pretraining is None:
            return None
        return Pretrain(self.model, self.corpus, self.device)

    @property
    def group(self) -> str:
        """How runs are grouped in the logger: target and seed."""
        return f"{self.task.name}-seed{self.seed}"
