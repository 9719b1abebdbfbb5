"""How a small T5 is pretrained, as `conf/model/tiny_*.yaml` declares it."""

from typing import Annotated

from pydantic import Field

from dfwe.settings import Count, Positive, Whole, settings


@settings("model.pretraining")
class PretrainingConfig:
    """Sizes of the model, its texts' corruption and its training.

    Args:
        vocabulary: tokens, bytes and sentinels included.
        d_model, d_ff, layers, heads: T5's sizes; as many decoder layers as encoder layers.
        block: tokens of a piece of text.
        batch: blocks of an optimizer step.
        density: share of a block's tokens that are hidden.
        span: the mean length of a hidden span, in tokens.
        whole: share of blocks whose target is the whole text.
        epochs: passes over the texts.
        learning_rate: Adafactor's, relative to a parameter's size.
        warmup: optimizer steps of linear warm-up.
        seed: decides initial weights, order and what is hidden.
    """

    vocabulary: Annotated[int, Field(ge=400)]
    d_model: Count
    d_ff: Count
    layers: Count
    heads: Count
    block: Annotated[int, Field(ge=8)]
    batch: Count
    density: Annotated[float, Field(gt=0, lt=1)]
    span: Count
    whole: Annotated[float, Field(ge=0, le=1)]
    epochs: Count
    learning_rate: Positive
    warmup: Whole
    seed: Whole
