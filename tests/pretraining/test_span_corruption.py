"""Making a small T5: the tokenizer, the network's shape, span corruption, its passes."""

from errno import ENOSPC

import numpy as np
import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer, T5Config

from dfwe.data.dialogue import Dialogue, Turn
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.executor import compute
from dfwe.pipeline.store import Store
from dfwe.pretraining import span_corruption as pretrain
from dfwe.pretraining.config import PretrainingConfig
from dfwe.pretraining.module import SpanCorruptionModule
from dfwe.stages.pretrain import Pretrain, PretrainRecord
from dfwe.weights.loading import load, save

SENTINELS = list(range(900, 1000))
END = 1
TEXTS = ["context: Ann: the red boat is here. Ben: is the boat red? Ann: the boat!"] * 3
FOREIGN = [
    "the boat",
    "Zoë & Žižek, 2½ €",
    "日本語 and العربية",
    "😀 the 👩\u200d👧",
    "<0x41> [X]",
    "\x00\x7f",
]


def restore(source: list[int], target: list[int]) -> list[int]:
    """The block behind a corrupted pair: each sentinel replaced by what the target says."""
    hidden: dict[int, list[int]] = {}
    for token in target[:-1]:
        if token in SENTINELS:
            hidden[sentinel := token] = []
        else:
            hidden[sentinel].append(token)
    return [t for token in source[:-1] for t in hidden.get(token, [token])]


@pytest.mark.parametrize("text", FOREIGN)
def test_any_text_comes_back_from_its_tokens(text, tokenizer):
    ids = tokenizer(text).input_ids
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_frequent_words_are_one_token_beside_any_punctuation():
    trained = pretrain.train_tokenizer(TEXTS, 500)
    word = trained.convert_tokens_to_ids("▁boat")
    assert word != trained.unk_token_id
    for text in ("the boat.", "boat? the", "a boat!"):
        assert word in trained(text).input_ids


def test_special_tokens_stand_where_t5_has_them(tokenizer):
    assert tokenizer.convert_ids_to_tokens([0, 1, 2]) == ["<pad>", "</s>", "<unk>"]
    assert tokenizer("the boat").input_ids[-1] == tokenizer.eos_token_id == 1
    assert tokenizer("the <extra_id_7>").input_ids[-2] == tokenizer.get_vocab()["<extra_id_7>"]
    assert len(tokenizer) <= 500


def test_model_and_tokenizer_come_back_the_same_from_a_folder(tokenizer, tmp_path):
    built = pretrain.build(tokenizer, d_model=16, d_ff=32, layers=1, heads=2, seed=3)
    save(built.half(), tokenizer, tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    for text in [*FOREIGN, "the <extra_id_0> boat"]:
        assert again(text).input_ids == tokenizer(text).input_ids
    network, _ = load(tmp_path)
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32)
    for name, wanted in built.float().named_parameters():
        assert torch.equal(network.get_parameter(name), wanted)
        assert torch.equal(plain.get_parameter(name), wanted)


def test_a_loaded_network_computes_what_transformers_computes(make_network, tokenizer, tmp_path):
    save(make_network(1), tokenizer, tmp_path)
    network, _ = load(tmp_path)
    plain = AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert "NewGELU" in repr(plain)
    assert "NewGELU" not in repr(network)
    source, target = torch.arange(5, 45).view(2, 20), torch.arange(7, 15).view(2, 4)
    with torch.inference_mode():
        ours, theirs = (net(input_ids=source, labels=target).logits for net in (network, plain))
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_the_network_has_flans_shape(tokenizer):
    network = pretrain.build(tokenizer, d_model=16, d_ff=32, layers=2, heads=2, seed=0)
    flan = T5Config(feed_forward_proj="gated-gelu")
    for name in (
        "feed_forward_proj",
        "is_gated_act",
        "dense_act_fn",
        "dropout_rate",
        "relative_attention_num_buckets",
        "relative_attention_max_distance",
    ):
        assert getattr(network.config, name) == getattr(flan, name)
    assert network.lm_head.weight is not network.shared.weight
    assert network.config.decoder_start_token_id == tokenizer.pad_token_id


def test_corruption_follows_the_papers_example(monkeypatch):
    # Raffel et al., figure 2: "Thank you <X> me to your party <Y>", "<X> for inviting <Y> last
    # <Z>"; the words are numbered from 10. As in T5's code, a block ends in a hidden span.
    parts = iter([[2, 4], [2, 1]])
    monkeypatch.setattr(pretrain, "_parts", lambda *_: next(parts))
    words, rng = np.arange(10, 19), np.random.default_rng(0)
    source, target = pretrain.corrupt(words, rng, SENTINELS, END, density=1 / 3, span=1.5)
    x, y, z = SENTINELS[:3]
    assert source == [10, 11, x, 14, 15, 16, 17, y, END]
    assert target == [x, 12, 13, y, 18, z, END]


