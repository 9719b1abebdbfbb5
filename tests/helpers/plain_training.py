"""A training once more, in plain code, as weights to compare with."""

import torch

from dfwe.data.batches import collate
from dfwe.training.datamodule import TrainingSteps


def without_dropout(network):
    for part in network.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
        elif hasattr(part, "dropout") and isinstance(part.dropout, float):  # T5Attention
            part.dropout = 0.0
    return network


def distance(one, other):
    """Mean absolute difference of the weights."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    differences = torch.cat([(a - b).abs().flatten() for a, b in pairs])
    return float(differences.detach().mean())


def tlidb(network, splits, training, seed, epochs=None):
    """TLiDB's update written out: a batch at a time, transformers' own loss.

    Args:
        network: in training mode, changed in place.
        splits: task name -> its tokenised training split.
        training: the settings.
        seed: of the order of the batches.
        epochs: how many; None for as many as the settings say.

    Returns:
        The norm of each step's gradient before it is clipped.
    """
    optimizer = torch.optim.Adam(network.parameters(), lr=training.learning_rate)
    steps, norms = TrainingSteps(splits, training, seed), []
    accumulated = training.effective_batch // training.batch
    for epoch in range(epochs or training.epochs):
        for number, (name, index) in enumerate(steps.draws(epoch), 1):
            split = splits[name]
            part = collate(split, index, [1.0] * len(index))
            labels = part.target
            loss = network(input_ids=part.source, attention_mask=part.mask, labels=labels).loss
            if len(splits) > 1:
                loss = loss / (-(-len(split) // training.batch)) ** 0.5
            (loss / accumulated).backward()
            if number % accumulated == 0:
                norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
                norms.append(float(norm))
                optimizer.step()
                optimizer.zero_grad()
    return norms
