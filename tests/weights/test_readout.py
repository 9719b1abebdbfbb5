"""Heads that read the mean of the tokens, against plain torch on transformers' hidden states."""

import copy
import json
import pickle

import pytest
import torch
import transformers
from torch.func import functional_call
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from dfwe.errors import UserError
from dfwe.weights.loading import load, save
from dfwe.weights.readout import POOLING, read_at_mean, readout_of, reads_mean, write_pooling

SIZES = {
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "num_labels": 3,
}
BY_MEAN = {  # sentence-transformers 4 and older, 5 and newer
    "flags": {
        "word_embedding_dimension": 16,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "include_prompt": True,
    },
    "name": {"embedding_dimension": 16, "pooling_mode": "mean", "include_prompt": True},
}


def classifier(kind, seed=0):
    """A random network of transformers with a head of three labels, in evaluation mode."""
    torch.manual_seed(seed)
    settings = SIZES | ({"pad_token_id": 0} if kind == "ModernBert" else {})
    config = getattr(transformers, f"{kind}Config")(**settings)
    return AutoModelForSequenceClassification.from_config(config).eval()


def head_of(kind, network, state):
    """The logits that the layers after the backbone make of one state (m, d), layer by layer."""
    match kind:
        case "Bert":
            pooled = torch.tanh(network.bert.pooler.dense(state))
            return network.classifier(pooled)
        case "Roberta":
            return network.classifier.out_proj(torch.tanh(network.classifier.dense(state)))
        case "DistilBert":
            return network.classifier(torch.relu(network.pre_classifier(state)))
        case "Electra":
            dense = network.classifier.dense(state)
            return network.classifier.out_proj(torch.nn.functional.gelu(dense))
        case "DebertaV2":
            return network.classifier(torch.nn.functional.gelu(network.pooler.dense(state)))
        case "MPNet":
            return network.classifier.out_proj(torch.tanh(network.classifier.dense(state)))


