"""Stage `pretrain`: a small T5 from a corpus's training dialogues alone."""

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.tokenization import as_tokenizer
from dfwe.models.family import ModelFamily
from dfwe.pipeline.recipe import digest
from dfwe.pipeline.record import Record
from dfwe.pipeline.step import Run, Settings, Step
from dfwe.pretraining.config import PretrainingConfig
from dfwe.pretraining.span_corruption import Blocks, build, pretraining_texts, train_tokenizer
from dfwe.weights.loading import save
from dfwe.weights.untyped import halve


class PretrainRecord(Record):
    """The last pass's training loss, in nats per target token."""

    loss: float


@dataclass(frozen=True, eq=False)
class Pretrain(Step):
    """Span corruption on the whole training split; dev and test dialogues are never read.

    Args:
        model: whose `pretraining` has sizes and schedule.
        corpus: its whole training split is read, whatever the tasks read.
        device: the kind of device that trains.
    """

    model: ModelFamily
    corpus: Corpus
    device: str

    kind: ClassVar[str] = "pretrain"
    version: ClassVar[int] = 3
    record: ClassVar[type[Record]] = PretrainRecord
    stage: str = field(default="pretrain", init=False)
    label: str = field(init=False)
    group: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.model.name)
        object.__setattr__(self, "group", self.model.name)

    @property
    def config(self) -> PretrainingConfig:
        assert self.model.pretraining is not None
        return self.model.pretraining

    @cached_property
    def texts(self) -> list[str]:
        return pretraining_texts(self.corpus.whole().dialogues("train"))

    @property
    def counts_as_cost(self) -> bool:
        return False

    def settings(self) -> Settings:
        return {"text": digest(self.texts), "device": self.device, **asdict(self.config)}

    def run(self, run: Run) -> PretrainRecord:
        """Pretrains, or resumes after the last finished pass."""
        from dfwe.callbacks.checkpoint import EpochCheckpoint
        from dfwe.callbacks.epochs import Epochs
        from dfwe.callbacks.progress import TrainingBar
        from dfwe.pretraining.module import Passes, SpanCorruptionModule

        run.check_device(self.device)
        config = self.config
        tokenizer = train_tokenizer(self.texts, config.vocabulary)
        network = build(
            as_tokenizer(tokenizer),
            d_model=config.d_model,
            d_ff=config.d_ff,
            layers=config.layers,
            heads=config.heads,
            seed=config.seed,
        )
        blocks = Blocks(
            self.texts,
            as_tokenizer(tokenizer),
            block=config.block,
            batch=config.batch,
            density=config.density,
            span=config.span,
            whole=config.whole,
        )
        module = SpanCorruptionModule(
            network, config.epochs * blocks.steps, config.learning_rate, config.warmup
        )
        passes, last = Epochs(), EpochCheckpoint(run.work)
        run.fit(
            module,
            Passes(blocks, config.seed),
            [passes, TrainingBar(f"pretrain {self.label}", passes), last],
            last.resumable,
            max_epochs=config.epochs,
            gradient_clip_val=1.0,
        )
        run.earlier_seconds = passes.earlier_seconds
        halve(network)
        save(network, tokenizer, run.output)  # half the size; `load` gives float32
        return PretrainRecord(loss=passes.epochs[-1].train_loss)
