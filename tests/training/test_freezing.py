"""BitFit changes biases and head only, bit for bit; what has no biases says so."""

import pytest
import torch

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.scoring.decoding import Classify
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TaskDataModule
from dfwe.training.freezing import freeze

LABELS = ("good", "bad")
EXAMPLES = [
    Example(
        f"e{i}",
        f"e{i}",
        f"the film was {LABELS[i % 2]}",
        "",
        LABELS[i % 2],
        (LABELS[i % 2],),
        LABELS,
    )
    for i in range(16)
]
TASK = Task("mood", "mood", lambda *a: EXAMPLES, Label(), (Accuracy(),), 1, labels=LABELS)


class Corpus:
    name = "films"

    def dialogues(self, split, title=None):
        return ()


@pytest.mark.parametrize(("trained", "last"), [("biases", "bias"), ("norms", "LayerNorm")])
def test_only_the_chosen_parameters_and_the_head_change_bit_for_bit(
    trained, last, bert, tmp_path, build_trainer
):
    encoder, corpus = SequenceClassifier("bert", str(bert), max_input=12), Corpus()
    network, tokenizer = encoder.start(bert, TASK, corpus, 0)
    before = {name: value.detach().clone() for name, value in network.named_parameters()}
    split = encoder.tokenize(TASK, corpus, "train", tokenizer)
    training = TrainingConfig(
        learning_rate=1e-2, effective_batch=8, epochs=2, monitor="own", parameters=trained
    )
    module = encoder.module(
        network, TASK, Classify(), split, train={"mood": split}, training=training
    )
    trainer = build_trainer(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1)
    trainer.fit(module, TaskDataModule({"mood": split}, split, training, seed=0))
    changed = {n for n, value in network.named_parameters() if not torch.equal(value, before[n])}
    head = ("classifier", "bert.pooler")
    allowed = {n for n in before if n.startswith(head) or last in n.split(".")}
    assert changed <= allowed
    # A key's bias adds the same to every score of a softmax: its gradient is rounding alone.
    assert {n for n in allowed if "key" not in n} <= changed


def test_a_model_without_biases_offers_layer_norms(make_network):
    network = make_network()
    with pytest.raises(UserError, match=r"none in its backbone; set training\.parameters=norms"):
        freeze(network, "biases")
    freeze(network, "norms")
    trained = [name for name, value in network.named_parameters() if value.requires_grad]
    assert trained
    assert all("layer_norm" in name for name in trained)


def test_what_is_trained_is_part_of_a_recipe():
    assert TrainingConfig().settings()["parameters"] == "all"
    assert TrainingConfig(parameters="biases").settings()["parameters"] == "biases"
    with pytest.raises(UserError, match=r"training\.parameters=bias should be 'all', 'biases' or"):
        TrainingConfig(parameters="bias")
