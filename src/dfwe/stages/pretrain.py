"""Stage `pretrain`: make a small T5 from a corpus's training dialogues alone."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dfwe.data.corpus import Corpus
from dfwe.models.family import ModelFamily
from dfwe.pipeline.context import Context
from dfwe.pipeline.executor import Step
from dfwe.pipeline.recipe import Recipe, digest
from dfwe.pretraining.span_corruption import Blocks, build, pretraining_texts, train_tokenizer
from dfwe.weights.loading import save

VERSION = 3


@dataclass(frozen=True)
class Pretrain:
    """Span corruption on the whole training split; dev and test dialogues are never read.

    Args:
        model: whose `pretraining` names sizes and schedule: vocabulary, d_model, d_ff, layers,
            heads, block, batch, density, span, whole, epochs, learning_rate, warmup, seed.
        corpus: its whole training split is read, whatever the tasks read.
    """

    model: ModelFamily
    corpus: Corpus

    stage = "pretrain"

    @property
    def parents(self) -> tuple[Step, ...]:
        return ()

    @property
    def label(self) -> str:
        return self.model.name

    @cached_property
    def texts(self) -> list[str]:
        return pretraining_texts(self.corpus.whole().dialogues("train"))

    @cached_property
    def recipe(self) -> Recipe:
        settings = {"text": digest(self.texts), **(self.model.pretraining or {})}
        return Recipe(self.stage, VERSION, settings)

    def run(self, context: Context) -> None:
        """Pretrain, or go on after the last finished pass, and commit the last weights."""
        from dfwe.callbacks.checkpoint import EpochCheckpoint, Epochs
        from dfwe.callbacks.progress import TrainingBar
        from dfwe.pretraining.module import Passes, SpanCorruptionModule

        s: dict[str, Any] = dict(self.model.pretraining or {})
        tokenizer = train_tokenizer(self.texts, s["vocabulary"])
        sizes = {key: s[key] for key in ("d_model", "d_ff", "layers", "heads", "seed")}
        network = build(tokenizer, **sizes)
        shape = ("block", "batch", "density", "span", "whole")
        blocks = Blocks(self.texts, tokenizer, **{key: s[key] for key in shape})
        module = SpanCorruptionModule(
            network, s["epochs"] * blocks.steps, s["learning_rate"], s["warmup"]
        )
        work = context.store.work(self.recipe)
        passes, resume = Epochs(), EpochCheckpoint(work)
        with context.log(self.recipe, self.label, self.label) as run_log:
            trainer = context.trainer(
                max_epochs=s["epochs"],
                logger=run_log.lightning,
                default_root_dir=work,
                callbacks=[passes, TrainingBar(f"pretrain {self.label}"), resume],
                reload_dataloaders_every_n_epochs=1,
                gradient_clip_val=1.0,
            )
            trainer.fit(
                module, Passes(blocks, s["seed"]), ckpt_path=resume.found, weights_only=False
            )

            def fill(folder: Path) -> None:
                save(network.half(), tokenizer, folder)  # half the size; `load` gives float32

            cost = {"loss": passes.epochs[-1]["train_loss"], "seconds": passes.seconds}
            run_log.result(self.recipe, context.store.commit(self.recipe, fill, cost))
