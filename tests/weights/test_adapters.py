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


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, **ends))


PARTLY = {
    "target_modules": ["q", "v", "wo", "shared"],
    "rank_pattern": {"wo": 2},
    "alpha_pattern": {"SelfAttention.v": 5, "v": 9},
    "modules_to_save": ["lm_head"],
}
HEADED = {"target_modules": ["query"], "bias": "all", "task_type": "SEQ_CLS"}
TURNED = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}


@pytest.mark.filterwarnings("ignore")  # peft's own
@pytest.mark.parametrize(
    ("kind", "changes"),
    [("t5", PARTLY), ("gpt2", TURNED), ("gpt2", {**TURNED, "use_rslora": True}), ("bert", HEADED)],
)
def test_peft_merges_to_the_same_weights(tmp_path, make_t5, make_bert, save, kind, changes):
    import peft

    makers = {
        "t5": make_t5,
        "gpt2": gpt2,
        "bert": lambda: make_bert(kind="BertForSequenceClassification"),
    }
    made = makers[kind]()
    base = save(made, tmp_path / "base")
    network = type(made).from_pretrained(base)
    torch.manual_seed(1)
    config = peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **changes)
    tuned = peft.get_peft_model(network, config)
    with torch.no_grad():
        for parameter in tuned.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    tuned.save_pretrained(tmp_path / "adapter")
    tuned.merge_and_unload().save_pretrained(tmp_path / "merged")
    spaces = [WeightSpace.from_pretrained([tmp_path / name]) for name in ("adapter", "merged")]
    assert spaces[0].layout == spaces[1].layout
    ours, theirs = (space.at([1.0]) for space in spaces)
    assert not theirs.equal(WeightSpace.from_pretrained([base]).at([1.0]))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
