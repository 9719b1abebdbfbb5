"""The one scoring path: order of the examples, means, the network left as it was."""

from typing import ClassVar

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Predictions, evaluate, summarise
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task

LABELS = ("happy", "angry", "calm")
TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def tokenized(tokenizer, label_examples):
    return tokenize(label_examples, tokenizer, max_input=80, max_target=16)


def test_answers_stand_in_the_order_of_the_examples(tokenized, label_examples):
    parts = [
        Predictions([i], [label_examples[i].target], [-float(i)])
        for i in reversed(range(len(tokenized)))
    ]
    scores = summarise(parts, tokenized, TASK)
    assert scores.texts == tuple(example.target for example in label_examples)
    assert scores.score == 100.0
    assert scores.metrics == {"accuracy": 100.0}
    assert scores.log_likelihood == -sum(range(37)) / 37


def test_some_of_the_answers_are_scored_as_a_split_of_their_own(tokenized, label_examples):
    said = [LABELS[number % 3] for number in range(37)]
    whole = summarise(
        [Predictions([*range(37)], said, [-float(i) for i in range(37)])], tokenized, TASK
    )
    chosen = [30, 2, 3, 11]
    part = whole.among(chosen, label_examples, TASK)
    right = [said[i] == label_examples[i].target for i in chosen]
    assert part.score == 25 * sum(right)
    assert part.log_likelihood == -sum(chosen) / 4
    assert part.texts == tuple(said[i] for i in chosen)


def test_an_example_left_out_is_noticed(tokenized):
    with pytest.raises(AssertionError):
        summarise([Predictions([0, 1], ["calm", "calm"], [0.0, 0.0])], tokenized, TASK)


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_the_token_budget_does_not_show_in_the_scores(decoding, tokenized, make_network):
    network = make_network(2)
    one, other = (
        evaluate(network, evaluation_batches(tokenized, tokens), tokenized, TASK, decoding)
        for tokens in (100, 4096)
    )
    assert one.texts == other.texts
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-5)


class Small(Greedy):
    """Scoring on a device with room for three rows; notes the rows of each pass."""

    room: ClassVar[int] = 3
    passes: ClassVar[list[int]] = []

    def __call__(self, network, batch, tokenized, max_new_tokens):
        self.passes.append(len(batch.index))
        if len(batch.index) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(network, batch, tokenized, max_new_tokens)


def test_a_batch_that_a_device_has_no_room_for_is_halved(tokenized, make_network, monkeypatch):
    network, batches = make_network(2), evaluation_batches(tokenized, 10**6)
    monkeypatch.setattr(Small, "passes", [])
    halved = evaluate(network, batches, tokenized, TASK, Small())
    assert Small.passes[:5] == [37, 18, 9, 4, 2]
    whole = evaluate(network, batches, tokenized, TASK, Greedy())
    assert halved.texts == whole.texts
    assert halved.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-5)

    monkeypatch.setattr(Small, "room", 0)
    with pytest.raises(torch.OutOfMemoryError):  # not even one example fits
        evaluate(network, batches, tokenized, TASK, Small())


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_networks_mode_as_it_was(training, tokenized, make_network):
    network = make_network().train(training)
    evaluate(network, evaluation_batches(tokenized, 500), tokenized, TASK, Greedy())
    assert network.training is training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_likelihood_never_answers_outside_the_options(tokenized, make_network, label_examples):
    scores = evaluate(
        make_network(5), evaluation_batches(tokenized), tokenized, TASK, Likelihood()
    )
    assert set(scores.texts) <= set(label_examples[0].options)
