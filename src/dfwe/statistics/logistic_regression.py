"""Logistic regression on features, its penalty by cross-validation: what a linear probe is."""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

PENALTIES = (10.0, 1.0, 0.1, 0.01)  # on half the weights' squared norm, beside the mean loss
FOLDS = 4  # of the examples, to choose a penalty
NEVER = -1e4  # the logit of a label without examples
DEAD = 1e-6  # of the largest standard deviation: below it a feature counts for nothing


@dataclass(frozen=True)
class LogisticRegression:
    """A fitted regression: logits are `x @ weights.T + bias`.

    Args:
        weights: (classes, d).
        bias: (classes,).
        penalty: the one of `PENALTIES` with the best cross-validated likelihood; of equal ones
            the strongest. None where all examples have one label.
    """

    weights: Floats
    bias: Floats
    penalty: float | None

    def evaluate(self, x: Floats, labels: Labels) -> tuple[float, float]:
        """The mean loss in nats and the accuracy, 0..1, on features (m, d) and labels (m,)."""
        from scipy.special import log_softmax

        logs = log_softmax(x @ self.weights.T + self.bias, axis=1)
        right = logs.argmax(axis=1) == labels
        return float(-logs[np.arange(len(labels)), labels].mean()), float(right.mean())


def fit(x: Floats, labels: Labels, classes: int) -> LogisticRegression:
    """scikit-learn's regression on standardised features, as weights for the features themselves.

    Args:
        x: (m, d), features of at least `FOLDS` examples.
        labels: (m,), of 0..classes-1.
        classes: how many labels there are; those without examples are never the answer.
    """
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.model_selection import StratifiedKFold

    weights, bias = np.zeros((classes, x.shape[1])), np.full(classes, NEVER)
    known = np.unique(labels)
    if len(known) == 1:
        bias[known] = 0.0
        return LogisticRegression(weights, bias, None)
    mean, scale = x.mean(axis=0), x.std(axis=0)
    # MiniLM's mean has features of 1e-33; their weights would be 1e30, and gradients infinite.
    scale[scale <= DEAD * scale.max()] = 1.0
    # Of two labels scikit-learn has one row, the difference of ours: their norms are half of its.
    shares = 2 if len(known) == 2 else 1
    model = LogisticRegressionCV(
        Cs=[shares / (penalty * len(labels)) for penalty in PENALTIES],
        l1_ratios=(0.0,),
        use_legacy_attributes=False,
        cv=StratifiedKFold(FOLDS, shuffle=True, random_state=0),
        scoring="neg_log_loss",
        tol=1e-6,
        max_iter=5000,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The least populated class")  # it is in fewer folds
        model.fit((x - mean) / scale, labels)
    rows = model.coef_ / scale
    offsets = model.intercept_ - rows @ mean
    if len(known) == 2:
        rows, offsets = np.concatenate([-rows, rows]) / 2, np.concatenate([-offsets, offsets]) / 2
    weights[known], bias[known] = rows, offsets
    chosen = int(np.argmin(np.abs(model.Cs_ - model.C_)))
    return LogisticRegression(weights, bias, PENALTIES[chosen])
