"""Batches: everything once, budgets kept, the gradient of the plain way."""

import pytest
import torch

from dfwe.data.batches import evaluation_batches
from dfwe.data.tokenization import tokenize
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
    steps = TrainingSteps(splits, TrainingConfig(batch=4, effective_batch=12), seed=3)
    draws = steps.draws
    for name, split in splits.items():
        taught = [i for task, index in draws if task == name for i in index]
        assert sorted(taught) == list(range(len(split)))
    made = list(steps)
    assert len(made) == len(steps) == -(-len(draws) // 3)
    assert sum(len(part.index) for step in made for part in step) == 37 + 23


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


def plain_gradient(network, draws, splits):
    """transformers' own loss of each draw, one padded batch each; mean over the draws."""
    network.zero_grad()
    for name, index in draws:
        split = splits[name]
        rows = [torch.tensor(split.sources[i]) for i in index]
        source = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
        labels = torch.nn.utils.rnn.pad_sequence(
            [torch.tensor(split.targets[i]) for i in index], batch_first=True, padding_value=-100
        )
        out = network(input_ids=source, attention_mask=(source != 0).long(), labels=labels)
        (out.loss / len(draws)).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize("tokens", [60, 250, 10**6])
def test_the_gradient_of_a_resplit_step_is_the_plain_one(tokens, splits, make_network):
    network = make_network(1)
    training = TrainingConfig(batch=4, effective_batch=12, tokens=tokens)
    steps = TrainingSteps(splits, training, seed=0)
    draws = steps.draws
    mixed = next(
        k for k in range(0, len(draws), 3) if len({name for name, _ in draws[k : k + 3]}) > 1
    )
    short = next(k for k, (_, index) in enumerate(draws) if len(index) < 4) // 3 * 3
    for start in {mixed, short, (len(draws) - 1) // 3 * 3}:  # a mixed, a short, the last step
        chosen = draws[start : start + 3]
        wanted = plain_gradient(network, chosen, splits)
        network.zero_grad()
        for part in steps._step(chosen):
            (token_losses(network, part) * part.weight).sum().backward()
        assert sum(float(part.weight.sum()) for part in steps._step(chosen)) == pytest.approx(1)
        found = torch.cat([p.grad.flatten() for p in network.parameters()])
        assert torch.allclose(found, wanted, rtol=1e-3, atol=1e-5 * float(wanted.abs().max()))
