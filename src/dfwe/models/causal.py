"""Causal language models as a family: the answer continues the prompt."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from dfwe.data.dialogue import Example
from dfwe.data.tokenization import TokenizedSplit, as_tokenizer, tokenize_continued
from dfwe.models.family import TextModel
from dfwe.plain import Plain
from dfwe.settings import settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@settings("model")
class CausalLM(TextModel):
    """A pretrained decoder, taught and scored on the tokens of the answer alone."""

    family: ClassVar[str] = "causal"

    def settings(self) -> Mapping[str, Plain]:
        return {"family": self.family, **super().settings()}

    def tokenized(
        self,
        examples: tuple[Example, ...],
        tokenizer: "PreTrainedTokenizerBase",
        cache: Path | None = None,
    ) -> TokenizedSplit:
        return tokenize_continued(
            examples,
            as_tokenizer(tokenizer),
            max_input=self.input_limit,
            max_target=self.max_target,
            cache=cache,
        )
