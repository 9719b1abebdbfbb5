"""The search inside Lightning: screened in bf16 and sharded, it ends with an fp32 trial."""

import json
import warnings

import pytest
import torch

from dfwe.callbacks.interpolate import Interpolate
from dfwe.lab import lightning_trainer
from dfwe.model.batches import scoring_loader
from dfwe.model.decoding import Likelihood
from dfwe.model.encode import encode
from dfwe.model.seq2seq import Seq2Seq
from dfwe.proposals.ledger import Ledger
from dfwe.proposals.loop import Search
from dfwe.proposals.nelder_mead import nelder_mead
from dfwe.tasks.decode import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.weights.layout import flatten
from dfwe.weights.space import WeightSpace

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, make_network, tokenizer, label_examples):
    """screen, workers -> the result, the module and the ledger's rows."""
    encoded = encode(label_examples[:16], tokenizer, max_input=80, max_target=16)
    space = WeightSpace.from_modules([make_network(seed) for seed in range(3)])

    def run(screen=None, workers=1):
        folder = tmp_path_factory.mktemp("search")
        network = make_network(0)
        flatten(network)
        module = Seq2Seq(network, TASK, Likelihood(), encoded)
        chosen = Search(lambda n: nelder_mead(n, evaluations=9), screen=screen)
        ledger = Ledger(folder / "trials.jsonl")
        callback = Interpolate(space, chosen, ledger, workers=workers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's hints about loaders
            trainer = lightning_trainer(accelerator="cpu", logger=False, callbacks=[callback],
                                        default_root_dir=folder)  # fmt: skip
            trainer.validate(module, scoring_loader(encoded, torch.device("cpu")), verbose=False)
        rows = [json.loads(line) for line in ledger.path.read_text().splitlines()]
        return callback.result, module, rows

    return run


def test_two_processes_write_the_ledger_of_one(searched):
    assert searched(workers=2)[2] == searched()[2]


def test_bf16_steers_and_only_fp32_wins(searched):
    result, module, rows = searched(screen=2)
    plain = searched()[2]
    assert [row["precision"] for row in rows[:4]] == ["fp32"] * 4
    assert rows[:4] == plain[:4]  # the experts and their average
    screened = [row for row in rows if row["precision"] == "bf16"]
    assert [row["alpha"] for row in screened] == [
        row["alpha"] for row in rows[4 : 4 + len(screened)]
    ]
    again = rows[4 + len(screened) :]
    assert len(screened) > 2
    assert len(again) <= 2
    for row in again:
        assert row["precision"] == "fp32"
        (first,) = [other for other in screened if other["alpha"] == row["alpha"]]
        assert row["loglik"] == pytest.approx(first["loglik"], rel=0.05)
        assert row["loglik"] != first["loglik"]
    assert result.best.precision == "fp32"
    assert module.scores.score == result.score
    assert all(held.dtype == torch.float32 for held in module.network.parameters())
