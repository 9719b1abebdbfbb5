"""Where parameters lie in theta, and modules that live in one flat tensor."""

import json
import struct

import pytest
import torch

from dfwe.weights.layout import Header, Layout, flat, flatten


def parameters(module):
    return {name: held.detach().clone() for name, held in module.named_parameters()}


def test_layout_lists_each_tensor_once_sorted_by_name(make_bert):
    network = make_bert()
    names = Layout.of(network).names
    assert names == tuple(sorted(dict(network.named_parameters())))
    assert "cls.predictions.decoder.weight" not in names  # tied to the embeddings
    assert Layout.of(network).size == sum(p.numel() for p in network.parameters())


def test_file_that_save_pretrained_wrote_is_theta_itself(experts, make_t5):
    header = Header.read(experts[0] / "model.safetensors")
    assert header.is_flat(Layout.of(make_t5()))


@pytest.mark.parametrize("make", ["make_t5", "make_bert"])
def test_flattening_changes_no_value_and_keeps_ties(make, request):
    network = request.getfixturevalue(make)()
    before = parameters(network)
    theta = flatten(network)
    for name, start, stop, shape in Layout.of(network).spans():
        assert theta[start:stop].view(shape).equal(before[name])
    theta.zero_()
    assert all(not parameter.any() for parameter in network.parameters())
    if make == "make_bert":
        head = network.get_output_embeddings().weight
        assert head is network.get_input_embeddings().weight


def test_flat_module_keeps_its_tensor():
    module = torch.nn.Linear(3, 5)
    assert flatten(module).data_ptr() == flatten(module).data_ptr()


def test_flat_module_still_trains():
    module = torch.nn.Linear(3, 1)
    theta = flatten(module)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    before = theta.clone()
    module(torch.ones(2, 3)).sum().backward()
    optimiser.step()
    assert torch.allclose(theta, before - 0.1 * 2.0)  # every gradient is 2


def test_other_module_is_not_flat():
    module = torch.nn.Linear(3, 5)
    assert flat(module, Layout.of(module)) is None
    flatten(module)
    assert flat(module, Layout.of(torch.nn.Linear(3, 5, bias=False))) is None
    assert flat(module, Layout(("bias", "weight"), ((5,), (3, 5)))) is None


@pytest.mark.parametrize(
    "content",
    [
        b"abc",
        struct.pack("<Q", 10**9) + b"{}",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 80)
        + json.dumps({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}})
        .ljust(80)
        .encode(),
    ],
    ids=["short", "header too long", "no header", "data cut off"],
)
def test_damaged_file_has_no_header(tmp_path, content):
    (tmp_path / "bad.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match="header"):
        Header.read(tmp_path / "bad.safetensors")
