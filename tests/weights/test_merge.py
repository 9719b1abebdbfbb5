"""Merging methods against direct sums over dictionaries."""

import numpy as np
import pytest
import torch
import yaml

from dfwe.errors import UserError
from dfwe.weights import merge
from dfwe.weights.space import WeightSpace


class Net(torch.nn.Module):
    def __init__(self, seed, near=None):
        super().__init__()
        torch.manual_seed(seed)
        self.first, self.second = torch.nn.Linear(13, 17), torch.nn.Linear(17, 3)
        if near is not None:
            with torch.no_grad():
                for mine, other in zip(self.parameters(), near.parameters(), strict=True):
                    mine.mul_(0.1).add_(other)


BASE = Net(0)
NETS = [Net(seed, near=BASE) for seed in (1, 2, 3)]


@pytest.fixture(autouse=True, params=[50, 1 << 20])
def _block(request, monkeypatch):
    monkeypatch.setattr(merge, "BLOCK", request.param)


@pytest.fixture
def space():
    return WeightSpace.from_modules(NETS)


@pytest.fixture
def base():
    return WeightSpace.from_modules([BASE]).rows[0]


def taus():
    """A dictionary of task vectors for each expert."""
    start = dict(BASE.named_parameters())
    return [
        {name: (held - start[name]).detach() for name, held in net.named_parameters()}
        for net in NETS
    ]


def assert_equals(theta, space, wanted):
    for name, start, stop, shape in space.layout.spans():
        assert torch.allclose(theta[start:stop].view(shape), wanted[name], atol=1e-6), name


def test_task_arithmetic_adds_scaled_task_vectors(space, base):
    start = dict(BASE.named_parameters())
    wanted = {n: start[n] + 0.4 * sum(tau[n] for tau in taus()) for n in start}
    assert_equals(merge.task_arithmetic(space, base, scale=0.4), space, wanted)


@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties_trims_elects_and_averages(space, base, density):
    vectors = taus()
    for tau in vectors:  # trim by magnitude over the whole vector
        sizes = torch.cat([held.abs().flatten() for held in tau.values()])
        least = sizes.sort(descending=True).values[round(density * len(sizes)) - 1]
        for held in tau.values():
            held[held.abs() < least] = 0.0
    wanted = {}
    for name, start in BASE.named_parameters():
        stack = np.stack([tau[name].numpy() for tau in vectors])
        elected = np.sign(stack.sum(0))
        merged = np.zeros_like(stack[0])
        for place in np.ndindex(merged.shape):
            column = stack[(slice(None), *place)]
            kept = [v for v in column if v != 0 and np.sign(v) == elected[place]]
            merged[place] = np.mean(kept) if kept else 0.0
        wanted[name] = start + 0.7 * torch.from_numpy(merged)
    assert_equals(merge.ties(space, base, density, scale=0.7), space, wanted)


@pytest.mark.parametrize("k", [1, 2, 100, 289, 290])
def test_kth_largest_is_that_of_a_sort(k):
    values = torch.randn(290, generator=torch.Generator().manual_seed(k))
    values[:40] = 0.0
    found = merge._kth_largest(values, torch.zeros(290), k)
    assert found == values.abs().sort(descending=True).values[k - 1].item()


def test_dare_keeps_a_seeded_share_and_rescales_it():
    rows = [torch.arange(1.0, 20001.0), -torch.arange(1.0, 20001.0)]
    layout = WeightSpace.from_modules([torch.nn.Linear(20000, 1, bias=False)]).layout
    space, base = WeightSpace(rows, layout, ["a", "b"]), torch.zeros(20000)
    first = merge.dare(WeightSpace(rows[:1], layout, ["a"]), base, seed=5, drop=0.9, scale=0.5)
    kept = first != 0
    assert torch.allclose(first[kept], 0.5 * rows[0][kept] / 0.1)
    assert 0.09 < kept.double().mean() < 0.11
    both = merge.dare(space, base, seed=5, drop=0.9, scale=0.5)
    second = both - first
    assert (second == 0).double().mean() > 0.85  # its own mask, and the first one unchanged
    assert not kept.equal(second != 0)
    assert merge.dare(space, base, seed=5, drop=0.9, scale=0.5).equal(both)
    assert not merge.dare(space, base, seed=6, drop=0.9, scale=0.5).equal(both)


def test_dare_without_dropping_is_task_arithmetic(space, base):
    theta = merge.dare(space, base, seed=0, drop=0.0)
    assert torch.allclose(theta, merge.task_arithmetic(space, base), atol=1e-6)


def test_merged_theta_goes_back_into_the_space(space, base):
    theta = merge.task_arithmetic(space, base)
    module = Net(9)
    space.with_rows([theta], ["task arithmetic"]).write([1.0], module)
    assert_equals(theta, space, dict(module.named_parameters()))


def test_base_of_another_model_is_refused(space):
    with pytest.raises(UserError, match="fine-tuned from"):
        merge.ties(space, torch.zeros(3))


def test_mergekit_configuration_has_the_weights_unrounded():
    alpha = [1 / 3, 2 / 3, -0.1]
    read = yaml.safe_load(merge.mergekit_yaml(alpha, ["a", "it's", "c: d"]))
    assert read["merge_method"] == "linear"
    assert read["parameters"] == {"normalize": False}
    paths = [m["model"]["model"]["path"] for m in read["models"]]
    assert paths == ["a", "it's", "c: d"]
    assert [m["parameters"]["weight"] for m in read["models"]] == alpha


@pytest.mark.filterwarnings("ignore")  # mergekit's own
def test_mergekit_merges_two_exported_models_to_the_same_weights_whatever_their_path(
    tmp_path, make_t5, save
):
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    folders = [save(make_t5(seed), tmp_path / f"{seed}", tokenizer=None) for seed in range(2)]
    space = WeightSpace.from_pretrained(folders)
    # Where a path is one text, mergekit reads model+adapter@revision.
    place = tmp_path / 'it\'s "c++" @ work: ü'
    exported = [space.export(row, place / str(i)) for i, row in enumerate(np.eye(2))]
    alpha = [0.3, 0.7]
    text = merge.mergekit_yaml(alpha, exported)
    config = MergeConfiguration.model_validate(yaml.safe_load(text))
    options = MergeOptions(copy_tokenizer=False)
    run_merge(config, str(tmp_path / "theirs"), options, config_source=text)
    theirs = WeightSpace.from_pretrained([tmp_path / "theirs"])
    assert theirs.layout == space.layout
    torch.testing.assert_close(space.at(alpha), theirs.at([1.0]), atol=1e-6, rtol=0)
