"""Losses of labels, in training and in scoring."""

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    log_softmax,
    logsigmoid,
)


def label_losses(logits: Tensor, target: Tensor) -> Tensor:
    """-log p of the gold label (m, 1), or of each option of a multi-label task (m, k).

    Args:
        logits: (m, k); target: (m, 1) label numbers, or (m, k) of 0 and 1.
    """
    if target.shape[1] == 1:
        return cross_entropy(logits.float(), target[:, 0], reduction="none")[:, None]
    return binary_cross_entropy_with_logits(
        logits.float(), target.to(torch.float32), reduction="none"
    )


def label_log_likelihoods(logits: Tensor, several: bool) -> Tensor:
    """log p of each label, (m, k); where several may be right, of that label's being right."""
    return logsigmoid(logits.float()) if several else log_softmax(logits.float(), 1)
