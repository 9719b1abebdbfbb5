"""Linear probes: their features against the network's own states."""

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from dfwe.data.dialogue import Example
from dfwe.data.tokenization import tokenize, tokenize_labels
from dfwe.errors import UserError
from dfwe.studies.region.backbones import load_backbone
from dfwe.studies.region.probe import Probe, Texts, features


def test_an_encoders_features_are_the_mean_of_its_states_or_the_first_of_them(
    bert, label_examples
):
    """Commit 60dbe5b gives the first token's states whatever the checkpoint was trained for."""
    backbone, tokenizer = load_backbone(bert)
    tokenized = tokenize_labels(label_examples, [[0]] * 37, tokenizer, max_input=20)
    rows = features(backbone, Texts.of(tokenized, [0] * 37), ("mean", "first"))
    assert rows["mean"].shape == rows["first"].shape == (37, 16)
    network = AutoModel.from_pretrained(bert)
    for i, ids in enumerate(tokenized.sources):
        with torch.no_grad():
            states = network(torch.tensor([ids])).last_hidden_state[0].numpy()
        assert rows["mean"][i] == pytest.approx(states.mean(0), abs=1e-6)
        assert rows["first"][i] == pytest.approx(states[0], abs=1e-6)


def test_a_golden_vector_of_the_mean_of_two_texts(bert):
    """Commit 60dbe5b gives (1.782, -1.004, -0.996, ...) and (1.780, -1.003, -0.997, ...).

    The mean of the tokens is (0.658, -0.407, -0.382, ...) and (0.956, -0.383, -0.813, ...).
    """
    network = AutoModel.from_pretrained(bert)
    tokenizer = AutoTokenizer.from_pretrained(bert)
    texts = ["the film was good", "bad"]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    mask = inputs["attention_mask"][..., None]
    with torch.no_grad():
        states = network(**inputs).last_hidden_state
    wanted = (states * mask).sum(1) / mask.sum(1)
    examples = [Example(text, text, text, "", "x", ("x",)) for text in texts]
    split = tokenize_labels(examples, [[0], [0]], tokenizer, max_input=20)
    backbone, _ = load_backbone(bert)
    rows = features(backbone, Texts.of(split, [0, 0]), ("mean",))["mean"]
    assert rows == pytest.approx(wanted.double().numpy(), abs=1e-6)
    assert rows[:, :3] == pytest.approx(
        np.array([[0.6581, -0.4073, -0.3823], [0.9562, -0.3832, -0.8129]]), abs=1e-3
    )


class Singles(torch.Tensor):
    """On a device without float64, as Apple's."""

    def double(self):
        raise TypeError("Cannot convert a MPS Tensor to float64 dtype")

    def cpu(self):
        return self.as_subclass(torch.Tensor)


def test_features_leave_a_device_without_doubles(bert, label_examples):
    backbone, tokenizer = load_backbone(bert)
    tokenized = tokenize_labels(label_examples, [[0]] * 37, tokenizer, max_input=20)
    texts = Texts.of(tokenized, [0] * 37)
    wanted = features(backbone, texts, ("first",))["first"]

    def hook(module, inputs, out):
        out.last_hidden_state = out.last_hidden_state.as_subclass(Singles)

    backbone.register_forward_hook(hook)
    assert (features(backbone, texts, ("first",))["first"] == wanted).all()


def test_a_t5s_features_are_its_encoders_mean(make_network, tokenizer, label_examples):
    network = make_network()
    tokenized = tokenize(label_examples, tokenizer, max_input=40, max_target=8)
    rows = features(network, Texts.of(tokenized, [0] * 37), ("mean",))["mean"]
    with torch.no_grad():
        states = network.encoder(torch.tensor([tokenized.sources[3]])).last_hidden_state[0]
    assert rows[3] == pytest.approx(states.mean(0).numpy(), abs=1e-5)


def test_a_body_that_overflows_has_an_infinite_loss(bert, label_examples):
    backbone, tokenizer = load_backbone(bert)
    tokenized = tokenize_labels(label_examples, [[0]] * 37, tokenizer, max_input=20)
    texts = Texts.of(tokenized, [i % 2 for i in range(37)])
    probe = Probe("t", texts, texts, ("mean", "first"))
    losses = probe(backbone)
    assert list(losses) == ["mean", "first"]
    assert all(0 < loss < np.inf for loss, _ in losses.values())
    assert losses["mean"] != losses["first"]
    with torch.no_grad():
        backbone.encoder.layer[1].output.LayerNorm.weight.fill_(torch.nan)
    assert probe(backbone) == {"mean": (np.inf, 0.0), "first": (np.inf, 0.0)}


def test_too_few_texts_for_a_probe_are_named():
    with pytest.raises(UserError, match=r"A probe of trec would learn from 3 texts and needs 4"):
        Probe("trec", Texts((), np.array([0, 1, 0])), Texts((), np.array([0])), ("mean",))
