"""Decoding against transformers' own generate and plain teacher forcing."""

from dataclasses import replace

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Scorer
from dfwe.tasks.answers import FreeText, Label
from dfwe.tasks.metrics import Accuracy, ExactMatch
from dfwe.tasks.task import Task

LABEL_TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)
TEXT_TASK = Task("q", "q", lambda *a: [], FreeText(), (ExactMatch(),), 20)


def answered(network, tokenized, task, decoding, tokens=300):
    """The answers in the order of the examples, from several batches."""
    scorer = Scorer(network, tokenized, task, decoding)
    return scorer.reduce(map(scorer.predict, evaluation_batches(tokenized, tokens))).answers


def teacher_forced(network, source, target):
    """sum of log p over the target's tokens, one example at a time."""
    with torch.inference_mode():
        out = network(input_ids=torch.tensor([source]), labels=torch.tensor([target]))
    return -float(out.loss) * len(target)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_answers_are_those_of_generate(seed, make_network, tokenizer, text_examples):
    network = make_network(seed)
    tokenized = tokenize(text_examples, tokenizer, max_input=80, max_target=16)
    texts = answered(network, tokenized, TEXT_TASK, Greedy()).texts
    lengths = set()
    for i, source in enumerate(tokenized.sources):
        out = network.generate(
            torch.tensor([source]),
            num_beams=1,
            do_sample=False,
            max_new_tokens=TEXT_TASK.max_new_tokens,
        )
        lengths.add(out.shape[1])
        assert texts[i] == tokenizer.decode(out[0], skip_special_tokens=True)
    assert len(lengths) > 1  # rows end at different steps


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_an_mt5_is_read_as_a_t5(decoding, make_network, tokenizer, label_examples):
    from transformers import MT5Config, MT5ForConditionalGeneration

    network = make_network()
    settings = network.config.to_dict() | {"model_type": "mt5", "architectures": None}
    other = MT5ForConditionalGeneration(MT5Config(**settings)).eval()
    other.lm_head.weight = network.lm_head.weight  # untied, as network's
    other.load_state_dict(network.state_dict())
    tokenized = tokenize(label_examples[:9], tokenizer, max_input=80, max_target=16)
    t5, mt5 = (answered(net, tokenized, LABEL_TASK, decoding) for net in (network, other))
    assert t5.texts == mt5.texts
    assert mt5.log_likelihoods == pytest.approx(t5.log_likelihoods, abs=1e-5)


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_target_likelihoods_are_those_of_teacher_forcing(
    decoding, make_network, tokenizer, label_examples
):
    network = make_network()
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    log_likelihoods = answered(network, tokenized, LABEL_TASK, decoding).log_likelihoods
    for i, (source, target) in enumerate(zip(tokenized.sources, tokenized.targets, strict=True)):
        assert log_likelihoods[i] == pytest.approx(
            teacher_forced(network, source, target), abs=1e-4
        )


def test_the_likeliest_option_is_chosen(make_network, tokenizer, label_examples):
    network = make_network(1)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    answers = answered(network, tokenized, LABEL_TASK, Likelihood())
    for i, source in enumerate(tokenized.sources):
        values = [teacher_forced(network, source, option) for option in tokenized.options[i]]
        best = max(range(len(values)), key=values.__getitem__)
        assert answers.texts[i] == label_examples[i].options[best]
        assert answers.options[i] == pytest.approx(values, abs=1e-4)


def test_examples_with_fewer_options_have_fewer_likelihoods(
    make_network, tokenizer, label_examples
):
    fewer = tuple(
        replace(e, options=tuple(o for o in e.options if o == e.target or i % 3))
        for i, e in enumerate(label_examples)
    )
    some, every = (
        answered(
            make_network(1),
            tokenize(examples, tokenizer, max_input=80, max_target=16),
            LABEL_TASK,
            Likelihood(),
        ).options
        for examples in (fewer, label_examples)
    )
    assert {len(row) for row in some} == {1, 4}
    for example, whole, row, known in zip(fewer, label_examples, some, every, strict=True):
        same = [known[whole.options.index(option)] for option in example.options]
        assert row == pytest.approx(same, abs=1e-4)


def test_packed_option_likelihoods_equal_one_by_one(make_network, tokenizer, label_examples):
    from dfwe.scoring.backends.t5 import encode

    network = make_network(2)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    (batch,) = evaluation_batches(tokenized, 10**6)
    options = [
        tokenized.options[i][: 2 + i % 3] for i in batch.index.tolist()
    ]  # of several numbers
    with torch.inference_mode():
        packed = encode(network, batch).log_likelihoods(options)
    for row, (i, chosen) in enumerate(zip(batch.index.tolist(), options, strict=True)):
        for column, option in enumerate(chosen):
            wanted = teacher_forced(network, tokenized.sources[i], option)
            assert float(packed[row, column]) == pytest.approx(wanted, abs=1e-4)
        assert (packed[row, len(chosen) :] == -torch.inf).all()


def test_likelihood_answers_free_text_greedily(make_network, tokenizer, text_examples):
    network = make_network(3)
    tokenized = tokenize(text_examples, tokenizer, max_input=80, max_target=16)
    answers = answered(network, tokenized, TEXT_TASK, Likelihood())
    assert answers == answered(network, tokenized, TEXT_TASK, Greedy())
    assert answers.options is None


def test_greedy_answers_come_with_options_where_they_are_asked_for(
    make_network, tokenizer, label_examples, text_examples
):
    network = make_network(1)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    greedy, asked, likelihood = (
        answered(network, tokenized, LABEL_TASK, decoding)
        for decoding in (Greedy(), Greedy().with_options(), Likelihood().with_options())
    )
    assert greedy.options is None
    assert asked.texts == greedy.texts
    assert asked.log_likelihoods == pytest.approx(greedy.log_likelihoods, abs=1e-4)
    assert asked.options == likelihood.options
    free = tokenize(text_examples, tokenizer, max_input=80, max_target=16)
    assert answered(network, free, TEXT_TASK, Greedy().with_options()).options is None
