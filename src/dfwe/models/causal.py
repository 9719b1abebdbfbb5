"""Causal language models as a family: the answer continues the prompt."""

from pathlib import Path
from typing import Any, ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.tokenization import TokenizedSplit, tokenize_continued
from dfwe.models.family import ModelFamily
from dfwe.settings import settings
from dfwe.tasks.task import Task


@settings("model")
class CausalLM(ModelFamily):
    """A pretrained decoder, taught and scored on the tokens of the answer alone."""

    family: ClassVar[str] = "causal"

    def settings(self) -> dict[str, Any]:
        return {"family": self.family, **super().settings()}

    def tokenize(
        self, task: Task, corpus: Corpus, split: str, tokenizer: Any, cache: Path | None = None
    ) -> TokenizedSplit:
        return tokenize_continued(
            task.examples(corpus, split),
            tokenizer,
            max_input=self.max_input,
            max_target=self.max_target,
            cache=cache,
        )
