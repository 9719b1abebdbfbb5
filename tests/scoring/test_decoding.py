"""Decoding against transformers' own generate and plain teacher forcing."""

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import predict
from dfwe.tasks.answers import FreeText, Label
from dfwe.tasks.metrics import Accuracy, ExactMatch
from dfwe.tasks.task import Task

LABEL_TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)
TEXT_TASK = Task("q", "q", lambda *a: [], FreeText(), (ExactMatch(),), 20)


def predicted(network, tokenized, task, decoding, tokens=300):
    texts, log_likelihoods = {}, {}
    with torch.inference_mode():
        for batch in evaluation_batches(tokenized, tokens):
            (found,) = predict(network, batch, tokenized, task, decoding)
            texts.update(zip(found.index, found.texts, strict=True))
            log_likelihoods.update(zip(found.index, found.log_likelihoods, strict=True))
    return texts, log_likelihoods


def teacher_forced(network, source, target):
    """sum of log p over the target's tokens, one example at a time."""
    with torch.inference_mode():
        out = network(input_ids=torch.tensor([source]), labels=torch.tensor([target]))
    return -float(out.loss) * len(target)


@pytest.mark.parametrize("seed", range(4))
def test_greedy_answers_are_those_of_generate(seed, make_network, tokenizer, text_examples):
    network = make_network(seed)
    tokenized = tokenize(text_examples, tokenizer, max_input=80, max_target=16)
    texts, _ = predicted(network, tokenized, TEXT_TASK, Greedy())
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
    found = [predicted(net, tokenized, LABEL_TASK, decoding) for net in (network, other)]
    assert found[0][0] == found[1][0]
    assert found[1][1] == pytest.approx(found[0][1], abs=1e-5)


@pytest.mark.parametrize("decoding", [Greedy(), Likelihood()])
def test_target_logliks_are_those_of_teacher_forcing(
    decoding, make_network, tokenizer, label_examples
):
    network = make_network()
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    _, log_likelihoods = predicted(network, tokenized, LABEL_TASK, decoding)
    for i, (source, target) in enumerate(zip(tokenized.sources, tokenized.targets, strict=True)):
        assert log_likelihoods[i] == pytest.approx(
            teacher_forced(network, source, target), abs=1e-4
        )


def test_the_likeliest_option_is_chosen(make_network, tokenizer, label_examples):
    network = make_network(1)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    texts, _ = predicted(network, tokenized, LABEL_TASK, Likelihood())
    for i, source in enumerate(tokenized.sources):
        values = [teacher_forced(network, source, option) for option in tokenized.options[i]]
        best = max(range(len(values)), key=values.__getitem__)
        assert texts[i] == label_examples[i].options[best]


def test_packed_option_logliks_equal_one_by_one(make_network, tokenizer, label_examples):
    from dfwe.scoring.backends.t5 import encode_sources, log_likelihoods

    network = make_network(2)
    tokenized = tokenize(label_examples, tokenizer, max_input=80, max_target=16)
    (batch,) = evaluation_batches(tokenized, 10**6)
    options = [
        tokenized.options[i][: 2 + i % 3] for i in batch.index.tolist()
    ]  # of several numbers
    with torch.inference_mode():
        packed = log_likelihoods(network, encode_sources(network, batch), options)
    for row, (i, chosen) in enumerate(zip(batch.index.tolist(), options, strict=True)):
        for column, option in enumerate(chosen):
            wanted = teacher_forced(network, tokenized.sources[i], option)
            assert float(packed[row, column]) == pytest.approx(wanted, abs=1e-4)
        assert (packed[row, len(chosen) :] == -torch.inf).all()


def test_likelihood_answers_free_text_greedily(make_network, tokenizer, text_examples):
    network = make_network(3)
    tokenized = tokenize(text_examples, tokenizer, max_input=80, max_target=16)
    assert predicted(network, tokenized, TEXT_TASK, Likelihood()) == predicted(
        network, tokenized, TEXT_TASK, Greedy()
    )
