"""Models that generate, under training: taught by their target tokens."""

from torch import Tensor

from dfwe.model.batches import Batch
from dfwe.model.decoding import passes_of
from dfwe.model.module import ScoredModule


class Seq2Seq(ScoredModule):
    """A sequence-to-sequence or causal model of transformers."""

    def losses(self, batch: Batch) -> Tensor:
        return passes_of(self.network).token_losses(self.network, batch)
