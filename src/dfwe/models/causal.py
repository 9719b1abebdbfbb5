"""Causal language models as a family: the answer continues the prompt."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dfwe.data.corpus import Corpus
from dfwe.data.tokenization import TokenizedSplit, as_tokenizer, tokenize_continued
from dfwe.models.family import ModelFamily
from dfwe.plain import Plain
from dfwe.settings import settings
from dfwe.tasks.task import Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@settings("model")
class CausalLM(ModelFamily):
    """A pretrained decoder, taught and scored on the tokens of the answer alone."""

    family: ClassVar[str] = "causal"

    def settings(self) -> Mapping[str, Plain]:
        return {"family": self.family, **super().settings()}

    def tokenize(
        self,
        task: Task,
        corpus: Corpus,
        split: str,
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        return tokenize_continued(
            task.examples(corpus, split),
            as_tokenizer(tokenizer),
            max_input=self.max_input,
            max_target=self.max_target,
            cache=cache,
        )
