"""LoRA adapters as experts: their weight difference is what is mixed."""

import json
import shutil
from math import sqrt

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfwe.errors import UserError
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.preflight import preflight
from dfwe.weights.space import WeightSpace

QUERY = "encoder.block.0.layer.0.SelfAttention.q"
HEAD = "lm_head"


def adapter(folder, base, tensors, **changes):
    folder.mkdir()
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": str(base),
        "lora_alpha": 16,
        "r": 4,
        "fan_in_fan_out": False,
        **changes,
    }
    (folder / "adapter_config.json").write_text(json.dumps(settings))
    save_file(
        {f"base_model.model.{name}": held for name, held in tensors.items()},
        folder / "adapter_model.safetensors",
    )
    return folder


def lora(rank=4, seed=0, name=QUERY):
    torch.manual_seed(seed)
    return {
        f"{name}.lora_A.weight": torch.randn(rank, 16),
        f"{name}.lora_B.weight": torch.randn(16, rank),
    }


@pytest.fixture
def base(experts):
    return experts[0]


def test_an_adapter_is_its_base_plus_the_scaled_product(base, tmp_path):
    held = lora()
    folder = adapter(tmp_path / "a", base, held)
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "merged")
    ours, plain = (load_file(f / "model.safetensors") for f in (exported, base))
    b, a = held[f"{QUERY}.lora_B.weight"], held[f"{QUERY}.lora_A.weight"]
    torch.testing.assert_close(ours.pop(f"{QUERY}.weight"), plain[f"{QUERY}.weight"] + 4 * b @ a)
    assert all(ours[name].equal(plain[name]) for name in ours)
    assert (exported / "config.json").is_file()


def test_a_mixture_of_adapters_is_the_mixture_of_the_merged_models(base, tmp_path, naive):
    """Not the product of the mixed factors."""
    folders = [adapter(tmp_path / str(seed), base, lora(seed=seed)) for seed in range(2)]
    merged = [
        WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / f"merged{folder.name}")
        for folder in folders
    ]
    space = WeightSpace.from_pretrained([*folders, base])
    wanted = naive([*merged, base], [0.5, 0.3, 0.2])
    theta = space.at([0.5, 0.3, 0.2])
    for name, start, stop, shape in space.layout.spans():
        torch.testing.assert_close(
            theta[start:stop].view(shape).double(), wanted[name], atol=1e-6, rtol=1e-5
        )


def test_scales_of_their_own_and_tensors_trained_as_a_whole(base, tmp_path):
    held = lora(rank=2) | {f"{HEAD}.base_layer.weight": torch.ones(40, 16)}
    patterns = {"SelfAttention.q": 3, "q": 7}  # the first that matches counts
    changes = {"use_rslora": True, "alpha_pattern": patterns}
    folder = adapter(tmp_path / "a", base, held, **changes)
    space = WeightSpace.from_pretrained([folder])
    found = dict(zip(space.layout.names, space.at([1.0]).split(space.layout.sizes), strict=True))
    plain = load_file(base / "model.safetensors")[f"{QUERY}.weight"]
    product = held[f"{QUERY}.lora_B.weight"] @ held[f"{QUERY}.lora_A.weight"]
    torch.testing.assert_close(
        found[f"{QUERY}.weight"].view(16, 16), plain + 3 / sqrt(2) * product
    )
    assert found["lm_head.weight"].eq(1).all()