@pytest.fixture
def batch():
    """Three texts of five, three and one token, padded."""
    ids = torch.tensor([[2, 7, 9, 11, 3], [2, 8, 3, 0, 0], [6, 0, 0, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@pytest.fixture
def sentence_encoder(tmp_path, bert):
    """The folder of a classifier that is read at the mean."""
    network = classifier("Bert")
    network.save_pretrained(tmp_path / "bert")
    AutoTokenizer.from_pretrained(bert).save_pretrained(tmp_path / "bert")
    write(tmp_path / "bert", BY_MEAN["flags"])
    return tmp_path / "bert"


def write(folder, settings):
    (folder / POOLING).parent.mkdir(parents=True, exist_ok=True)
    (folder / POOLING).write_text(json.dumps(settings))


def logits(network, batch):
    with torch.no_grad():
        return network(**batch).logits


@pytest.mark.parametrize("settings", BY_MEAN.values(), ids=BY_MEAN)
def test_a_folder_says_that_its_model_is_read_at_the_mean(settings, tmp_path):
    write(tmp_path, settings)
    assert readout_of(tmp_path) == "mean"


@pytest.mark.parametrize("settings", [{"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
def test_a_folder_says_that_its_model_is_read_at_the_first_token(settings, tmp_path):
    assert readout_of(tmp_path) == "first"  # nothing says otherwise
    write(tmp_path, settings)
    assert readout_of(tmp_path) == "first"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"pooling_mode_max_tokens": True}, "max_tokens"),
        ({"pooling_mode_weightedmean_tokens": True}, "weightedmean_tokens"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        (
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            r"cls_token \+ mean_tokens",
        ),
        ({"pooling_mode": ["mean", "max"]}, r"\['mean', 'max'\]"),
        ({"pooling_mode_cls_token": False}, ""),
        ([], ""),
    ],
)
def test_other_poolings_are_refused(settings, named, tmp_path):
    write(tmp_path, settings)
    with pytest.raises(UserError, match=rf"names the pooling '{named}', .* set model\.readout="):
        readout_of(tmp_path)


def test_what_is_written_is_read_again(tmp_path):
    write_pooling(tmp_path, 16)
    assert readout_of(tmp_path) == "mean"
    assert json.loads((tmp_path / POOLING).read_text())["word_embedding_dimension"] == 16


@pytest.mark.parametrize(
    "kind", ["Bert", "Roberta", "DistilBert", "Electra", "DebertaV2", "MPNet"]
)
def test_the_head_reads_the_mean_of_the_last_states(kind, batch, tmp_path):
    """The reference is the layers of the head, one by one, on the mean in plain torch."""
    network = classifier(kind)
    network.save_pretrained(tmp_path)
    states = AutoModel.from_pretrained(tmp_path).eval()(**batch).last_hidden_state
    mean = torch.stack([states[0].mean(0), states[1, :3].mean(0), states[2, 0]])
    wanted = head_of(kind, network, mean)
    plain = logits(network, batch)
    found = logits(read_at_mean(network), batch)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert torch.allclose(found[2], plain[2], atol=1e-6)  # one token is its mean
    assert (found - plain)[:2].abs().max() > 1e-4


@pytest.mark.parametrize("kind", ["Bert", "Roberta", "DistilBert", "ModernBert"])
def test_padding_does_not_matter(kind, batch):
    network = read_at_mean(classifier(kind))
    together = logits(network, batch)
    for row, length in enumerate((5, 3, 1)):
        alone = {name: values[row : row + 1, :length] for name, values in batch.items()}
        assert torch.allclose(logits(network, alone)[0], together[row], atol=1e-6)


def test_without_a_mask_all_tokens_count(batch):
    network = read_at_mean(classifier("Bert"))
    ids = batch["input_ids"][:1]
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    assert torch.equal(logits(network, {"input_ids": ids}), logits(network, whole))


@pytest.mark.parametrize("kind", ["Albert", "Llama", "Bart"])
def test_an_architecture_that_cannot_be_read_at_the_mean_is_refused(kind):
    network = classifier(kind) if kind != "Albert" else albert()
    network.config.pad_token_id = 0
    with pytest.raises(UserError, match=rf"^{kind}ForSequenceClassification cannot be read at"):
        read_at_mean(network)


def albert():
    config = transformers.AlbertConfig(**SIZES, embedding_size=16)
    return AutoModelForSequenceClassification.from_config(config).eval()


def test_a_loaded_folder_is_read_rightly_and_saved_so(sentence_encoder, batch, tmp_path):
    """Commit 60dbe5b reads the first token of the same folder, as transformers does."""
    network, tokenizer = load(sentence_encoder)
    plain = AutoModelForSequenceClassification.from_pretrained(sentence_encoder).eval()
    wanted = logits(read_at_mean(classifier("Bert")), batch)
    assert torch.equal(logits(network, batch), wanted)
    assert not torch.allclose(logits(plain, batch), wanted, atol=1e-4)
    save(network, tokenizer, tmp_path / "again")
    assert torch.equal(logits(load(tmp_path / "again")[0], batch), wanted)
    save(plain, tokenizer, tmp_path / "plain")
    assert readout_of(tmp_path / "plain") == "first"


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))]
)
def test_a_copy_of_the_network_is_read_at_the_mean_too(copied, batch):
    network = read_at_mean(classifier("Bert"))
    other = copied(network)
    assert reads_mean(other)
    assert torch.equal(logits(other, batch), logits(network, batch))
    assert not reads_mean(classifier("Bert"))


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_other_parameters_for_one_call_reach_pooler_and_head(kind, batch):
    network, other = read_at_mean(classifier(kind)), read_at_mean(classifier(kind, seed=1))
    values = {name: value.detach() for name, value in other.named_parameters()}
    found = functional_call(network, values, kwargs=batch).logits
    assert torch.equal(found, logits(other, batch))
    assert not torch.equal(found, logits(network, batch))


def test_gradients_are_those_of_plain_torch(batch):
    network, plain = read_at_mean(classifier("Bert")), classifier("Bert")
    network(**batch).logits[1].sum().backward()
    state = plain.bert(**batch).last_hidden_state[1:2, :3].mean(1)
    head_of("Bert", plain, state).sum().backward()
    for (name, ours), theirs in zip(network.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(ours.grad, theirs.grad, atol=1e-6), name
