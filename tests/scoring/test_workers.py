"""A split scored by several processes gives what one gives."""

import os
import signal

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.scoring.decoding import Greedy
from dfwe.scoring.scorer import Predictions, predictions, summarise
from dfwe.scoring.workers import ParallelScorer
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def tokenized(tokenizer, label_examples):
    return tokenize(label_examples, tokenizer, max_input=80, max_target=16)


def where(part, *request):
    """Each batch's first example, the process that answers as its text."""
    return [Predictions([int(b.index[0])], [str(os.getpid())], [0.0]) for b in part]


def test_three_processes_answer_as_one_does(tokenized, make_network):
    network, batches = make_network(2), evaluation_batches(tokenized, 300)
    threads = torch.get_num_threads()

    def predict(part, factor):  # each process writes into a network of its own
        with torch.no_grad():
            network.lm_head.weight.copy_(original * factor)
        return predictions(network, part, tokenized, TASK, Greedy())

    original = network.lm_head.weight.detach().clone()
    found = []
    for workers in (1, 3):
        with ParallelScorer(predict, batches, workers) as parallel:
            found.append(
                [summarise(parallel(factor), tokenized, TASK) for factor in (1.0, -1.0, 1.0)]
            )
    for alone, shared in zip(*found, strict=True):  # threads add up in another order
        assert (alone.texts, alone.metrics) == (shared.texts, shared.metrics)
        assert alone.log_likelihood == pytest.approx(shared.log_likelihood, abs=1e-4)
    assert found[0][0] == found[0][2] != found[0][1]
    assert torch.get_num_threads() == threads


def test_every_process_has_its_share(tokenized):
    batches = evaluation_batches(tokenized, 300)
    with ParallelScorer(where, batches, 3) as parallel:
        found = parallel()
    assert len(found) == len(batches) > 6
    assert len({part.texts[0] for part in found}) == 3
    with ParallelScorer(where, batches[:2], 3) as parallel:
        assert len({part.texts[0] for part in parallel()}) == 2


def test_a_failed_prediction_is_named_and_the_next_request_is_answered(tokenized):
    here = os.getpid()

    def predict(part, fails):
        if fails and os.getpid() != here:
            raise ValueError("no such candidate")
        return where(part)

    with ParallelScorer(predict, evaluation_batches(tokenized, 300), 2) as parallel:
        with pytest.raises(RuntimeError, match="ValueError: no such candidate"):
            parallel(True)
        assert len(parallel(False)) == len(evaluation_batches(tokenized, 300))


def test_a_killed_process_is_the_users_to_know(tokenized):
    with ParallelScorer(where, evaluation_batches(tokenized, 300), 2) as parallel:
        (other,) = {int(part.texts[0]) for part in parallel()} - {os.getpid()}
        os.kill(other, signal.SIGKILL)
        with pytest.raises(UserError, match="fewer workers"):
            parallel()
