"""Checkpoints made elsewhere: what a model can read of them, said before any work."""

import json

import pytest

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.model.causal import Causal
from dfwe.model.encoder import Encoder
from dfwe.model.pretrained import Model, family_of

LABELS = ("sad", "mad", "glad")


class Task:
    name = "mood"

    def examples(self, corpus, split):
        return (Example("1", "1", "context:", "mood:", "sad", ("sad",), LABELS),)


def folder(tmp_path, **config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


T5 = {"model_type": "t5", "is_encoder_decoder": True, "n_positions": 16}
GPT = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_positions": 700}
BERT = {"model_type": "bert", "architectures": ["BertForSequenceClassification"],
        "max_position_embeddings": 512}  # fmt: skip


def head(*labels):
    return {**BERT, "id2label": {str(i): label for i, label in enumerate(labels)}}


@pytest.mark.parametrize(
    ("model", "config"),
    [(Model("m"), T5), (Causal("m"), GPT), (Encoder("m"), head("Sad", "Mad", "Glad")),
     (Encoder("m"), head("LABEL_0", "LABEL_1", "LABEL_2"))],
)  # fmt: skip
def test_what_fits_is_accepted(tmp_path, model, config):
    model.fits(folder(tmp_path, **config), Task(), None)


@pytest.mark.parametrize(
    ("model", "config", "match"),
    [
        (Model("m"), GPT, "add model=causal"),
        (Causal("m"), T5, "add model=flan_t5_base"),
        (Causal("m"), {**GPT, "n_positions": 600}, r"600 positions.*lower model.max_input"),
        (
            Encoder("m"),
            {**head("Sad", "Mad", "Glad"), "model_type": "roberta", "pad_token_id": 1},
            r"510 positions.*lower model.max_input",
        ),
        (Encoder("m"), head("mad", "sad", "glad"), "in this order, sad, mad, glad"),
        (Encoder("m"), head("LABEL_0", "LABEL_1"), "has the labels LABEL_0, LABEL_1"),
        (Encoder("m"), BERT, "has the labels LABEL_0, LABEL_1"),
        (Encoder("m"), {**BERT, "architectures": ["BertModel"]}, "gives no answers"),
        (Model("m"), {}, "no model's configuration"),
    ],
)
def test_what_does_not_fit_gets_one_sentence(tmp_path, model, config, match):
    with pytest.raises(UserError, match=match):
        model.fits(folder(tmp_path, **config), Task(), None)


def test_a_folder_without_a_configuration_is_named(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        family_of(tmp_path)
