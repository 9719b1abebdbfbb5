"""Training through Lightning: Adam's own steps, exact resume, validation by the scoring path."""

from dataclasses import replace
from functools import partial

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Checkpoint
from plain_training import distance, tlidb, without_dropout

from dfwe.callbacks.checkpoint import BestEpoch, EpochCheckpoint
from dfwe.callbacks.early_stopping import Patience
from dfwe.callbacks.epochs import ScoredEpochs
from dfwe.data.batches import scoring_loader
from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.scoring.backends.t5 import token_losses
from dfwe.scoring.decoding import Greedy
from dfwe.scoring.scorer import Scorer
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TaskDataModule, TrainingSteps
from dfwe.training.module import GenerationModule

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)
TRAINING = TrainingConfig(batch=4, effective_batch=12, learning_rate=1e-3, epochs=3)


@pytest.fixture(scope="module")
def trained(build_trainer):
    """Network, split, folder, settings -> the trained module and its trainer."""
    return partial(fit, build_trainer)


@pytest.fixture(scope="module")
def tokenized(tokenizer, label_examples):
    return tokenize(label_examples, tokenizer, max_input=60, max_target=16)


@pytest.fixture(scope="module")
def text_tokenized(tokenizer, text_examples):
    return tokenize(text_examples, tokenizer, max_input=60, max_target=16)


def fit(
    cpu_trainer,
    network,
    tokenized,
    tmp_path,
    training=TRAINING,
    callbacks=(),
    resume=None,
    epochs=3,
):
    module = GenerationModule(network, TASK, Greedy(), tokenized, training, seed=7)
    trainer = cpu_trainer(
        tmp_path,
        max_epochs=epochs,
        precision=training.precision,
        reload_dataloaders_every_n_epochs=1,
        callbacks=list(callbacks),
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
    )
    data = TaskDataModule({"t": tokenized}, tokenized, training, seed=7)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module, trainer


class SaveEpoch(L.Callback):
    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)


def test_a_resumed_training_ends_with_the_same_weights(trained, tmp_path, make_network, tokenized):
    whole, _ = trained(make_network(), tokenized, tmp_path)
    path = tmp_path / "resume.ckpt"
    trained(make_network(), tokenized, tmp_path, callbacks=[SaveEpoch(path)], epochs=2)
    torch.manual_seed(123)  # a new process has drawn other numbers
    resumed, trainer = trained(make_network(3), tokenized, tmp_path, resume=path)
    assert trainer.current_epoch == 3
    for (name, a), b in zip(whole.named_parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert resumed.scores == whole.scores


@pytest.mark.parametrize("tasks", [1, 2])
def test_a_training_is_that_of_tlidb(
    tasks, build_trainer, tmp_path, make_network, tokenized, text_tokenized
):
    """Gradients are clipped at norm 1; several tasks are weighed by 1/sqrt(their batches); what
    an epoch leaves over is carried on.

    Commit 60dbe5b: weights end 8.3e-4 (one task) and 7.5e-4 (two) from these, on average.
    """
    training = TrainingConfig(batch=4, effective_batch=12, learning_rate=1e-3, epochs=2)
    splits = dict(list({"t": tokenized, "texts": text_tokenized}.items())[:tasks])
    network, plain = without_dropout(make_network()), without_dropout(make_network())
    module = GenerationModule(network, TASK, Greedy(), tokenized, training, seed=7)
    trainer = build_trainer(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1)
    trainer.fit(module, TaskDataModule(splits, tokenized, training, seed=7))
    norms = tlidb(plain.train(), splits, training, seed=7)
    assert max(norms) > 1  # clipping is at work
    assert distance(network, make_network()) > 1e-3
    assert distance(network, plain) < 2e-6


def test_an_epoch_is_plain_adam_on_the_steps(trained, tmp_path, make_network, tokenized):
    training = TrainingConfig(
        batch=4, effective_batch=12, learning_rate=1e-3, epochs=1, warmup=3, clip=None
    )
    network = without_dropout(make_network())
    start = {name: value.clone() for name, value in network.state_dict().items()}
    module, trainer = trained(network, tokenized, tmp_path, training, epochs=1)

    plain = make_network()
    plain.load_state_dict(start)
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
    steps = list(TrainingSteps({"t": tokenized}, training, seed=7))
    for number, step in enumerate(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, (number + 1) / 3)
        optimizer.zero_grad()
        torch.stack([(token_losses(plain, p) * p.weight).sum() for p in step]).sum().backward()
        optimizer.step()
    assert trainer.global_step == len(steps)
    for (name, a), b in zip(module.network.named_parameters(), plain.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-5), name


@pytest.mark.parametrize("warmup", [0, 1, 3, 20])
def test_the_rate_rises_linearly_from_the_first_step_on(make_network, tokenized, warmup):
    training = replace(TRAINING, warmup=warmup)
    module = GenerationModule(make_network(), TASK, Greedy(), tokenized, training)
    config = module.configure_optimizers()
    optimizer, schedule = config["optimizer"], config["lr_scheduler"]
    for step in range(30):
        expected = training.learning_rate * min(1.0, (step + 1) / max(1, warmup))
        assert optimizer.param_groups[0]["lr"] == expected
        optimizer.step()
        schedule.step()


def test_training_lowers_the_loss_and_logs_what_is_watched(
    trained, tmp_path, make_network, tokenized
):
    _, trainer = trained(make_network(), tokenized, tmp_path, epochs=1)
    first = float(trainer.callback_metrics["train/loss_epoch"])
    _, trainer = trained(make_network(), tokenized, tmp_path, epochs=3)
    assert float(trainer.callback_metrics["train/loss_epoch"]) < first
    watched = {
        "dev/score",
        "dev/log_likelihood",
        "dev/accuracy",
        "train/loss_step",
        "train/learning_rate",
        "train/gradient_norm",
    }
    assert watched <= set(trainer.callback_metrics)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validation_is_the_float32_scoring_path(
    trained, precision, tmp_path, make_network, tokenized
):
    training = TrainingConfig(batch=4, effective_batch=12, learning_rate=1e-3, precision=precision)
    module, _ = trained(make_network(), tokenized, tmp_path, training, epochs=1)
    assert module.scores == Scorer(module.network, tokenized, TASK, Greedy())()


def test_validate_alone_scores_a_module_without_a_fit(
    build_trainer, make_network, tokenized, tmp_path
):
    module = GenerationModule(make_network(), TASK, Greedy(), tokenized)
    trainer = build_trainer(tmp_path)
    (shown,) = trainer.validate(
        module, scoring_loader(tokenized, trainer.strategy.root_device), verbose=False
    )
    assert module.scores is not None
    assert shown["dev/score"] == module.scores.score


def test_a_loss_that_is_not_finite_stops_with_a_way_out(
    trained, tmp_path, make_network, tokenized
):
    network = make_network()
    with torch.no_grad():
        network.lm_head.weight[5] = torch.nan
    with pytest.raises(
        UserError, match=r"became nan at step 0 of epoch 0; lower training\.learning"
    ):
        trained(network, tokenized, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch": 7},
        {"batch": 0},
        {"monitor": "both"},
        {"epochs": 0},
        {"epochs": 1.5},
        {"learning_rate": -1.0},
        {"patience": "long"},
        {"precision": "fp16"},
        {"tokens": 0},
        {"clip": 0.0},
        {"accumulation": "sum"},
    ],
    ids=str,
)
def test_a_setting_out_of_its_range_is_refused(wrong):
    with pytest.raises(UserError, match=f"training.{next(iter(wrong))}="):
        TrainingConfig(**wrong)


