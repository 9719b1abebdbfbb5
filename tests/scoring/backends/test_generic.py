"""BART-like and causal models, scored by transformers' own passes; any model's own settings."""

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import log_softmax

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize, tokenize_continued
from dfwe.scoring.backends.generic import token_losses
from dfwe.scoring.decoding import Greedy, Likelihood, backend_of


@pytest.fixture(scope="module")
def networks(tokenizer):
    """Random BART and GPT-2 of one layer on the tests' tokenizer."""
    from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"vocab_size": len(tokenizer), **ends}
    torch.manual_seed(0)
    bart = BartForConditionalGeneration(
        BartConfig(
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            bos_token_id=0,
            decoder_start_token_id=tokenizer.eos_token_id,
            forced_eos_token_id=None,
            init_std=0.6,
            **size,
        )
    )
    bart.generation_config.forced_bos_token_id = 5
    gpt = GPT2LMHeadModel(
        GPT2Config(
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=256,
            initializer_range=0.6,
            bos_token_id=1,
            **size,
        )
    )
    return {"bart": bart.eval(), "gpt2": gpt.eval()}


@pytest.fixture(scope="module")
def splits(tokenizer, label_examples):
    limits = {"max_input": 48, "max_target": 12}
    return {
        "bart": tokenize(label_examples, tokenizer, **limits),
        "gpt2": tokenize_continued(label_examples, tokenizer, **limits),
    }


def log_probability(network, source, text):
    """Of one text, token by token, without any batch."""
    if network.config.is_encoder_decoder:
        opened = [network.config.decoder_start_token_id, 5, *text]
        out = network(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([opened]))
        rows = out.logits[0, 1:-1]  # what follows the forced opening
    else:
        rows = network(input_ids=torch.tensor([source + text])).logits[0, len(source) - 1 : -1]
    return log_softmax(rows, -1)[torch.arange(len(text)), torch.tensor(text)].sum().item()


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_likelihoods_are_those_of_single_texts(name, networks, splits):
    network, split = networks[name], splits[name]
    for batch in evaluation_batches(split, tokens=400):
        with torch.inference_mode():
            answers = Likelihood()(network, batch, split, 8)
            for row, i in enumerate(batch.index.tolist()):
                source = list(split.sources[i])
                wanted = log_probability(network, source, list(split.targets[i]))
                assert answers.log_likelihoods[row] == pytest.approx(wanted, abs=1e-4)
                options = split.examples[i].options
                each = [log_probability(network, source, list(ids)) for ids in split.options[i]]
                assert answers.options[row] == pytest.approx(each, abs=1e-4)
                assert answers.texts[row] == options[max(range(len(each)), key=each.__getitem__)]


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_greedy_answers_are_those_of_single_sources(name, networks, splits, tokenizer):
    network, split = networks[name], splits[name]
    different = set()
    for batch in evaluation_batches(split, tokens=400):
        with torch.inference_mode():
            answers = Greedy()(network, batch, split, 6).texts
            for i, answer in zip(batch.index.tolist(), answers, strict=True):
                ids = torch.tensor([split.sources[i]])
                alone = network.generate(
                    input_ids=ids,
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=6,
                    do_sample=False,
                )[0]
                skipped = 1 if name == "bart" else len(split.sources[i])
                assert answer == tokenizer.decode(alone[skipped:], skip_special_tokens=True)
                different.add(answer)
    assert len(different) > 5


@pytest.mark.parametrize("name", ["bart", "gpt2"])
def test_training_losses_are_transformers_own(name, networks, splits):
    network, split = networks[name], splits[name]
    batch = evaluation_batches(split, tokens=100)[-1]
    losses = token_losses(network, batch)
    for row, i in enumerate(batch.index.tolist()):
        source, text = torch.tensor([split.sources[i]]), torch.tensor([split.targets[i]])
        if name == "bart":
            loss = network(input_ids=source, labels=text).loss
        else:
            labels = torch.cat([torch.full_like(source, -100), text], 1)
            loss = network(input_ids=torch.cat([source, text], 1), labels=labels).loss
        assert losses[row].sum().item() == pytest.approx(loss.item() * text.shape[1], abs=1e-3)


OTHER_WAYS = {
    "num_beams": 4,
    "num_return_sequences": 3,
    "length_penalty": 2.0,
    "early_stopping": True,
    "do_sample": True,
    "temperature": 9.0,
    "top_k": 4,
    "penalty_alpha": 0.9,
    "prompt_lookup_num_tokens": 2,
    "return_dict_in_generate": True,
    "output_scores": True,
    "max_time": 1e-9,
    "max_length": 3,
}
ENDS = [1, 83, 253, 297]
SETTINGS = {
    "ends": {"eos_token_id": ENDS, "decoder_start_token_id": 4},
    "others": OTHER_WAYS,
    "lengths": {"eos_token_id": ENDS, "min_new_tokens": 4, "forced_eos_token_id": 11},
    "forced": {"forced_bos_token_id": 7, "exponential_decay_length_penalty": [2, 1.5]},
    "banned": {"suppress_tokens": list(range(200, 300)), "begin_suppress_tokens": [447, 259]},
    "repeated": {"no_repeat_ngram_size": 1, "repetition_penalty": 1.3, "pad_token_id": -1},
    "source": {"encoder_repetition_penalty": 20.0},
    "text": {"stop_strings": ["a", "o"], "eos_token_id": None},
}


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(("t5", settings) for settings in SETTINGS if settings != "repeated"),
        *(("bart", settings) for settings in ("ends", "others", "lengths", "source")),
        *(("gpt2", settings) for settings in SETTINGS if settings not in ("forced", "source")),
    ],
)
def test_answers_are_those_of_a_models_own_generate(
    name, settings, networks, splits, make_network, tokenizer
):
    split = splits["gpt2" if name == "gpt2" else "bart"]
    (batch,) = [x for x in evaluation_batches(split, tokens=200) if 0 in x.index]
    plain = make_network(1) if name == "t5" else networks[name]
    network = deepcopy(plain)
    network.generation_config.update(**SETTINGS[settings])
    with torch.inference_mode():
        answers = Greedy()(network, batch, split, 6).texts
        before = Greedy()(plain, batch, split, 6).texts
    own = plain if settings == "others" else network  # which raises there, or answers otherwise
    for i, answer in zip(batch.index.tolist(), answers, strict=True):
        ids = torch.tensor([split.sources[i]])
        alone = own.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=6,
            num_beams=1,
            do_sample=False,
            num_return_sequences=1,
            tokenizer=tokenizer,
        )[0]
        skipped = len(split.sources[i]) if name == "gpt2" else 1
        assert answer == tokenizer.decode(alone[skipped:], skip_special_tokens=True)
    assert (answers == before) == (settings == "others")


def test_a_causal_source_ends_in_its_prompt_and_an_answer_in_its_end(splits, tokenizer):
    split = splits["gpt2"]
    for source, target, example in zip(split.sources, split.targets, split.examples, strict=True):
        assert tokenizer.decode(source).endswith("emotion:")
        assert len(source) <= 48
        assert target[-1] == tokenizer.eos_token_id
        assert tokenizer.decode(target[:-1]).strip() == example.target


def test_a_t5_keeps_its_own_passes(make_network, networks):
    assert backend_of(make_network()).__name__ == "dfwe.scoring.backends.t5"
    assert backend_of(networks["bart"]).__name__ == "dfwe.scoring.backends.generic"
