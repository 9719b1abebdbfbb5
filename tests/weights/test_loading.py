"""Every tensor of a checkpoint is taken as transformers takes it, said in one line, or refused."""

import json
import logging
import pickle
import shutil

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

from dfwe.errors import UserError
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.loading import load, load_as, load_network
from dfwe.weights.preflight import preflight
from dfwe.weights.space import WeightSpace

CROSS = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
QUERY = "decoder.block.0.layer.0.SelfAttention.q.weight"


def gpt2(kind="GPT2LMHeadModel"):
    size = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    return getattr(transformers, kind)(transformers.GPT2Config(**size, **ends))


def llama():
    size = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2}
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**size, **heads))


def distilbert():
    size = {"vocab_size": 40, "dim": 16, "hidden_dim": 24, "n_layers": 2, "n_heads": 2}
    config = transformers.DistilBertConfig(**size)
    return transformers.DistilBertForSequenceClassification(config)


@pytest.fixture
def make(make_t5, make_bert):
    """Name -> a small network."""
    makers = {
        "t5": make_t5,
        "bert": lambda: make_bert(kind="BertModel"),
        "classifier": lambda: make_bert(kind="BertForSequenceClassification"),
        "mlm": make_bert,
        "gpt2": gpt2,
        "llama": llama,
        "distilbert": distilbert,
    }
    return lambda name: makers[name]()


@pytest.fixture
def rewrite(make, save, tmp_path):
    """A network's name, a change of its state dict -> folders with the plain and changed file."""

    def saved(kind, change, **settings):
        plain = save(make(kind), tmp_path / "plain")
        other = shutil.copytree(plain, tmp_path / "other")
        state = change(load_file(plain / "model.safetensors"))
        tensors = {name: value.clone().contiguous() for name, value in state.items()}
        save_file(tensors, other / "model.safetensors", metadata={"format": "pt"})
        path = other / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | settings))
        return plain, other

    return saved


def aliases(state):
    """Old T5 files name the embedding three times."""
    names = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    return state | dict.fromkeys(names, state["shared.weight"])


def alias_alone(state):
    return {
        {"shared.weight": "encoder.embed_tokens.weight"}.get(x, x): v for x, v in state.items()
    }


def gamma_and_beta(state):
    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    return {old(name): value for name, value in state.items()}


def prefixed(state):
    return {f"bert.{name}": value for name, value in state.items()}


def unprefixed(state):
    return {name.removeprefix("transformer."): value for name, value in state.items()}


def adding(name, *shape):
    return lambda state: state | {name: torch.ones(shape)}


def without(*names):
    return lambda state: {k: v for k, v in state.items() if not any(x in k for x in names)}


def replacing(name, value):
    return lambda state: state | {name: value}


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("t5", aliases),
        ("t5", alias_alone),
        ("t5", adding(CROSS, 32, 2)),
        ("bert", prefixed),
        ("bert", gamma_and_beta),
        ("bert", adding("embeddings.position_ids", 1, 32)),
        ("mlm", adding("cls.seq_relationship.weight", 2, 16)),
        ("gpt2", unprefixed),
        ("gpt2", adding("transformer.h.0.attn.bias", 1, 1, 8, 8)),
        ("gpt2", adding("transformer.h.0.attn.masked_bias")),
        ("llama", adding("model.layers.0.self_attn.rotary_emb.inv_freq", 4)),
        ("distilbert", adding("distilbert.embeddings.position_ids", 1, 32)),
    ],
)
def test_other_names_and_leftover_buffers_make_no_difference(rewrite, kind, change):
    plain, other = rewrite(kind, change)
    report = preflight([plain, other])
    assert report.problems == ()
    one, two = (examined.row for examined in report.checkpoints)
    assert one.layout == two.layout
    assert one.theta.equal(two.theta)


ONES = torch.ones(16)
QUANTISED = r"is quantised .*; dequantise it"
LOST = "random numbers; get the whole checkpoint"


