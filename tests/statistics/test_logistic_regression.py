"""Logistic regression against scikit-learn's, penalty by penalty."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.preprocessing import StandardScaler

from dfwe.statistics.logistic_regression import FOLDS, NEVER, PENALTIES, fit


def drawn(classes, m=120, d=12, noise=2.0, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, d))
    labels = rng.integers(0, classes, m)
    return 5 + 3 * (centres[labels] + noise * rng.normal(size=(m, d))), labels


@pytest.mark.parametrize("noise", [0.3, 2.0, 8.0])
@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_scikit_learns_at_the_cross_validated_penalty(classes, noise):
    x, labels = drawn(classes, noise=noise)
    dev, gold = drawn(classes, noise=noise, seed=0)
    scaler = StandardScaler().fit(x)
    share = 2 if classes == 2 else 1  # the row of two labels is the difference of theirs
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    models = [
        LogisticRegression(C=share / (penalty * len(labels)), tol=1e-8, max_iter=10_000)
        for penalty in PENALTIES
    ]
    scores = [
        cross_val_score(
            model, scaler.transform(x), labels, cv=folds, scoring="neg_log_loss"
        ).mean()
        for model in models
    ]
    regression = fit(x, labels, classes)
    assert regression.penalty == PENALTIES[int(np.argmax(scores))]
    reference = models[int(np.argmax(scores))].fit(scaler.transform(x), labels)
    predicted = reference.predict_proba(scaler.transform(dev))
    loss, accuracy = regression.evaluate(dev, gold)
    assert loss == pytest.approx(log_loss(gold, predicted), abs=1e-3)
    assert accuracy == np.mean(predicted.argmax(axis=1) == gold)


def test_the_penalty_grows_with_the_noise():
    chosen = [fit(*drawn(2, noise=noise), 2).penalty for noise in (0.3, 8.0)]
    assert chosen[0] < chosen[1]


@pytest.mark.parametrize("classes", [2, 3])
def test_a_label_without_examples_is_never_the_answer(classes):
    x, labels = drawn(classes, noise=0.5)
    regression = fit(x, labels, classes + 1)
    answers = (x @ regression.weights.T + regression.bias).argmax(axis=1)
    assert set(answers) == set(range(classes))
    assert regression.evaluate(x, labels)[1] > 0.9


def test_a_label_with_one_example_is_no_obstacle():
    x, labels = drawn(2, m=41)
    labels[7] = 2
    assert fit(x, labels, 3).penalty in PENALTIES


def test_examples_of_one_label_have_that_answer():
    regression = fit(np.ones((5, 3)), np.ones(5, dtype=int), 2)
    assert regression.penalty is None
    assert regression.evaluate(np.zeros((2, 3)), np.array([1, 0]))[1] == 0.5
    assert regression.bias.tolist() == [NEVER, 0.0]
    assert regression.evaluate(np.zeros((2, 3)), np.ones(2, dtype=int)) == (0.0, 1.0)


@pytest.mark.parametrize("spread", [0.0, 1e-33, 1e-9])
def test_a_feature_that_hardly_varies_counts_for_nothing(spread):
    x, labels = drawn(3)
    plain = fit(x, labels, 3)
    feature = spread * np.random.default_rng(0).normal(size=len(x)) if spread else 7.0
    dead = fit(np.insert(x, 4, feature, axis=1), labels, 3)
    assert np.abs(dead.weights[:, 4]).max() < 1e-6
    np.testing.assert_allclose(np.delete(dead.weights, 4, axis=1), plain.weights, atol=1e-4)
    np.testing.assert_allclose(dead.bias, plain.bias, atol=1e-3)


def test_the_folds_are_the_same_each_time():
    """Of noise, whose penalty hangs on the folds."""
    rng = np.random.default_rng(4)
    x, labels = rng.normal(size=(24, 2)), rng.integers(0, 2, 24)
    state, penalties = np.random.get_state(), set()
    for seed in range(4):
        np.random.seed(seed)
        penalties.add(fit(x, labels, 2).penalty)
    np.random.set_state(state)
    assert len(penalties) == 1
