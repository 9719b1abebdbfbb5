"""A split scored by several processes gives what one gives."""

import os
import signal
import time
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Scorer
from dfwe.scoring.workers import Workers
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.weights.space import WeightSpace

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def tokenized(tokenizer, label_examples):
    return tokenize(label_examples, tokenizer, max_input=80, max_target=16)


@contextmanager
def started(predict, batches, count):
    """Worker processes on these batches."""
    workers = Workers(predict, count)
    workers.start(batches)
    try:
        yield workers
    finally:
        workers.stop()


def where(part, *request):
    """The process that answers, for each batch."""
    return [os.getpid()] * len(part)


def test_three_processes_answer_as_one_does(tokenized, make_network):
    network, batches = make_network(2), evaluation_batches(tokenized, 300)
    scorer = Scorer(network, tokenized, TASK, Greedy())
    threads = torch.get_num_threads()

    def predict(part, factor):  # each process writes into a network of its own
        with torch.no_grad():
            network.lm_head.weight.copy_(original * factor)
        return [scorer.predict(batch) for batch in part]

    original = network.lm_head.weight.detach().clone()
    scores = []
    for count in (1, 3):
        with started(predict, batches, count) as workers:
            scores.append([scorer.reduce(workers(factor)) for factor in (1.0, -1.0, 1.0)])
    for alone, shared in zip(*scores, strict=True):  # threads add up in another order
        assert (alone.texts, alone.metrics) == (shared.texts, shared.metrics)
        assert alone.log_likelihood == pytest.approx(shared.log_likelihood, abs=1e-4)
    assert scores[0][0] == scores[0][2] != scores[0][1]
    assert torch.get_num_threads() == threads


def test_every_process_has_its_share(tokenized):
    batches = evaluation_batches(tokenized, 300)
    with started(where, batches, 3) as workers:
        processes = workers()
    assert len(processes) == len(batches) > 6
    assert len(set(processes)) == 3
    with started(where, batches[:2], 3) as workers:
        assert len(set(workers())) == 2


def test_a_failed_prediction_is_named_and_the_next_request_is_answered(tokenized):
    here = os.getpid()

    def predict(part, fails):
        if fails and os.getpid() != here:
            raise ValueError("no such candidate")
        return where(part)

    with started(predict, evaluation_batches(tokenized, 300), 2) as workers:
        with pytest.raises(RuntimeError, match="ValueError: no such candidate"):
            workers(True)
        assert len(workers(False)) == len(evaluation_batches(tokenized, 300))


def test_a_killed_process_is_the_users_to_know(tokenized):
    with started(where, evaluation_batches(tokenized, 300), 2) as workers:
        (other,) = set(workers()) - {os.getpid()}
        os.kill(other, signal.SIGKILL)
        with pytest.raises(UserError, match="fewer workers"):
            workers()


def test_signals_to_all_processes_of_a_command_are_for_the_one_that_asks(tokenized):
    with started(where, evaluation_batches(tokenized, 300), 3) as workers:
        others = set(workers()) - {os.getpid()}
        for other in others:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
                os.kill(other, number)
        assert others < set(workers())


def test_processes_end_at_once_with_the_one_that_asks(tokenized):
    reader, writer = os.pipe()

    def never(part):
        os.write(writer, b".")
        time.sleep(60)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
        asking = os.fork()
    if asking == 0:
        with started(never, evaluation_batches(tokenized, 300), 3) as workers:
            workers()
    os.close(writer)
    for _ in range(3):
        assert os.read(reader, 1) == b"."
    os.kill(asking, signal.SIGKILL)
    os.waitpid(asking, 0)
    began = time.monotonic()
    assert os.read(reader, 1) == b""  # no process has the other end open
    assert time.monotonic() - began < 2
    os.close(reader)


def test_workers_of_a_scorer_share_its_batches_and_its_alpha(tokenized, make_network, monkeypatch):
    monkeypatch.setattr("dfwe.scoring.scorer.scoring_tokens", lambda device: 300)
    space = WeightSpace.from_modules([make_network(seed) for seed in range(2)])
    alphas = [np.array(alpha) for alpha in ([1.0, 0.0], [0.25, 0.75])]
    rows = []
    for count in (1, 3):
        with Scorer(
            make_network(2), tokenized, TASK, Likelihood(), space=space, workers=count
        ) as scorer:
            rows.append([scorer(alpha) for alpha in alphas])
    for alone, shared in zip(*rows, strict=True):
        assert alone.texts == shared.texts
        assert np.array(alone.answers.options) == pytest.approx(
            np.array(shared.answers.options), abs=1e-4
        )
    assert rows[0][0].answers.options != rows[0][1].answers.options
