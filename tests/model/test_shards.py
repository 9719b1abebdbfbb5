"""A split scored by several processes gives what one gives."""

import os
import signal

import pytest
import torch

from dfwe.errors import UserError
from dfwe.model.batches import evaluation_batches
from dfwe.model.decoding import Greedy
from dfwe.model.encode import encode
from dfwe.model.scoring import Predictions, predictions, summarise
from dfwe.model.shards import Shards
from dfwe.tasks.decode import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def encoded(tokenizer, label_examples):
    return encode(label_examples, tokenizer, max_input=80, max_target=16)


def where(part, *request):
    """Each batch's first example, the process that answers as its text."""
    return [Predictions([int(b.index[0])], [str(os.getpid())], [0.0]) for b in part]


def test_three_processes_answer_as_one_does(encoded, make_network):
    network, batches = make_network(2), evaluation_batches(encoded, 300)
    threads = torch.get_num_threads()

    def predict(part, factor):  # each process writes into a network of its own
        with torch.no_grad():
            network.lm_head.weight.copy_(original * factor)
        return predictions(network, part, encoded, TASK, Greedy())

    original = network.lm_head.weight.detach().clone()
    found = []
    for workers in (1, 3):
        with Shards(predict, batches, workers) as shards:
            found.append([summarise(shards(factor), encoded, TASK) for factor in (1.0, -1.0, 1.0)])
    for alone, shared in zip(*found, strict=True):  # threads add up in another order
        assert (alone.texts, alone.metrics) == (shared.texts, shared.metrics)
        assert alone.loglik == pytest.approx(shared.loglik, abs=1e-4)
    assert found[0][0] == found[0][2] != found[0][1]
    assert torch.get_num_threads() == threads


def test_every_process_has_its_share(encoded):
    batches = evaluation_batches(encoded, 300)
    with Shards(where, batches, 3) as shards:
        found = shards()
    assert len(found) == len(batches) > 6
    assert len({part.texts[0] for part in found}) == 3
    with Shards(where, batches[:2], 3) as shards:
        assert len({part.texts[0] for part in shards()}) == 2


def test_a_failed_prediction_is_named_and_the_next_request_is_answered(encoded):
    here = os.getpid()

    def predict(part, fails):
        if fails and os.getpid() != here:
            raise ValueError("no such candidate")
        return where(part)

    with Shards(predict, evaluation_batches(encoded, 300), 2) as shards:
        with pytest.raises(RuntimeError, match="ValueError: no such candidate"):
            shards(True)
        assert len(shards(False)) == len(evaluation_batches(encoded, 300))


def test_a_killed_process_is_the_users_to_know(encoded):
    with Shards(where, evaluation_batches(encoded, 300), 2) as shards:
        (other,) = {int(part.texts[0]) for part in shards()} - {os.getpid()}
        os.kill(other, signal.SIGKILL)
        with pytest.raises(UserError, match="fewer workers"):
            shards()
