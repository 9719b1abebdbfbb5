"""The expected score of answers drawn from options, against the task's and draws."""

import numpy as np
import pytest

from dfwe.data.dialogue import Example
from dfwe.statistics.expected import ExpectedScore
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1, Accuracy
from dfwe.tasks.task import Task

LABELS = ("Happy", "angry", "rather sad", "calm")
METRICS = (F1("micro"), F1("macro"), F1("weighted"), Accuracy())
rng = np.random.default_rng(0)


def task(*metrics):
    return Task("t", "t", lambda *_: [], Label(), metrics, 8)


def examples(count, widths=(4,)):
    rows = []
    for i in range(count):
        options = LABELS[: widths[i % len(widths)]]
        gold = str(rng.choice(options))
        rows.append(Example(f"t{i}", f"d{i}", "c", "p", gold, (gold,), options))
    return tuple(rows)


def padded(rows):
    width = max(len(row.options) for row in rows)
    logits = rng.normal(size=(3, len(rows), width))
    for logit, row in zip(np.moveaxis(logits, 1, 0), rows, strict=True):
        logit[:, len(row.options) :] = -np.inf
    return logits


@pytest.mark.parametrize("metrics", [*((metric,) for metric in METRICS), METRICS[:2]])
@pytest.mark.parametrize("widths", [(4,), (2, 4, 3)])
def test_near_temperature_0_it_is_the_score_of_the_likeliest_options(metrics, widths):
    rows, judge = examples(40, widths), task(*metrics)
    logits = padded(rows)
    smoothed = ExpectedScore(judge, rows).smoothed(logits, 1e-6)
    for candidate, value in zip(logits, smoothed, strict=True):
        texts = [row.options[k] for row, k in zip(rows, candidate.argmax(1), strict=True)]
        assert value == pytest.approx(judge.score(texts, rows)["score"])


def test_the_expected_accuracy_is_the_mean_over_drawn_answers():
    rows, judge = examples(30), task(Accuracy())
    logits = padded(rows)[:1]
    shares = np.exp(logits[0] / 0.7)
    shares /= shares.sum(1, keepdims=True)
    scores = []
    for _ in range(2000):
        texts = [row.options[rng.choice(4, p=p)] for row, p in zip(rows, shares, strict=True)]
        scores.append(judge.score(texts, rows)["score"])
    value = ExpectedScore(judge, rows).smoothed(logits, 0.7)[0]
    assert value == pytest.approx(np.mean(scores), abs=4 * np.std(scores) / np.sqrt(2000))


def test_by_likelihood_it_is_that_of_the_gold_options():
    rows, logits = examples(3), np.log([[[0.1, 0.2, 0.3, 0.4]] * 3])
    expected = ExpectedScore(task(Accuracy()), rows, "log_likelihood").smoothed(logits + 5, 0.1)
    golds = [0.1 * (1 + LABELS.index(row.target)) for row in rows]
    assert expected == pytest.approx([np.log(golds).mean()])


def test_an_answer_is_the_number_of_its_option():
    rows = examples(4)
    chosen = ExpectedScore(task(Accuracy()), rows).chosen([" happy", "calm", "sad", "Angry"])
    assert chosen.tolist() == [0, 3, -1, 1]