@pytest.mark.parametrize(
    ("kind", "change", "settings", "match"),
    [
        ("t5", without("decoder.block.1"), {}, rf"lacks 'decoder\.block\.1.* more of .*{LOST}"),
        ("t5", without("shared"), {"tie_word_embeddings": False}, "lacks 'shared.weight'.*tied"),
        ("t5", without("lm_head"), {"tie_word_embeddings": False}, "lacks 'lm_head.weight'"),
        ("classifier", without("classifier"), {}, rf"lacks 'classifier\.bias'.*{LOST}"),
        ("classifier", without("pooler"), {}, r"lacks 'bert\.pooler\.dense\.bias'"),
        ("t5", lambda state: {f"module.{x}": v for x, v in state.items()}, {}, "wrapper"),
        ("t5", adding("v_head.summary.weight", 1, 16), {}, r"value head \('v_head.* without it"),
        ("llama", adding("model.layers.0.self_attn.q_proj.lora_A.weight", 2, 16), {}, "merge it"),
        ("t5", adding("decoder.block.2.layer.0.SelfAttention.q.weight", 16, 16), {}, "no place"),
        ("t5", adding("lm_head.bias", 40), {}, r"'lm_head\.bias', for which .* has no place"),
        ("t5", replacing(QUERY, torch.empty(0)), {}, f"'{QUERY}' is empty in .*ZeRO-3.*gather"),
        ("t5", lambda s: s | {"lm_head.weight": s["lm_head.weight"][:9]}, {}, "'lm_head.weight'"),
        ("t5", dict, {"vocab_size": 44}, r"shape \[40, 16\] in .*\[44, 16\] by its config\.json"),
        ("classifier", dict, {"id2label": {"0": "a", "1": "b"}}, r"'classifier\..* num_labels"),
        ("llama", replacing("lm_head.weight", torch.full((40, 16), torch.nan)), {}, "not finite"),
        ("llama", adding("model.layers.0.mlp.up_proj.qweight", 2, 24), {}, QUANTISED),
        ("llama", replacing("model.norm.weight", torch.ones(16).to(torch.int8)), {}, QUANTISED),
        (
            "llama",
            replacing("model.norm.weight", torch.ones(16).to(torch.float8_e4m3fn)),
            {},
            QUANTISED,
        ),
        ("llama", adding("model.norm.weight.absmax", 2), {}, QUANTISED),
        ("llama", dict, {"quantization_config": {"bits": 4}}, "is quantised; dequantise it"),
        ("llama", dict, {"architectures": ["OwnModel"], "auto_map": {}}, "code of its own"),
        ("llama", dict, {"architectures": ["pipeline"]}, "names no class of transformers"),
        ("llama", dict, {"model_type": "own"}, r"config\.json cannot be read"),
        ("llama", dict, {"num_attention_heads": 3}, "other"),
        ("classifier", dict, {"id2label": ["sad", "glad"]}, r"config\.json cannot be read"),
    ],
)
def test_lost_and_packed_weights_are_refused_in_one_sentence(
    rewrite, kind, change, settings, match
):
    _, other = rewrite(kind, change, **settings)
    (problem,) = preflight([other]).problems
    assert str(other) in problem
    assert "can be mixed" not in str(preflight([other]))
    with pytest.raises(UserError, match=match):
        WeightSpace.from_pretrained([other])


@pytest.mark.parametrize("lost", ["decoder.block.1", "shared", "lm_head"])
def test_a_model_that_lacks_weights_does_not_start_a_training(rewrite, lost):
    _, other = rewrite("t5", without(lost), tie_word_embeddings=False)
    with pytest.raises(UserError, match="lacks"):
        load(other)


