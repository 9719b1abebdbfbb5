"""The one scoring path: order of the examples, means, the network left as it was."""

from typing import ClassVar

import numpy as np
import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Predictions, Scorer
from dfwe.search.evaluation import Answers
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.weights.space import WeightSpace

LABELS = ("happy", "angry", "calm")
TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def tokenized(tokenizer, label_examples):
    return tokenize(label_examples, tokenizer, max_input=80, max_target=16)


@pytest.fixture(scope="module")
def reduce(tokenized, make_network):
    """Index and answers of several batches -> the split's scores."""
    scorer = Scorer(make_network(), tokenized, TASK, Greedy())
    return lambda *parts: scorer.reduce(
        Predictions(tuple(index), Answers(*map(tuple, answers))) for index, *answers in parts
    )


def evaluate(network, tokenized, decoding, tokens=None):
    """The scores of a network, with so many tokens a batch."""
    scorer = Scorer(network, tokenized, TASK, decoding)
    if tokens is None:
        return scorer()
    return scorer.reduce(map(scorer.predict, evaluation_batches(tokenized, tokens)))


def test_answers_stand_in_the_order_of_the_examples(reduce, label_examples):
    parts = [
        ([i], [label_examples[i].target], [-float(i)], [(float(i), 0.0)])
        for i in reversed(range(37))
    ]
    scores = reduce(*parts)
    assert scores.texts == tuple(example.target for example in label_examples)
    assert scores.score == 100.0
    assert scores.metrics == {"accuracy": 100.0}
    assert scores.log_likelihood == -sum(range(37)) / 37
    assert scores.answers.log_likelihoods == tuple(-float(i) for i in range(37))
    assert scores.answers.options == tuple((float(i), 0.0) for i in range(37))


def test_some_of_the_answers_are_scored_as_a_split_of_their_own(reduce, label_examples):
    texts = [LABELS[number % 3] for number in range(37)]
    options = [(float(i), -float(i)) for i in range(37)]
    whole = reduce((range(37), texts, [-float(i) for i in range(37)], options))
    chosen = [30, 2, 3, 11]
    part = whole.subset(chosen, label_examples, TASK)
    right = [texts[i] == label_examples[i].target for i in chosen]
    assert part.score == 25 * sum(right)
    assert part.log_likelihood == -sum(chosen) / 4
    assert part.texts == tuple(texts[i] for i in chosen)
    assert part.answers.options == tuple(options[i] for i in chosen)


def test_options_that_some_batches_lack_are_none(reduce):
    head = ([0], ["calm"], [0.0], [(0.0, 0.0)])
    rest = (range(1, 37), ["calm"] * 36, [0.0] * 36)
    assert reduce(head, rest).answers.options is None


def test_an_example_that_was_predicted_twice_is_an_error(reduce):
    with pytest.raises(AssertionError):
        reduce(((*range(37), 0), ["calm"] * 38, [0.0] * 38))


def test_a_part_of_a_split_is_scored_only_where_it_is_meant(
    reduce, tokenized, make_network, monkeypatch
):
    """A shortened training scores the examples that it has seen; a search has to see all."""
    assert reduce(([4, 2], ["calm", "happy"], [-1.0, -3.0])).texts == ("happy", "calm")
    part = evaluation_batches(tokenized, tokens=100)[1:]
    assert len(part) > 0
    monkeypatch.setattr("dfwe.scoring.scorer.evaluation_batches", lambda *_: part)
    with pytest.raises(AssertionError):
        Scorer(make_network(), tokenized, TASK, Likelihood())()


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_the_token_budget_does_not_show_in_the_scores(decoding, tokenized, make_network):
    network = make_network(2)
    one, other = (evaluate(network, tokenized, decoding, tokens) for tokens in (100, 4096))
    assert one.texts == other.texts
    assert one.log_likelihood == pytest.approx(other.log_likelihood, abs=1e-5)


class Small(Greedy):
    """Scoring on a device with room for three rows; records the rows of each pass."""

    room: ClassVar[int] = 3
    passes: ClassVar[list[int]] = []

    def __call__(self, network, batch, tokenized, max_new_tokens):
        self.passes.append(len(batch.index))
        if len(batch.index) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().__call__(network, batch, tokenized, max_new_tokens)


def test_a_batch_that_a_device_has_no_room_for_is_halved(tokenized, make_network, monkeypatch):
    network = make_network(2)
    monkeypatch.setattr(Small, "passes", [])
    halved = evaluate(network, tokenized, Small(), 10**6)
    assert Small.passes[:5] == [37, 18, 9, 4, 2]
    whole = evaluate(network, tokenized, Greedy(), 10**6)
    assert halved.texts == whole.texts
    assert halved.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-5)

    monkeypatch.setattr(Small, "room", 0)
    with pytest.raises(torch.OutOfMemoryError):  # not even one example fits
        evaluate(network, tokenized, Small(), 10**6)


@pytest.mark.parametrize("training", [True, False])
def test_scoring_leaves_the_networks_mode_as_it_was(training, tokenized, make_network):
    network = make_network().train(training)
    evaluate(network, tokenized, Greedy(), 500)
    assert network.training is training
    assert all(parameter.grad is None for parameter in network.parameters())


def test_likelihood_never_answers_outside_the_options(tokenized, make_network, label_examples):
    scores = evaluate(make_network(5), tokenized, Likelihood())
    assert set(scores.texts) <= set(label_examples[0].options)


def test_each_alpha_of_a_space_is_scored_once_and_is_the_models_score(tokenized, make_network):
    space = WeightSpace.from_modules([make_network(seed) for seed in (2, 3)])
    calls = []

    class Counted(Greedy):
        def __call__(self, *arguments):
            calls.append(arguments)
            return super().__call__(*arguments)

    with Scorer(make_network(0), tokenized, TASK, Counted(), space=space) as scorer:
        first = scorer(np.array([0.0, 1.0]))
        number = len(calls)
        middle = scorer(np.array([0.5, 0.5]))
        assert scorer(np.array([0.0, 1.0])) is first
        assert len(calls) == 2 * number
    assert first == evaluate(make_network(3), tokenized, Greedy())
    assert middle.answers != first.answers


def test_a_model_without_a_space_is_scored_anew_each_time(tokenized, make_network):
    network = make_network(0)
    scorer = Scorer(network, tokenized, TASK, Likelihood())
    before = scorer()
    network.load_state_dict(make_network(1).state_dict())
    assert scorer() == evaluate(make_network(1), tokenized, Likelihood()) != before


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_every_trial_of_a_search_has_the_answers_of_its_model(
    decoding, tokenized, make_network, tmp_path
):
    space = WeightSpace.from_modules([make_network(seed) for seed in range(3)])
    scorer = Scorer(make_network(), tokenized, TASK, decoding, space=space)
    result = search(nelder_mead(3, evaluations=7), scorer, ledger=tmp_path / "trials.jsonl")
    network = make_network()
    for trial in result.trials:
        space.write(trial.alpha, network)
        assert trial.answers == evaluate(network, tokenized, decoding).answers
        assert (trial.answers.options is None) == (decoding == Greedy())
        assert trial.log_likelihood == pytest.approx(np.mean(trial.answers.log_likelihoods))
        assert trial.score == TASK.score(trial.answers.texts, tokenized.examples)["score"]
    assert len({trial.answers.texts for trial in result.trials}) > 1
    lines = (tmp_path / "answers.jsonl").read_bytes().splitlines(keepends=True)
    assert [Answers.parse(line) for line in lines] == [trial.answers for trial in result.trials]