@pytest.mark.parametrize(
    ("changes", "tensors", "match"),
    [
        ({"peft_type": "IA3"}, lora(), "only plain LoRA"),
        ({"use_dora": True}, lora(), "kind DoRA"),
        ({"init_lora_weights": "pissa_niter_16"}, lora(), "kind pissa_niter_16"),
        ({"init_lora_weights": "lora_ga"}, lora(), "kind lora_ga"),
        ({"use_bdlora": {"nblocks": 2}}, lora(), "kind BD-LoRA, of which only plain"),
        ({"alora_invocation_tokens": [1]}, lora(), "kind aLoRA, which cannot be merged"),
        ({"use_qalora": True}, lora(), "kind QALoRA, which cannot be merged"),
        ({"arrow_config": {"top_k": 3}}, lora(), "kind Arrow, which cannot be merged"),
        ({}, lora(name="decoder.block.9.q"), "does not contain"),
        ({"base_model_name_or_path": "/nowhere"}, lora(), "adapter .*a cannot.*: /nowhere is not"),
        (
            {"base_model_name_or_path": "../a"},
            lora(),
            "adapter with itself as its base; set",
        ),
    ],
)
def test_what_cannot_be_merged_is_named_with_the_way_out(base, tmp_path, changes, tensors, match):
    folder = adapter(tmp_path / "a", base, tensors, **changes)
    with pytest.raises(UserError, match=match):
        WeightSpace.from_pretrained([folder])
    assert "PROBLEM" in str(preflight([folder]))


def test_a_base_is_found_from_the_adapters_folder(base, tmp_path):
    shutil.copytree(base, tmp_path / "adapters" / "models" / "base")
    folder = adapter(tmp_path / "adapters" / "a", "../models/base", lora())
    assert read_checkpoint(folder).base.folder.samefile(tmp_path / "adapters/models/base")


def test_a_pickled_adapter_is_read(base, tmp_path):
    safe, pickled = (adapter(tmp_path / name, base, lora()) for name in ("safe", "pickled"))
    path = pickled / "adapter_model.safetensors"
    torch.save(load_file(path), pickled / "adapter_model.bin")
    path.unlink()
    ours, theirs = (WeightSpace.from_pretrained(folder).at([1.0]) for folder in (safe, pickled))
    assert ours.equal(theirs)


def test_a_factor_of_another_shape_is_refused(base, tmp_path):
    """torch would broadcast a lora_B of one row."""
    tensors = lora() | {f"{QUERY}.lora_B.weight": torch.randn(1, 4)}
    with pytest.raises(
        UserError, match=r"\[4, 16\] and \[1, 4\] for '.*\.q\.weight' of .*\[16, 16\]"
    ):
        WeightSpace.from_pretrained([adapter(tmp_path / "a", base, tensors)])


def test_half_a_pair_of_factors_is_refused(base, tmp_path):
    tensors = {f"{QUERY}.lora_A.weight": torch.randn(4, 16)}
    with pytest.raises(UserError, match=r"\[4, 16\] and \[\] for"):
        WeightSpace.from_pretrained([adapter(tmp_path / "a", base, tensors)])


@pytest.mark.parametrize(
    ("pattern", "why"), [(r"((\w|[a-z]|\.)+)+(?<!q)", "timed out"), ("(", "")]
)
def test_a_pattern_from_a_file_has_a_limit(base, tmp_path, monkeypatch, pattern, why):
    """The first of these takes hours in peft."""
    monkeypatch.setattr("dfwe.weights.adapters.SECONDS", 0.05)
    folder = adapter(tmp_path / "a", base, lora(), alpha_pattern={pattern: 3})
    with pytest.raises(UserError, match=f"in the alpha_pattern of .* cannot be used.*{why}"):
        WeightSpace.from_pretrained([folder])


def test_an_adapter_on_an_adapter_is_refused(base, tmp_path):
    first = adapter(tmp_path / "a", base, lora())
    with pytest.raises(UserError, match="a is an adapter too; merge it with peft"):
        WeightSpace.from_pretrained([adapter(tmp_path / "b", first, lora())])


def test_an_export_has_the_adapters_tokenizer_if_it_has_one(base, tokenizer_of, tmp_path):
    folder = adapter(tmp_path / "a", base, lora())
    plain = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "plain")
    assert (plain / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    tokenizer_of("new", "words").save_pretrained(folder)
    own = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "own")
    assert (own / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()
    assert (own / "config.json").read_bytes() == (plain / "config.json").read_bytes()
    assert not (own / "adapter_config.json").exists()
