"""Batches: everything once, budgets kept, the gradient of the plain way."""

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.scoring.backends.t5 import token_losses
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TrainingSteps


@pytest.fixture(scope="module")
def splits(tokenizer, label_examples, text_examples):
    limits = {"max_input": 80, "max_target": 16}
    return {
        "labels": tokenize(label_examples, tokenizer, **limits),
        "texts": tokenize(text_examples, tokenizer, **limits),
    }


@pytest.mark.parametrize("tokens", [1, 200, 10**6])
def test_scoring_batches_hold_every_example_once_under_the_budget(tokens, splits, tokenizer):
    tokenized = splits["labels"]
    seen = []
    for batch in evaluation_batches(tokenized, tokens):
        assert batch.source.numel() <= tokens or len(batch.index) == 1
        for row, i in enumerate(batch.index.tolist()):
            seen.append(i)
            kept = batch.source[row][batch.mask[row].bool()].tolist()
            assert kept == tokenized.sources[i]
            assert batch.target[row][batch.target[row] != -100].tolist() == tokenized.targets[i]
    assert sorted(seen) == list(range(len(tokenized)))


def test_an_epoch_teaches_every_example_once_in_draws_of_one_task(splits):
    training = TrainingConfig(batch=4, effective_batch=12, accumulation="mean")
    steps = TrainingSteps(splits, training, seed=3)
    draws = steps.draws(0)
    for name, split in splits.items():
        taught = [i for task, index in draws if task == name for i in index]
        assert sorted(taught) == list(range(len(split)))
    batches = list(steps)
    assert len(batches) == len(steps) == -(-len(draws) // 3)
    assert sum(len(part.index) for step in batches for part in step) == 37 + 23


def test_what_an_epoch_leaves_over_is_carried_into_the_next(splits):
    """TLiDB steps after each third batch of an epoch and clears gradients at steps alone.

    Commit 60dbe5b: 6 steps in each epoch, the last of one batch.
    """
    steps = TrainingSteps(splits, TrainingConfig(batch=4, effective_batch=12), seed=3)
    assert len(steps.draws(0)) == 16  # 10 of labels and 6 of texts
    epochs = []
    for epoch in range(3):
        steps.set_epoch(epoch)
        epochs.append(steps.steps)
    assert [[len(step) for step in epoch] for epoch in epochs] == [
        [3, 3, 3, 3, 3],
        [4, 3, 3, 3, 3],
        [4, 3, 3, 3, 3],
    ]
    assert epochs[1][0][0] == steps.draws(0)[-1]
    assert epochs[2][0][0] == steps.draws(1)[-1]


def test_an_epoch_shorter_than_a_step_is_refused(splits):
    """Commit 60dbe5b: one smaller step an epoch; TLiDB would never step."""
    training = TrainingConfig(batch=8, effective_batch=64)
    with pytest.raises(UserError, match=r"texts has 23 examples, too few for one step of train"):
        TrainingSteps({"texts": splits["texts"]}, training, seed=0)
    assert len(TrainingSteps(splits, training, seed=0)) == 1  # 5 + 3 batches of 8


def test_an_epoch_is_decided_by_seed_and_epoch_alone(splits):
    def epoch(seed, number, before=0):
        steps = TrainingSteps(splits, TrainingConfig(), seed)
        for earlier in range(before):
            steps.set_epoch(earlier)
        steps.set_epoch(number)
        return [part.source.tolist() for step in steps for part in step]

    assert epoch(1, 2) == epoch(1, 2, before=2)
    assert epoch(1, 2) != epoch(1, 3)
    assert epoch(1, 2) != epoch(2, 2)


def plain_gradient(network, draws, splits, accumulation):
    """transformers' own loss of each draw, one padded batch each."""
    network.zero_grad()
    for name, index in draws:
        split = splits[name]
        rows = [torch.tensor(split.sources[i]) for i in index]
        source = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(split.targets[i]) for i in index], batch_first=True, padding_value=-100
        )
        out = network(input_ids=source, attention_mask=(source != 0).long(), labels=labels)
        weight = 1 / len(draws)
        if accumulation == "tlidb":  # 10 and 6 batches, three of them a step
            weight = {"labels": 10**-0.5, "texts": 6**-0.5}[name] / 3
        (out.loss * weight).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize("accumulation", ["tlidb", "mean"])
@pytest.mark.parametrize("tokens", [60, 250, 10**6])
def test_the_gradient_of_a_resplit_step_is_the_plain_one(
    tokens, accumulation, splits, make_network
):
    """Commit 60dbe5b: every draw has the same weight, which `mean` keeps."""
    network = make_network(1)
    training = TrainingConfig(
        batch=4, effective_batch=12, tokens=tokens, accumulation=accumulation
    )
    steps = TrainingSteps(splits, training, seed=0)
    steps.set_epoch(1)
    draws = steps.steps
    mixed = next(k for k, step in enumerate(draws) if len({name for name, _ in step}) > 1)
    short = next(k for k, step in enumerate(draws) if any(len(index) < 4 for _, index in step))
    for number in {mixed, short, 0, len(draws) - 1}:  # the first may have a carried draw
        wanted = plain_gradient(network, draws[number], splits, accumulation)
        network.zero_grad()
        for part in steps[number]:
            (token_losses(network, part) * part.weight).sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in network.parameters()])
        assert torch.allclose(gradient, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
        if accumulation == "mean":
            assert sum(float(part.weight.sum()) for part in steps[number]) == pytest.approx(1)
