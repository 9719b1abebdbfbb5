"""theta(alpha) against plain sums over state dicts (Eq. 1)."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dfwe.errors import UserError
from dfwe.weights import space as module_under_test
from dfwe.weights.layout import flatten
from dfwe.weights.space import WeightSpace

ALPHAS = [(0.2, 0.5, 0.3), (1 / 3, 1 / 3, 1 / 3), (0.0, 0.4, 0.6), (1.5, -0.7, 0.2), (1, 0, 1)]


@pytest.mark.parametrize("alpha", ALPHAS)
@pytest.mark.parametrize("block", [1, 7, 4096, 1 << 20])
def test_mixture_equals_the_sum_of_state_dicts(experts, naive, monkeypatch, alpha, block):
    if block == 1:
        experts = experts[:1]
        alpha = alpha[:1]
        block = 333
    monkeypatch.setattr(module_under_test, "BLOCK", block)
    space = WeightSpace.from_pretrained(experts)
    theta, wanted = space.at(alpha), naive(experts, alpha)
    for name, start, stop, shape in space.layout.spans():
        assert torch.allclose(theta[start:stop].view(shape).double(), wanted[name], atol=1e-6)


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_corner_reproduces_its_checkpoint_bit_for_bit(experts, naive, expert):
    space = WeightSpace.from_pretrained(experts)
    alpha = np.eye(3)[expert]
    theta, wanted = space.at(alpha), naive(experts, alpha)
    for name, start, stop, shape in space.layout.spans():
        assert theta[start:stop].view(shape).equal(wanted[name].float())


def test_weights_are_not_normalised_and_zero_weights_give_zero(experts):
    space = WeightSpace.from_pretrained(experts)
    assert torch.allclose(space.at([2, 2, 2]), 2 * space.at([1, 1, 1]))
    assert not space.at([0, 0, 0]).any()


def test_rows_share_the_checkpoint_file(experts):
    space = WeightSpace.from_pretrained(experts)
    with open("/proc/self/maps") as maps:
        mapped = maps.read()
    for folder, row in zip(experts, space.rows, strict=True):
        lines = [line for line in mapped.splitlines() if str(folder) in line]
        ends = [tuple(int(end, 16) for end in line.split()[0].split("-")) for line in lines]
        assert any(low <= row.data_ptr() < high for low, high in ends)


@pytest.mark.parametrize("ready", [flatten, lambda network: None], ids=["flat", "as it is"])
def test_written_network_answers_like_load_state_dict(experts, naive, make_t5, ready):
    alpha = (0.2, 0.5, 0.3)
    network, reference = make_t5(9), make_t5(8)
    ready(network)
    WeightSpace.from_pretrained(experts).write(alpha, network)
    wanted = {name: held.float() for name, held in naive(experts, alpha).items()}
    reference.load_state_dict(wanted, strict=False)  # the embeddings' aliases are missing
    ids = torch.tensor([[3, 5, 8, 1]])
    answers = [n(input_ids=ids, decoder_input_ids=ids).logits for n in (network, reference)]
    assert torch.allclose(*answers, atol=1e-5)


def test_flat_network_is_written_in_its_own_buffer(experts, make_t5):
    network = make_t5(9)
    theta = flatten(network)
    space = WeightSpace.from_pretrained(experts)
    space.write([0.2, 0.5, 0.3], network)
    assert theta.equal(space.at([0.2, 0.5, 0.3]))


def test_half_precision_network_takes_the_rounded_mixture(experts, make_t5):
    network = make_t5(9).to(torch.bfloat16)
    space = WeightSpace.from_pretrained(experts)
    space.write([0.2, 0.5, 0.3], network)
    theta = space.at([0.2, 0.5, 0.3])
    named = dict(network.named_parameters())
    for name, start, stop, shape in space.layout.spans():
        assert named[name].equal(theta[start:stop].view(shape).to(torch.bfloat16))


def test_network_that_ties_what_differs_is_refused(experts, make_t5):
    network = make_t5(9)
    network.lm_head.weight = network.shared.weight
    with pytest.raises(UserError, match=r"ties 'shared.weight' to 'lm_head.weight'"):
        WeightSpace.from_pretrained(experts).write([1, 0, 0], network)


def test_network_of_another_shape_is_refused(experts, make_t5):
    with pytest.raises(UserError, match="load the module from one of the experts"):
        WeightSpace.from_pretrained(experts).write([1, 0, 0], make_t5(0, vocabulary=41))


@pytest.mark.parametrize(
    ("alpha", "match"),
    [
        ([1, 0], "shape"),
        ([[1, 0, 0], [0, 1, 0]], "shape"),
        ([1, float("nan"), 0], "not finite"),
        (["a", "b", "c"], "not an array of numbers"),
        (torch.ones(3, requires_grad=True), r"not an array of numbers.*detach"),
    ],
)
def test_wrong_alpha_is_the_users_mistake(experts, alpha, match):
    with pytest.raises(UserError, match=match):
        WeightSpace.from_pretrained(experts).at(alpha)


@pytest.mark.parametrize("wrong", [{"dtype": torch.int64}, {"shape": 5}], ids=str)
def test_a_buffer_that_does_not_fit_theta_is_refused(wrong, experts):
    space = WeightSpace.from_pretrained(experts)
    out = torch.zeros(wrong.get("shape", space.size), dtype=wrong.get("dtype"))
    with pytest.raises(UserError, match="theta needs"):
        space.at([1, 0, 0], out=out)


def test_labels_are_one_for_each_expert(experts):
    assert WeightSpace.from_pretrained(experts).labels == ("expert0", "expert1", "expert2")
    assert WeightSpace.from_pretrained([experts[0]] * 2).labels == (str(experts[0]),) * 2
    with pytest.raises(UserError, match="2 labels for 3 experts"):
        WeightSpace.from_pretrained(experts, labels=["a", "b"])


class Normed(torch.nn.Module):
    def __init__(self, mean=0.0):
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.out = torch.nn.Linear(3, 2)
        self.norm.running_mean += mean
        self.norm.num_batches_tracked += 5


def test_any_modules_make_a_space(tmp_path):
    modules = [Normed(), Normed(), Normed()]
    space = WeightSpace.from_modules(modules)
    fresh = Normed()
    fresh.norm.num_batches_tracked.zero_()
    space.write([0.5, 0.25, 0.25], fresh)
    weights = [module.out.weight for module in modules]
    wanted = 0.5 * weights[0] + 0.25 * weights[1] + 0.25 * weights[2]
    assert torch.allclose(fresh.out.weight, wanted)
    assert int(fresh.norm.num_batches_tracked) == 5
    folder = space.export([0.5, 0.25, 0.25], tmp_path / "mixture")
    assert {path.name for path in folder.iterdir()} == {"README.md", "model.safetensors"}
    again = Normed(mean=2.0)
    again.load_state_dict(load_file(folder / "model.safetensors"))
    assert again.state_dict().keys() == fresh.state_dict().keys()
    assert all(again.state_dict()[name].equal(held) for name, held in fresh.state_dict().items())


def test_running_statistics_that_differ_are_refused():
    with pytest.raises(UserError, match=r"norm\.running_mean"):
        WeightSpace.from_modules([Normed(), Normed(mean=1.0)])


@pytest.mark.parametrize("modules", [[], (module for module in [torch.nn.Linear(2, 3)])])
def test_a_space_of_modules_needs_a_list_of_them(modules):
    with pytest.raises(UserError, match=r"^A weight space needs a list of at least one module\."):
        WeightSpace.from_modules(modules)


def test_a_parameter_that_the_experts_lack_is_named():
    space = WeightSpace.from_modules([torch.nn.Linear(2, 3, bias=False)] * 2)
    with pytest.raises(UserError, match="experts lack the module's parameter 'bias'"):
        space.write([0.5, 0.5], torch.nn.Linear(2, 3))


def test_other_rows_keep_what_an_export_copies(experts, tmp_path):
    space = WeightSpace.from_pretrained(experts)
    theta = space.at([0.5, 0.5, 0.0])
    other = space.with_rows([theta], ["half"])
    folder = other.export([1.0], tmp_path / "half")
    assert (folder / "config.json").read_bytes() == (experts[0] / "config.json").read_bytes()
    modules = WeightSpace.from_modules([Normed(), Normed()])
    assert modules.labels == ("0", "1")
    described = WeightSpace(modules.rows, modules.layout, "ab", settings={"pooling": "mean"})
    assert described.with_rows(modules.rows[:1], "c").settings == {"pooling": "mean"}
    assert modules.with_rows([modules.rows[0]], ["one"]).constants.keys() == {
        "norm.running_mean",
        "norm.running_var",
        "norm.num_batches_tracked",
    }


def stored(folder, **tensors):
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text('{"model_type": "t5"}')
    return folder


def test_results_are_rows_with_their_buffers_and_files(tmp_path):
    folders = [
        stored(tmp_path / label, w=torch.full((3,), value).half(), steps=torch.tensor([number, 9]))
        for number, (label, value) in enumerate([("a", 0.5), ("b", 2.0)])
    ]
    cache = tmp_path / "cache"
    space = WeightSpace.from_results(folders, ["first", "second"], cache)
    assert space.labels == ("first", "second")
    assert space.at([1.0, 0.25]).tolist() == [1.0] * 3
    assert space.constants["steps"].tolist() == [0, 9]
    assert len(list(cache.rglob("*.f32"))) == 2  # half precision is not mapped as it is
    exported = space.export([0.0, 1.0], tmp_path / "mixture")
    assert json.loads((exported / "config.json").read_text())["model_type"] == "t5"


def test_results_of_two_sizes_are_refused(tmp_path):
    small, large = (stored(tmp_path / str(n), w=torch.zeros(n)) for n in (3, 4))
    with pytest.raises(UserError, match=f"^{large} and {small} are not of one architecture"):
        WeightSpace.from_results([small, large], ["small", "large"])


def test_modules_of_two_architectures_are_refused():
    with pytest.raises(UserError, match="Module 1 has other parameters"):
        WeightSpace.from_modules([torch.nn.Linear(2, 3), torch.nn.Linear(3, 3)])


def test_running_statistics_are_mixed_and_counts_are_the_first_checkpoints(tmp_path):
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=4, hidden_sizes=[8], depths=[1], layer_type="basic")
    name = "resnet.embedder.embedder.normalization"
    states = []
    for number in range(2):
        network = ResNetForImageClassification(config)
        norm = network.get_submodule(name)
        norm.running_mean.fill_(number)
        norm.num_batches_tracked.fill_(7 + number)
        network.save_pretrained(tmp_path / str(number))
        states.append(network.state_dict())
    space = WeightSpace.from_pretrained([tmp_path / "0", tmp_path / "1"])
    folder = space.export([0.25, 0.75], tmp_path / "mixture")
    mixture = ResNetForImageClassification.from_pretrained(folder).state_dict()
    assert mixture[f"{name}.num_batches_tracked"].item() == 7
    assert mixture[f"{name}.running_mean"].eq(0.75).all()
    weight = f"{name}.weight"
    assert torch.allclose(mixture[weight], 0.25 * states[0][weight] + 0.75 * states[1][weight])
