"""Checkpoints made elsewhere: what a model can read of them, said before any work."""

import copy
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    GPT2Config,
    GPT2LMHeadModel,
)

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.models.causal import CausalLM
from dfwe.models.encoder import SequenceClassifier
from dfwe.models.family import Seq2SeqLM
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.loading import config_of, family_of, load, save

LABELS = ("sad", "mad", "glad")


class Task:
    name = "mood"

    def examples(self, corpus, split):
        return (Example("1", "1", "context:", "mood:", "sad", ("sad",), LABELS),)


def fits(model, folder, config):
    """Whether a model fits that is in a folder, by its configuration as transformers reads it."""
    (folder / "config.json").write_text(json.dumps(config))
    checkpoint = Checkpoint(folder, ())
    read = config_of(checkpoint).to_dict() if config else {}
    return model.fits(checkpoint, read, Task(), None)


T5 = {"model_type": "t5", "is_encoder_decoder": True, "n_positions": 16}
GPT = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 700}
BERT = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "max_position_embeddings": 512,
}


def head(*labels):
    return {**BERT, "id2label": {str(i): label for i, label in enumerate(labels)}}


@pytest.mark.parametrize(
    ("model", "config"),
    [
        (Seq2SeqLM("m"), T5),
        (CausalLM("m"), GPT),
        (SequenceClassifier("m"), head("Sad", "Mad", "Glad")),
        (SequenceClassifier("m"), head("LABEL_0", "LABEL_1", "LABEL_2")),
    ],
)
def test_what_fits_is_accepted(tmp_path, model, config):
    fits(model, tmp_path, config)


@pytest.mark.parametrize(
    ("model", "config", "most"),
    [
        (Seq2SeqLM("m"), T5, 512),  # its positions are relative
        (CausalLM("m"), GPT, 512),
        (CausalLM("m"), {**GPT, "n_positions": 600}, 600 - 128),
        (CausalLM("m", max_target=8), {**GPT, "n_positions": 64}, 56),
        (SequenceClassifier("m"), {**BERT, "max_position_embeddings": 64}, 64),
        (SequenceClassifier("m"), {**BERT, "model_type": "roberta", "pad_token_id": 1}, 510),
        (SequenceClassifier("m"), {**BERT, "max_position_embeddings": 8192}, 512),
    ],
)
def test_an_input_is_as_long_as_the_checkpoint_has_positions(tmp_path, model, config, most):
    assert model.limit_of(config) == most
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    given = replace(model, path=str(tmp_path))
    assert given.input_limit == most
    given.check_length(tmp_path, config)
    assert replace(given, max_input=9).input_limit == 9


def test_a_family_without_a_model_says_how_to_name_one():
    with pytest.raises(UserError, match=r"model=m is a family of models; name one .* model.path="):
        _ = SequenceClassifier("m").folder


@pytest.mark.parametrize(
    ("model", "config", "match"),
    [
        (Seq2SeqLM("m"), GPT, "add model=causal"),
        (CausalLM("m"), T5, "add model=seq2seq"),
        (CausalLM("m"), {**GPT, "n_positions": 600}, r"600 positions.*lower model.max_input"),
        (
            SequenceClassifier("m"),
            {**head("Sad", "Mad", "Glad"), "model_type": "roberta", "pad_token_id": 1},
            r"510 positions.*lower model.max_input",
        ),
        (SequenceClassifier("m"), head("mad", "sad", "glad"), "in this order, sad, mad, glad"),
        (SequenceClassifier("m"), head("LABEL_0", "LABEL_1"), "has the labels LABEL_0, LABEL_1"),
        (
            SequenceClassifier("m"),
            head("LABEL_1", "LABEL_0", "LABEL_2"),
            "in this order, sad, mad",
        ),
        (SequenceClassifier("m"), BERT, "has the labels LABEL_0, LABEL_1"),
        (SequenceClassifier("m"), head(0, 1, 2), "has the labels 0, 1, 2"),
        (SequenceClassifier("m"), {**BERT, "id2label": {"1": "sad", "2": "mad"}}, "labels 1, 2"),
        (SequenceClassifier("m"), {**BERT, "architectures": ["BertModel"]}, "gives no answers"),
        (Seq2SeqLM("m"), {}, "no model's configuration"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(tmp_path, model, config, match):
    with pytest.raises(UserError, match=match):
        fits(model, tmp_path, config)


def test_a_folder_without_a_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        family_of(Checkpoint(tmp_path, ()))


@pytest.mark.parametrize(
    ("family", "lacking", "wanted"),
    [
        ("gpt", ("pad_token", "eos_token"), "eos_token"),
        ("gpt", ("eos_token",), "eos_token"),
        ("gpt", ("pad_token",), None),
        ("bert", ("pad_token", "eos_token"), "pad_token"),
        ("bert", ("eos_token",), None),
    ],
)
def test_a_tokenizer_that_cannot_end_or_pad_a_text_is_refused(
    family, lacking, wanted, tokenizer, tmp_path
):
    size = {"vocab_size": len(tokenizer)}
    network = (
        GPT2LMHeadModel(GPT2Config(n_embd=8, n_layer=1, n_head=1, **size))
        if family == "gpt"
        else BertForSequenceClassification(
            BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, **size)
        )
    )
    network.save_pretrained(tmp_path)
    short = copy.deepcopy(tokenizer)
    for name in lacking:
        setattr(short, name, None)
    short.save_pretrained(tmp_path)
    if wanted is None:
        assert load(tmp_path)[1].pad_token_id is not None
    else:
        with pytest.raises(UserError, match=f"tokenizer of .* has no {wanted}, without which"):
            load(tmp_path)


@pytest.fixture
def saved(tmp_path, make_network, tokenizer):
    save(make_network(), tokenizer, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
)
def test_every_file_of_the_tokenizer_is_part_of_the_model(name, saved):
    """Commit 60dbe5b: the digest is the same, and `do_lower_case` may differ."""
    before = Seq2SeqLM("m", str(saved)).digest
    path = saved / name
    changed = {**json.loads(path.read_text() if path.exists() else "{}"), "do_lower_case": False}
    path.write_text(json.dumps(changed))
    assert Seq2SeqLM("m", str(saved)).digest != before


def test_the_limit_of_targets_decides_a_score_where_text_is_generated(saved, make_study):
    """Gold likelihoods break ties and end at it.

    Commit 60dbe5b: the address of a search over a person's checkpoints is the same for 3 and 24.
    """
    study = make_study()

    def scoring(family, limit):
        model = family("m", str(saved), max_target=limit)
        return model.scoring(study.task, study.corpus, "dev", study.decoding)

    for family in (Seq2SeqLM, CausalLM):
        assert scoring(family, 3) != scoring(family, 24)
    assert scoring(SequenceClassifier, 3) == scoring(SequenceClassifier, 24)


def test_how_texts_are_tokenised_is_part_of_a_recipe(saved, make_study, monkeypatch):
    study, model = make_study(), Seq2SeqLM("m", str(saved))
    before = model.settings(), model.scoring(study.task, study.corpus, "dev", study.decoding)
    monkeypatch.setattr("dfwe.models.family.TOKENIZATION", -1)
    assert model.settings() != before[0]
    assert model.scoring(study.task, study.corpus, "dev", study.decoding) != before[1]