@pytest.mark.parametrize("length", [2, 5, 17, 128])
def test_a_corrupted_block_holds_all_its_tokens_and_the_wanted_share_is_hidden(length):
    ids = np.arange(length)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        source, target = pretrain.corrupt(ids, rng, SENTINELS, END)
        assert restore(source, target) == ids.tolist()
        used = [token for token in source if token in SENTINELS]
        hidden = max(1, round(0.15 * length))
        assert used == SENTINELS[: max(1, round(hidden / 3))]
        assert target[-2:] == [SENTINELS[len(used)], END]
        assert len(target) == hidden + len(used) + 2
        assert len(source) == length - hidden + len(used) + 1


def test_spans_are_as_long_on_average_as_asked():
    ids, rng = np.arange(400), np.random.default_rng(0)
    source, target = pretrain.corrupt(ids, rng, SENTINELS, END, density=0.3, span=5.0)
    spans = sum(token in SENTINELS for token in source)
    assert (len(target) - 2 - spans) / spans == pytest.approx(5.0)


def test_a_share_of_the_blocks_has_the_whole_text_as_its_target(tokenizer):
    ids, rng = np.arange(40), np.random.default_rng(0)
    source, target = pretrain.corrupt(ids, rng, SENTINELS, END, whole=True)
    assert target == [*range(40), END]
    assert set(source) & set(SENTINELS)
    blocks = pretrain.Blocks(TEXTS * 100, tokenizer, block=16, batch=2, whole=0.25)
    pairs = [pair for step in blocks.epoch(0, 0) for pair in step]
    share = np.mean([len(target) == 17 for _, target in pairs])
    assert share == pytest.approx(0.25, abs=0.05)


def test_a_pass_is_decided_by_seed_and_number_and_no_pass_is_like_another(tokenizer):
    blocks = pretrain.Blocks(TEXTS * 10, tokenizer, block=16, batch=2)
    first = list(blocks.epoch(0, 0))
    assert len(first) == blocks.steps == sum(map(len, blocks.texts)) // 32
    assert list(blocks.epoch(0, 0)) == first
    assert list(blocks.epoch(0, 1)) != first
    assert list(blocks.epoch(1, 0)) != first


def test_a_pass_shows_every_block_of_the_stream_once(tokenizer):
    blocks = pretrain.Blocks([f"the boat {n}" for n in range(64)], tokenizer, block=8, batch=2)
    blocks.sentinels = SENTINELS
    shown = [
        token
        for step in blocks.epoch(0, 0)
        for source, target in step
        for token in restore(source, target)
    ]
    stream = sorted(np.concatenate(blocks.texts).tolist())
    assert len(stream) - len(shown) < 16
    for token in shown:
        stream.remove(token)


def test_texts_are_written_as_the_tasks_write_dialogues():
    turns = (Turn(("Ann",), "Hi.", {}), Turn(("Ben", "Cy"), "Oh!", {}))
    texts = pretrain.pretraining_texts([Dialogue("d", turns, {}, {})])
    assert texts == ["context: Ann: Hi. Ben Cy: Oh!"]


def rates(module, steps):
    """The optimizer's rate at each of so many steps, and at the one after."""
    config = module.configure_optimizers()
    optimizer, schedule = config["optimizer"], config["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(steps + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return np.array(rates)


@pytest.mark.parametrize("warmup", [0, 1, 10, 50])
def test_the_rate_rises_to_its_peak_and_falls_to_a_twentieth(make_network, warmup):
    steps, peak = 100, 0.02
    step = np.arange(steps + 1)
    cosine = 0.5 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup)))
    expected = np.where(step < warmup, (step + 1) / max(warmup, 1), 0.05 + 0.95 * cosine)
    measured = rates(SpanCorruptionModule(make_network(), steps, peak, warmup), steps)
    assert measured == pytest.approx(peak * expected, rel=1e-14)


SIZES = {
    "vocabulary": 500,
    "d_model": 16,
    "d_ff": 16,
    "layers": 1,
    "heads": 2,
    "block": 16,
    "batch": 4,
    "density": 0.3,
    "span": 2,
    "whole": 0.5,
    "epochs": 2,
    "learning_rate": 0.01,
    "warmup": 1,
    "seed": 0,
}


def full(*unused):
    raise OSError(ENOSPC, "the disk is full")


@pytest.mark.filterwarnings("ignore")  # Lightning's hints about loaders
def test_what_a_full_disk_kept_from_the_store_is_committed_by_the_next_call(
    make_study, context, monkeypatch
):
    small = Seq2SeqLM("small", pretraining=PretrainingConfig(**SIZES))
    step = Pretrain(small, make_study().corpus, "cpu")
    with monkeypatch.context() as patched:
        patched.setattr(Store, "commit", full)
        with pytest.raises(OSError, match="full"):
            compute(step, context)
    with monkeypatch.context() as patched:
        patched.setattr(SpanCorruptionModule, "training_step", full)  # nothing is left to train
        compute(step, context)
    assert context.store.record(step.recipe, PretrainRecord).loss > 0
    assert context.store.provenance(step.recipe).seconds > 0
