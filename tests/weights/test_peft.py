"""Adapters that peft saved are read to the weights that peft merges, or refused."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

from dfwe.errors import UserError
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.loading import load, load_as
from dfwe.weights.preflight import preflight
from dfwe.weights.space import WeightSpace

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's own


def gpt2():
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=2, n_head=2, **ends))


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    size = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    return LlamaForCausalLM(LlamaConfig(**size, num_attention_heads=2, num_key_value_heads=2))


@pytest.fixture
def tuned(make_t5, make_bert, save, tmp_path):
    """A base's name and a LoRA configuration -> the adapter's folder, and peft's merged network.

    `rows` resizes the embeddings before; `labels` gives the network another head.
    """
    import peft
    from transformers import AutoModelForSequenceClassification

    makers = {
        "t5": make_t5,
        "gpt2": gpt2,
        "llama": llama,
        "bert": lambda: make_bert(kind="BertForSequenceClassification"),
        "bare bert": lambda: make_bert(kind="BertModel"),
        "mlm": make_bert,
    }

    def tune(name, rows=None, labels=None, embeddings="auto", **changes):
        made = makers[name]()
        base, folder = save(made, tmp_path / "base"), tmp_path / "adapter"
        if labels is None:
            network = type(made).from_pretrained(base)
        else:
            network = AutoModelForSequenceClassification.from_pretrained(
                base, num_labels=labels, ignore_mismatched_sizes=True
            )
        if rows is not None:
            network.resize_token_embeddings(rows)
        torch.manual_seed(1)
        config = peft.LoraConfig(r=4, lora_alpha=6, init_lora_weights=False, **changes)
        model = peft.get_peft_model(network, config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter += 0.1
        model.save_pretrained(folder, save_embedding_layers=embeddings)
        return folder, model.merge_and_unload().eval()

    return tune


def theta_of(folder):
    """Name -> values of a checkpoint as it is mixed."""
    space = WeightSpace.from_pretrained([folder])
    theta, spans = space.at([1.0]), space.layout.spans()
    return {name: theta[start:stop].view(shape) for name, start, stop, shape in spans}


def assert_equal(ours, network):
    merged = network.state_dict()
    for name, value in ours.items():
        torch.testing.assert_close(value, merged[name], atol=1e-6, rtol=1e-6)
    for name in merged.keys() - ours.keys():  # tied in ours
        assert any(value.equal(merged[name]) for value in ours.values()), name


PARTLY = {
    "target_modules": ["q", "v", "wo", "shared"],
    "rank_pattern": {"wo": 2},
    "alpha_pattern": {"SelfAttention.v": 5, "v": 9},
    "modules_to_save": ["lm_head"],
}
HEADED = {"target_modules": ["query"], "bias": "all", "task_type": "SEQ_CLS"}
TURNED = {"target_modules": ["c_attn"], "fan_in_fan_out": True, "bias": "all"}
PROJECTIONS = {"target_modules": ["q_proj", "v_proj"]}


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("t5", PARTLY),
        ("gpt2", TURNED),
        ("gpt2", {**TURNED, "use_rslora": True}),
        ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]}),
        ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["wte"]}),
        ("llama", {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        ("bert", HEADED),
        # embeddings that were resized before the training
        ("t5", {"target_modules": ["q"], "rows": 44}),
        ("gpt2", {"target_modules": ["c_attn"], "rows": 44}),
        ("llama", {**PROJECTIONS, "rows": 44}),
        ("llama", {**PROJECTIONS, "rows": 36, "task_type": "CAUSAL_LM"}),
        # heads of another size than the base's, or where the base has none
        ("bert", {**HEADED, "labels": 5}),
        ("bare bert", {**HEADED, "labels": 5}),
    ],
)
def test_an_adapter_is_what_peft_merges(tuned, base, changes):
    folder, merged = tuned(base, **changes)
    assert_equal(theta_of(folder), merged)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        ("llama", {**PROJECTIONS, "rows": 44}),
        ("gpt2", {"target_modules": ["c_attn"], "modules_to_save": ["lm_head"]}),
        ("bare bert", {**HEADED, "labels": 5}),
    ],
)
def test_an_exported_adapter_answers_as_peft_does(tuned, tmp_path, base, changes):
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    folder, merged = tuned(base, **changes)
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "export")
    auto = AutoModelForSequenceClassification if "bert" in base else AutoModelForCausalLM
    tokens = torch.tensor([[3, 5, 8, 1]])
    wanted = merged(input_ids=tokens).logits
    torch.testing.assert_close(auto.from_pretrained(exported)(input_ids=tokens).logits, wanted)
    if base != "gpt2":  # whose tokenizer pads
        torch.testing.assert_close(load(folder)[0](input_ids=tokens).logits, wanted)


def test_a_training_on_another_task_leaves_an_adapters_head_out(tuned):
    folder, merged = tuned("bert", **HEADED, labels=5)
    checkpoint = read_checkpoint(folder)
    network, _ = load_as("encoder", checkpoint, other_head=True, num_labels=4)
    assert network.classifier.weight.shape == (4, 16)
    state, wanted = network.state_dict(), merged.state_dict()
    for name in state.keys() - {"classifier.weight", "classifier.bias"}:
        torch.testing.assert_close(state[name], wanted[name], atol=1e-6, rtol=1e-6)


def test_base_and_adapter_in_one_folder_are_read_together(tuned, tmp_path):
    folder, merged = tuned("llama", **PROJECTIONS)
    for path in (tmp_path / "base").iterdir():
        shutil.copy(path, folder / path.name)
    shutil.rmtree(tmp_path / "base")
    assert_equal(theta_of(folder), merged)


@pytest.mark.parametrize(
    ("base", "changes", "match"),
    [
        # The adapter's rows are more than the base's, and peft saved none of the base's.
        (
            "llama",
            {"target_modules": ["embed_tokens"], "rows": 44, "embeddings": False},
            r"\[4, 44\] and \[16, 4\] for 'model\.embed_tokens\.weight' of the shape \[40, 16\]",
        ),
        # Of a resized base peft saves the embedding that it trains, and not the head.
        (
            "llama",
            {"target_modules": ["q_proj", "embed_tokens"], "rows": 44},
            r"'lm_head\.weight' has the shape \[40, 16\], but \[44, 16\] is needed",
        ),
        (
            "gpt2",
            {
                "target_modules": ["c_attn"],
                "modules_to_save": ["wte"],
                "ensure_weight_tying": True,
            },
            "which the base ties to another tensor",
        ),
        ("gpt2", {"target_modules": ["wte"]}, "which the base ties to another tensor"),
        ("gpt2", {"target_modules": ["lm_head"]}, "which the base ties to another tensor"),
        (
            "gpt2",
            {"target_modules": ["c_attn"], "trainable_token_indices": {"wte": [1, 2]}},
            "changes '.*trainable_tokens.*does not contain",
        ),
        ("t5", {"target_modules": ["q"], "lora_bias": False, "use_dora": True}, "kind DoRA"),
        ("mlm", {**HEADED, "labels": 5}, r"lacks 'bert\.pooler"),
    ],
)
def test_what_peft_itself_does_not_merge_alike_is_refused(tuned, base, changes, match):
    folder, _ = tuned(base, **changes)
    (problem,) = preflight([folder]).problems
    assert str(folder) in problem or "base" in problem
    with pytest.raises(UserError, match=match):
        WeightSpace.from_pretrained([folder])


@pytest.mark.parametrize(
    ("make", "module", "alike"),
    [
        (gpt2, "c_attn", True),
        (gpt2, "wte", False),
        (gpt2, "lm_head", False),
        (llama, "lm_head", True),
    ],
)
def test_pefts_merge_of_tied_embeddings_answers_otherwise_than_the_adapter(make, module, alike):
    import peft

    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=[module])
    model, tokens = peft.get_peft_model(make(), config).eval(), torch.tensor([[3, 5, 8, 1]])
    before = model(input_ids=tokens).logits
    after = model.merge_and_unload()(input_ids=tokens).logits
    assert torch.allclose(before, after, atol=1e-4) == alike


def test_embeddings_of_which_one_was_not_saved_are_named_with_both_sizes(tuned):
    from safetensors.torch import save_file

    folder, _ = tuned("llama", **PROJECTIONS, rows=44)
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    save_file({name: x for name, x in state.items() if "lm_head" not in name}, path)
    with pytest.raises(UserError, match=r"'lm_head\.weight' has .*\[40, 16\], but \[44, 16\]"):
        WeightSpace.from_pretrained([folder])


def test_settings_of_the_merged_model_are_those_of_its_tensors(tuned, tmp_path):
    folder, _ = tuned("llama", **PROJECTIONS, rows=44)
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "export")
    read = [json.loads((f / "config.json").read_text()) for f in (tmp_path / "base", exported)]
    assert read[1].pop("vocab_size") == 44
    assert read[0].pop("vocab_size") == 40
    assert read[0] == read[1]
