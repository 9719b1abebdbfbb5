"""The generalised loss: freeze a body, train a linear probe on a dataset, take its loss (sec. 4).

The probe is multinomial logistic regression on standardised features, solved to convergence. Its
penalty is chosen on the training texts: with few of them a weak one would measure overfitting.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dfwe.model.batches import Batch, evaluation_batches
from dfwe.model.encode import Encoded

PENALTIES = (0.01, 0.1, 1.0, 10.0)  # times half the weights' squared norm, beside the mean loss
FOLDS = 4  # of the training texts, to choose among them


@dataclass(frozen=True)
class Texts:
    """A split as batches, with each example's label number (m,)."""

    batches: tuple[Batch, ...]
    labels: NDArray[np.int64]

    @classmethod
    def of(cls, encoded: Encoded, labels: Sequence[int]) -> "Texts":
        return cls(tuple(evaluation_batches(encoded)), np.asarray(labels))


@dataclass(frozen=True)
class Probe:
    """A dataset for linear probing: where the probe is trained, where its loss is taken."""

    name: str
    train: Texts
    dev: Texts

    def __call__(self, body: Any) -> tuple[float, float]:
        """(generalised loss in nats, accuracy 0..1) of a frozen body; inf if it overflows."""
        found = [features(body, texts) for texts in (self.train, self.dev)]
        if not all(np.isfinite(part).all() for part in found):
            return float("inf"), 0.0
        (train, dev), labels = found, self.train.labels
        return probe_loss(train, labels, dev, self.dev.labels, best_penalty(train, labels))


def features(body: Any, texts: Texts) -> NDArray[np.float64]:
    """What a head would read (m, d): an encoder's first token, a language model's mean state.

    Of a sequence-to-sequence model it is the encoder's.
    """
    body.eval()
    encoder = body.get_encoder() if body.config.is_encoder_decoder else body.base_model
    whole = body.get_output_embeddings() is not None
    rows: list[Any] = [None] * len(texts.labels)
    with torch.inference_mode():
        for batch in (batch.to(body.device) for batch in texts.batches):
            states = encoder(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state
            mask = batch.mask[..., None].to(states.dtype)
            read = (states * mask).sum(1) / mask.sum(1) if whole else states[:, 0]
            read = read.cpu().double().numpy()
            for position, row in zip(batch.index.tolist(), read, strict=True):
                rows[position] = row
    return np.stack(rows)


def probe_loss(
    train: NDArray[np.float64],
    labels: NDArray[np.int64],
    dev: NDArray[np.float64],
    gold: NDArray[np.int64],
    penalty: float,
) -> tuple[float, float]:
    """Train on features (m, d) and labels (m,); the loss and accuracy on `dev` and `gold`."""
    mean, scale = train.mean(0), train.std(0) + 1e-6
    weights, bias = fit(
        (train - mean) / scale, labels, int(max(labels.max(), gold.max())) + 1, penalty
    )
    logs = _log_softmax((dev - mean) / scale @ weights + bias)
    loss = -logs[np.arange(len(gold)), gold].mean()
    return float(loss), float(np.mean(logs.argmax(1) == gold))


def best_penalty(x: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Of PENALTIES the one with the lowest cross-validated loss; equals: the strongest."""
    fold = np.random.default_rng(0).permutation(len(labels)) % FOLDS
    losses = {
        penalty: sum(
            probe_loss(x[fold != k], labels[fold != k], x[fold == k], labels[fold == k], penalty)[
                0
            ]
            for k in range(FOLDS)
        )
        for penalty in reversed(PENALTIES)
    }
    return min(losses, key=losses.__getitem__)


def fit(
    x: NDArray[np.float64], labels: NDArray[np.int64], classes: int, penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logistic regression: weights (d, k) and bias (k,) that minimise the penalised mean loss."""
    from scipy.optimize import minimize

    m, d = x.shape
    gold = np.eye(classes)[labels]  # (m, k)

    def objective(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights, bias = flat[: d * classes].reshape(d, classes), flat[d * classes :]
        logs = _log_softmax(x @ weights + bias)
        loss = -(gold * logs).sum() / m + penalty / 2 * (weights**2).sum()
        error = (np.exp(logs) - gold) / m
        return loss, np.concatenate([(x.T @ error + penalty * weights).ravel(), error.sum(0)])

    start = np.zeros((d + 1) * classes)
    found = minimize(objective, start, jac=True, method="L-BFGS-B", options={"maxiter": 1000}).x
    return found[: d * classes].reshape(d, classes), found[d * classes :]


def _log_softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = scores - scores.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
