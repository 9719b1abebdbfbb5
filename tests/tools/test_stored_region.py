"""What the geometry of a store's models says, on a store whose geometry is known."""

import pytest
import torch

import stored_region
from dfwe.errors import UserError
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import Recipe
from dfwe.pipeline.record import Cost, SplitScores
from dfwe.pipeline.store import Store
from dfwe.stages.train import EpochRecord, Train, TrainRecord
from dfwe.weights.loading import save

BASE = Recipe("pretrain", 1, {})


@pytest.fixture
def keep(make_network, tokenizer, tmp_path):
    """Adds a model to a store: the base moved by unit vectors along a few parameters."""
    store = Store(tmp_path / "store")

    def keep(recipe, label, moves):
        network = make_network()
        with torch.no_grad():
            for number, length in moves.items():
                network.lm_head.weight.view(-1)[number] += length
        save(network, tokenizer, store.output(recipe))
        scores = SplitScores(score=50.0, metrics={"f1": 50.0}, log_likelihood=-1.0)
        record = TrainRecord(
            monitor=label.split(" ")[0],
            best_epoch=1,
            dev=scores,
            epochs=(EpochRecord(epoch=1, train_loss=1.0, dev=scores, seconds=1.0),),
            cost=Cost(tokens=1, parameters=1),
        )
        store.commit(recipe, record, provenance(label, 1.0, "cpu"))

    keep.root = store.root
    return keep


def trained(start, *tasks):
    return Recipe(Train.kind, 1, {"train": dict.fromkeys(tasks, "digest")}, (start,))


def test_models_that_lie_with_their_target_cluster_by_target_alone(keep, capsys):
    keep(BASE, "base", {})
    experts = {name: trained(BASE, name) for name in ("emory", "qa")}
    for place, (name, expert) in enumerate(experts.items()):
        keep(expert, name, {place: 1.0})
    for place, target in enumerate(experts, 2):
        for number, expert in enumerate(experts.values()):
            tuned = trained(expert, target, "fine-tuned")
            keep(tuned, target, {place: 10.0, number: 0.1})
    stored_region.report(keep.root)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "4 fine-tuned models, 2 targets"
    assert lines[1] == (
        "by target: accuracy 1.00, F1 1.00, ARI 1.00; cosine inside 1.00, across 0.00; "
        "distance 0.14, 14.14"  # of (10, 0.1) and (10, 0), of (10, 0) and (0, 10)
    )
    assert lines[-2:] == ["  emory         1.00  0.00", "  qa            0.00  1.00"]


def test_a_store_without_experts_says_what_to_name(keep):
    keep(BASE, "base", {})
    with pytest.raises(UserError, match=r"has no expert .* stage=pretrain"):
        stored_region.report(keep.root)
