"""Weights of their own for groups of parameters."""

from functools import partial

import pytest
import torch

from dfwe.errors import UserError
from dfwe.weights.groups import block, depths, matching, part
from dfwe.weights.layout import flatten
from dfwe.weights.space import WeightSpace


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("shared.weight", ("embedding", "embedding")),
        ("encoder.block.1.layer.0.SelfAttention.q.weight", ("encoder", "encoder.1")),
        ("decoder.block.11.layer.2.layer_norm.weight", ("decoder", "decoder.11")),
        ("decoder.final_layer_norm.weight", ("decoder", "decoder")),
        ("lm_head.weight", ("head", "head")),
        ("bert.embeddings.LayerNorm.bias", ("embedding", "embedding")),
        ("bert.encoder.layer.3.output.dense.bias", ("encoder", "encoder.3")),
        ("cls.predictions.bias", ("head", "head")),
        ("classifier.out_proj.weight", ("head", "head")),
        ("bert.pooler.dense.weight", ("head", "head")),
        ("model.layers.7.mlp.up_proj.weight", ("body", "body.7")),
        ("transformer.wte.weight", ("embedding", "embedding")),
    ],
)
def test_parameters_belong_to_parts_and_blocks(name, wanted):
    assert (part(name), block(name)) == wanted


@pytest.mark.parametrize(
    ("groups", "wanted"),
    [
        (
            ("embedding", "encoder.0", "encoder.1", "encoder", "decoder.0", "head"),
            (0, 0.5, 1, 1, 1, 1),
        ),
        (("head", "body.3", "body.0", "body.2", "body.1", "body"), (1, 1, 0.25, 0.75, 0.5, 1)),
        (("embedding", "encoder", "head"), None),
        (("all",), None),
    ],
)
def test_the_depth_of_a_block_is_its_number_of_its_stacks_blocks(groups, wanted):
    assert depths(groups) == wanted


@pytest.mark.parametrize("ready", [flatten, lambda network: None], ids=["flat", "as it is"])
def test_each_part_has_its_own_weights(experts, naive, make_t5, tmp_path, ready):
    space = WeightSpace.from_pretrained(experts).grouped(part)
    assert set(space.groups) == {"embedding", "encoder", "decoder", "head"}
    generator = torch.Generator().manual_seed(0)
    alpha = torch.rand(4, 3, generator=generator).numpy()
    network = make_t5(9)
    ready(network)
    space.write(alpha, network)
    exported = WeightSpace.from_pretrained([space.export(alpha, tmp_path / "mixture")])
    assert exported.at([1.0]).equal(space.at(alpha))
    sums = {group: naive(experts, row) for group, row in zip(space.groups, alpha, strict=True)}
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter.double(), sums[part(name)][name], atol=1e-6), name


def test_one_row_of_weights_serves_all_groups(experts):
    space = WeightSpace.from_pretrained(experts)
    assert space.grouped(block).at([0.2, 0.5, 0.3]).equal(space.at([0.2, 0.5, 0.3]))
    assert space.groups == ("all",)


def test_first_matching_pattern_takes_a_parameter():
    group_of = partial(matching, patterns={"norms": ["*layer_norm*"], "rest": ["encoder.*"]})
    assert group_of("encoder.final_layer_norm.weight") == "norms"
    assert group_of("encoder.embed.weight") == "rest"
    with pytest.raises(UserError, match=r"No group takes the parameter 'lm_head.weight'"):
        group_of("lm_head.weight")


def test_a_single_pattern_is_a_list_of_one():
    group_of = partial(matching, patterns={"enc": "encoder.*", "rest": "*"})
    assert group_of("encoder.embed.weight") == "enc"
    assert group_of("lm_head.weight") == "rest"