def test_a_new_head_for_a_new_task_is_said_in_one_line(make, save, tmp_path, caplog):
    folder = save(make("mlm"), tmp_path / "mlm")
    with caplog.at_level(logging.INFO):
        network, _ = load_as("encoder", Checkpoint.read(folder), other_head=True, num_labels=5)
    (line,) = [record.getMessage() for record in caplog.records if "head" in record.getMessage()]
    assert line.startswith(f"{folder} has no 'bert.pooler.dense.bias', 'bert.pooler.dense.weight'")
    assert network.num_labels == 5
    state = load_file(folder / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    assert network.get_parameter(name).equal(state[name])


def test_a_mapped_file_and_a_loaded_network_are_one_row(experts, make, save, tmp_path):
    whole = save(make("llama"), tmp_path / "whole")
    for folder in (*experts, whole):
        mapped = WeightSpace.from_results([folder], ["one"])
        loaded = WeightSpace.from_pretrained([folder])
        assert mapped.layout == loaded.layout
        assert mapped.rows[0].equal(loaded.rows[0])
    network = make("llama")
    network.save_pretrained(tmp_path / "shards", max_shard_size="5KB")
    network.save_pretrained(tmp_path / "one")
    one, many = (preflight([tmp_path / x]).checkpoints[0].row for x in ("one", "shards"))
    assert one.layout == many.layout
    assert one.theta.equal(many.theta)


def test_an_alias_in_the_index_alone_is_no_tensor(make, save, tmp_path):
    plain = save(make("t5"), tmp_path / "plain")
    shards = tmp_path / "shards"
    transformers.T5ForConditionalGeneration.from_pretrained(plain).save_pretrained(
        shards, max_shard_size="10KB"
    )
    path = shards / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["encoder.embed_tokens.weight"] = index["weight_map"]["shared.weight"]
    path.write_text(json.dumps(index))
    one, two = WeightSpace.from_pretrained([plain, shards]).rows
    assert one.equal(two)


def test_aliases_in_pickled_parts_are_mixed_with_one_file(rewrite):
    plain, other = rewrite("t5", aliases)
    path = other / "model.safetensors"
    state = load_file(path)
    path.unlink()
    names = sorted(state)
    parts = {f"pytorch_model-{n + 1:05}-of-00002.bin": names[n::2] for n in range(2)}
    for part, inside in parts.items():
        torch.save({name: state[name] for name in inside}, other / part)
    places = {name: part for part, inside in parts.items() for name in inside}
    index = other / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    one, two = WeightSpace.from_pretrained([plain, other]).rows
    assert one.equal(two)


def test_weights_stay_in_their_file_while_they_are_read(make, save, tmp_path):
    """They lie side by side in memory, as they do in the mapped file."""
    checkpoint = Checkpoint.read(save(make("llama"), tmp_path / "model"))
    parameters = list(load_network(checkpoint).network.parameters())
    start = min(x.data_ptr() for x in parameters)
    end = max(x.data_ptr() + x.nbytes for x in parameters)
    assert end - start == sum(x.nbytes for x in parameters)


def test_a_head_that_is_stored_untied_stays_so_though_its_values_are_equal(rewrite):
    def equal(state):
        return state | {"lm_head.weight": state["shared.weight"]}

    _, other = rewrite("t5", equal, tie_word_embeddings=False)
    assert "lm_head.weight" in preflight([other]).checkpoints[0].row.layout.names


def test_experts_that_transformers_fuses_are_mixed_and_loaded_again(tmp_path):
    size = {"vocab_size": 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_local_experts": 2}
    networks = []
    for seed in range(2):
        torch.manual_seed(seed)
        network = transformers.MixtralForCausalLM(transformers.MixtralConfig(**size, **heads))
        network.save_pretrained(tmp_path / str(seed))
        networks.append(network.state_dict())
    space = WeightSpace.from_pretrained([tmp_path / "0", tmp_path / "1"])
    folder = space.export([0.25, 0.75], tmp_path / "mixture")
    mixture = transformers.MixtralForCausalLM.from_pretrained(folder).state_dict()
    for name, value in mixture.items():
        wanted = 0.25 * networks[0][name] + 0.75 * networks[1][name]
        torch.testing.assert_close(value, wanted, atol=1e-6, rtol=1e-6)


# --- code that a file brings -----------------------------------------------------------------


class Evil:
    def __reduce__(self):
        return (open, ("ran", "w"))


@pytest.mark.parametrize("content", ["object", "network", "nested", "lightning", "pickle"])
def test_a_pickle_of_more_than_tensors_is_not_opened(make, save, tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    network = make("llama")
    folder = save(network, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    state = network.state_dict()
    contents = {
        "object": {**state, "evil": Evil()},
        "network": network,
        "nested": {"model": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        "lightning": {"state_dict": state, "pytorch-lightning_version": "2.5"},
    }
    path = folder / "pytorch_model.bin"
    if content == "pickle":
        path.write_bytes(pickle.dumps(Evil()))
    else:
        torch.save(contents[content], path)
    with pytest.raises(UserError, match=r"not a state dict.*save it with save_pretrained"):
        WeightSpace.from_pretrained([folder])
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("known", [True, False])
def test_code_beside_a_model_is_never_run(make, save, tmp_path, monkeypatch, known):
    monkeypatch.chdir(tmp_path)
    folder = save(make("llama"), tmp_path / "model")
    (folder / "own.py").write_text("open('ran', 'w')\nclass Own: pass\n")
    path = folder / "config.json"
    settings = json.loads(path.read_text())
    settings["auto_map"] = {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}
    path.write_text(json.dumps(settings if known else settings | {"model_type": "own"}))
    (problem,) = preflight([folder]).problems or [""]
    assert ("needs code of its own (auto_map)" in problem) == (not known)
    if known:
        load(folder)
    else:
        with pytest.raises(UserError, match="code of its own"):
            load(folder)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_with_code_of_its_own_is_refused(make, save, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = save(make("llama"), tmp_path / "model")
    (folder / "own.py").write_text("open('ran', 'w')\nclass Own: pass\n")
    path = folder / "tokenizer_config.json"
    own = {"auto_map": {"AutoTokenizer": ["own.Own", None]}, "tokenizer_class": "Own"}
    path.write_text(json.dumps(json.loads(path.read_text()) | own))
    preflight([folder])
    assert not (tmp_path / "ran").exists()


# --- tokenizers --------------------------------------------------------------------------------


def test_a_tokenizer_without_a_vocabulary_file_is_one(make_t5, save, tmp_path):
    from transformers import AutoTokenizer, ByT5Tokenizer

    for number in range(2):
        folder = save(make_t5(number, vocabulary=384), tmp_path / str(number), tokenizer=None)
        ByT5Tokenizer().save_pretrained(folder)
    report = preflight([tmp_path / "0", tmp_path / "1"])
    assert report.problems == report.warnings == ()
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "out")
    assert type(AutoTokenizer.from_pretrained(exported)).__name__ == "ByT5Tokenizer"
    assert load(exported)[1]("stone")["input_ids"] == [118, 119, 114, 113, 104, 1]


def test_a_folder_without_a_tokenizer_does_not_get_an_empty_one(make_t5, save, tmp_path):
    """AutoTokenizer makes a T5 tokenizer of no words for it."""
    folder = save(make_t5(), tmp_path / "model", tokenizer=None)
    with pytest.raises(UserError, match="has no tokenizer"):
        load(folder)
    (warning,) = preflight([folder]).warnings
    assert "has no tokenizer; mixing goes on" in warning


@pytest.mark.parametrize("name", ["T5Tokenizer", "BertTokenizer", "PreTrainedTokenizerFast"])
def test_a_tokenizers_settings_without_its_words_are_none(name, make_t5, save, tmp_path):
    folder = save(make_t5(), tmp_path / "model", tokenizer=None)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
    (warning,) = preflight([folder]).warnings
    assert "has no tokenizer; mixing goes on" in warning
    with pytest.raises(UserError, match="has no tokenizer, without which"):
        load(folder)
    (folder / "merges.txt").write_text("")  # of a class that it does not name
    (folder / "vocab.json").write_text("{}")
    (problem,) = preflight([folder]).problems
    assert f"The tokenizer of {folder}" in problem


def test_a_tokenizer_of_more_tokens_than_the_embedding_has_rows_starts_no_training(
    make_t5, save, tmp_path
):
    folder = save(make_t5(), tmp_path / "model", tokenizer=map(str, range(38)))
    with pytest.raises(UserError, match="has 41 tokens but its embedding 40 rows"):
        load(folder)


def test_a_sentencepiece_file_of_another_name_is_a_tokenizer(make_bert, save, tmp_path):
    """XLM-R's, as old checkpoints have it: without a tokenizer.json."""
    sentencepiece = pytest.importorskip("sentencepiece")
    network = make_bert(kind="BertForSequenceClassification")
    folder = save(network, tmp_path / "model", tokenizer=None)
    (tmp_path / "text").write_text("the film was good and the plot bad\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"),
        model_prefix=str(tmp_path / "made"),
        vocab_size=30,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    shutil.copy(tmp_path / "made.model", folder / "sentencepiece.bpe.model")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    checkpoint = Checkpoint.read(folder)
    assert load(folder)[1]("good film")["input_ids"] != []
    assert "sentencepiece.bpe.model" in checkpoint.tokenizer_files
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "out")
    assert (exported / "sentencepiece.bpe.model").is_file()


def test_more_layers_than_there_are_tensors_are_refused_before_they_are_built(
    make, save, tmp_path
):
    folder = save(make("bert"), tmp_path / "bert")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**9}))
    with pytest.raises(UserError, match="says num_hidden_layers=1000000000, but the weights are"):
        load_network(Checkpoint.read(folder))
