"""Sequence-to-sequence models under training: T5 taught by its target tokens."""

from torch import Tensor

from dfwe.model.batches import Batch
from dfwe.model.module import ScoredModule
from dfwe.model.t5 import token_losses


class Seq2Seq(ScoredModule):
    """A transformers T5."""

    def losses(self, batch: Batch) -> Tensor:
        return token_losses(self.network, batch)