@pytest.mark.parametrize(
    "other",
    [
        {"tokens": 10},
        {"clip": None},
        {"accumulation": "mean"},
        {"precision": "bf16-mixed"},
        {"warmup": 9},
    ],
)
def test_what_decides_weights_is_part_of_a_recipe(other):
    assert TrainingConfig(**other).settings() != TrainingConfig().settings()


def test_the_monitor_shows_in_a_recipe_as_the_monitored_task():
    assert TrainingConfig(monitor="own").settings() == TrainingConfig(monitor="target").settings()


class KeepEpochs(L.Callback):
    """Each epoch's weights, its validation's scores and what was logged of them."""

    def __init__(self):
        self.epochs = []

    def on_train_epoch_end(self, trainer, pl_module):
        weights = {name: value.clone() for name, value in pl_module.network.state_dict().items()}
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.epochs.append((weights, pl_module.scores, logged))


def test_each_epochs_validation_scores_that_epochs_weights(
    trained, tmp_path, make_network, tokenized
):
    kept, training = KeepEpochs(), replace(TRAINING, learning_rate=1e-2)
    trained(make_network(), tokenized, tmp_path, training, [kept])
    network = make_network(5)
    for weights, scores, logged in kept.epochs:
        network.load_state_dict(weights)
        assert Scorer(network, tokenized, TASK, Greedy())() == scores
        assert logged["dev/score"] == scores.score
        assert logged["dev/log_likelihood"] == scores.log_likelihood
        assert logged["dev/accuracy"] == scores.metrics["accuracy"]
    assert len({scores.log_likelihood for _, scores, _ in kept.epochs}) == 3
    assert len({scores.texts for _, scores, _ in kept.epochs}) > 1
    assert len({logged["dev/score"] for *_, logged in kept.epochs}) > 1


class EverWorse(L.Callback):
    def on_train_epoch_end(self, trainer, pl_module):
        pl_module.scores = replace(pl_module.scores, score=float(-trainer.current_epoch))


def test_a_training_whose_patience_ran_out_is_not_continued(
    trained, tmp_path, make_network, tokenized
):
    def run():
        scored, best = ScoredEpochs(), BestEpoch(tmp_path)
        last = EpochCheckpoint(tmp_path, best)
        callbacks = [EverWorse(), scored, Patience(1), best, last]
        path = last.resumable
        trained(make_network(), tokenized, tmp_path, TRAINING, callbacks, path, epochs=5)
        return scored.epochs, best.weights

    first, again = run(), run()  # the second as after a kill between the last epoch and the store
    assert len(first[0]) == 2
    assert again == first
