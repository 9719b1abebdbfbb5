"""What a preflight says about checkpoints that fit and that do not, and every kind of file."""

import json
import logging
import os

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfwe.errors import UserError
from dfwe.weights.preflight import preflight
from dfwe.weights.space import WeightSpace


def change(folder, **settings):
    """A checkpoint's config.json with other settings."""
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def pair(tmp_path, make_bert, save):
    return [save(make_bert(seed), tmp_path / f"bert{seed}") for seed in range(2)]


def test_matching_checkpoints_have_a_clean_report(pair, make_bert):
    report = preflight(pair)
    assert report.problems == report.warnings == ()
    text = str(report)
    head, first, second, *shared = text.splitlines()
    assert [head, first, second] == ["checkpoint", *map(str, pair)]
    assert " ".join(shared).startswith("All: architecture BertForMaskedLM, tensors ")
    assert max(map(len, shared)) <= 80
    size = sum(parameter.numel() for parameter in make_bert().parameters())
    assert f"parameters {size:,}, precision F32" in " ".join(shared)
    assert text.endswith("These 2 checkpoints can be mixed.")


def test_other_vocabulary_is_named_with_the_way_out(tmp_path, make_t5, save):
    pair = [save(make_t5(0, vocabulary=size), tmp_path / str(size)) for size in (40, 41)]
    (problem,) = preflight(pair).problems
    assert "has the shape [41, 16]" in problem
    assert "vocabularies have 41 and 40 entries: resize them alike" in problem
    with pytest.raises(UserError, match="vocabularies have 41 and 40 entries"):
        WeightSpace.from_pretrained(pair)


def test_other_architecture_is_refused(pair, tmp_path, make_bert, save):
    other = save(make_bert(0, "BertForSequenceClassification"), tmp_path / "classifier")
    with pytest.raises(UserError, match="is a BertForSequenceClassification and"):
        WeightSpace.from_pretrained([pair[0], other])


def test_head_tied_in_one_and_not_in_the_other_is_explained(tmp_path, make_t5, save):
    untied, tied = save(make_t5(0), tmp_path / "untied"), save(make_t5(1), tmp_path / "tied")
    state = load_file(tied / "model.safetensors")
    del state["lm_head.weight"]
    save_file(state, tied / "model.safetensors", metadata={"format": "pt"})
    (problem,) = preflight([untied, tied]).problems
    assert problem.startswith(f"{untied} has the tensor 'lm_head.weight', {tied} has not: it has")
    assert "save both models tied or both untied" in problem


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_value_that_is_not_finite_is_found(pair, value):
    state = load_file(pair[1] / "model.safetensors")
    name = "bert.encoder.layer.1.output.dense.weight"
    state[name][3, 4] = value
    save_file(state, pair[1] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=f"'{name}' in .*bert1 holds values that are not finite"):
        WeightSpace.from_pretrained(pair)


def test_a_checkpoint_of_whole_numbers_is_named_beside_one_that_can_be_mixed(pair):
    save_file({"steps": torch.ones(3, dtype=torch.int64)}, pair[1] / "model.safetensors")
    report = preflight(pair)
    assert f"{pair[1]} holds no floating-point tensor; save the model again." in report.problems
    assert len(report.cells) == 2


def test_large_finite_values_are_not_mistaken_for_infinities(pair):
    state = load_file(pair[1] / "model.safetensors")
    state["cls.predictions.bias"].fill_(3e38)  # whose sum overflows
    save_file(state, pair[1] / "model.safetensors", metadata={"format": "pt"})
    assert preflight(pair).problems == ()


def test_how_a_tokenizer_last_cut_a_text_makes_no_difference(pair):
    path = pair[1] / "tokenizer.json"
    cut = {
        **json.loads(path.read_text()),
        "truncation": {"max_length": 9},
        "padding": {"pad_id": 1},
    }
    path.write_text(json.dumps(cut))
    assert preflight(pair).warnings == ()


def test_missing_and_other_tokenizers_only_warn(pair, tokenizer_of, caplog):
    tokenizer_of("film", "bad").save_pretrained(pair[1])
    with caplog.at_level(logging.WARNING):
        WeightSpace.from_pretrained(pair)
    assert "The tokenizers of" in caplog.text
    for path in pair[1].glob("tokenizer*"):
        path.unlink()
    (warning,) = preflight(pair).warnings
    assert "bert1 has no tokenizer" in warning


def test_settings_that_change_no_shape_are_pointed_out(pair):
    change(pair[1], num_attention_heads=4, transformers_version="0")
    (warning,) = preflight(pair).warnings
    assert "differ in num_attention_heads;" in warning


def test_quantised_checkpoint_is_refused(pair):
    change(pair[1], quantization_config={"bits": 8})
    assert "is quantised; dequantise it" in preflight(pair).problems[0]


def test_unreadable_folders_are_all_reported(tmp_path, pair):
    empty, damaged = tmp_path / "empty", tmp_path / "damaged"
    for folder in (empty, damaged):
        folder.mkdir()
    whole = (pair[0] / "model.safetensors").read_bytes()
    (damaged / "model.safetensors").write_bytes(whole[:-100])
    problems = preflight([tmp_path / "absent", empty, damaged]).problems
    assert "absent is not a folder" in problems[0]
    assert "holds no model.safetensors" in problems[1]
    assert "are damaged" in problems[2]
    with pytest.raises(UserError, match="at least one checkpoint"):
        WeightSpace.from_pretrained([])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("cached", [True, False])
def test_half_precision_is_mixed_in_single(tmp_path, make_bert, save, dtype, cached):
    network = make_bert().to(dtype)
    folder = save(network, tmp_path / "half")
    cache = tmp_path / "cache" if cached else None
    space = WeightSpace.from_pretrained([folder], cache=cache)
    theta = space.at([1.0])
    assert theta.dtype == torch.float32
    for name, start, stop, shape in space.layout.spans():
        wanted = network.get_parameter(name).float()
        assert theta[start:stop].view(shape).equal(wanted)
    if cached:
        (copy,) = (tmp_path / "cache").iterdir()
        before = copy.stat().st_mtime_ns
        assert WeightSpace.from_pretrained([folder], cache=cache).at([1.0]).equal(theta)
        assert copy.stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["flipped", "zeros", "cut", "emptied"])
def test_a_damaged_flat_copy_is_made_anew(damage, tmp_path, make_bert, save, caplog):
    """Commit 60dbe5b: flips and zeros became other weights, a cut one a traceback for ever."""
    folder, cache = save(make_bert().to(torch.float16), tmp_path / "half"), tmp_path / "cache"
    theta = WeightSpace.from_pretrained([folder], cache=cache).at([1.0])
    (path,) = cache.glob("*/theta.f32")
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 4]) + content[middle + 1 :]
    changed = {"flipped": flipped, "zeros": bytes(len(content)), "cut": content[:middle]}
    path.write_bytes(changed.get(damage, b""))
    assert WeightSpace.from_pretrained([folder], cache=cache).at([1.0]).equal(theta)
    assert "is computed again" in caplog.text
    assert path.read_bytes() == content


def test_other_weights_of_the_same_size_and_time_have_another_flat_copy(tmp_path, make_bert, save):
    """Commit 60dbe5b: a checkpoint was known by its file's size and time."""
    spaces = []
    for seed in range(2):
        folder = save(make_bert(seed).to(torch.float16), tmp_path / "half")
        os.utime(folder / "model.safetensors", (1, 1))
        spaces.append(WeightSpace.from_pretrained([folder], cache=tmp_path / "cache").at([1.0]))
    assert not spaces[0].equal(spaces[1])
    wanted = make_bert(1).to(torch.float16).float()
    assert spaces[1].sum() == pytest.approx(sum(x.sum().item() for x in wanted.parameters()))


def test_shards_are_one_checkpoint_and_a_missing_one_is_named(tmp_path, make_bert, save):
    network = make_bert()
    whole = save(network, tmp_path / "whole")
    network.save_pretrained(tmp_path / "shards", max_shard_size="10KB")
    parallel = sorted((tmp_path / "shards").glob("model-*.safetensors"))
    assert len(parallel) > 1
    thetas = [WeightSpace.from_pretrained([f]).at([1.0]) for f in (whole, tmp_path / "shards")]
    assert thetas[0].equal(thetas[1])
    parallel[0].unlink()
    with pytest.raises(UserError, match=f"{parallel[0].name} cannot be read"):
        WeightSpace.from_pretrained([tmp_path / "shards"])


def test_bin_file_with_tied_tensors_is_the_same_checkpoint(tmp_path, make_bert, save):
    network = make_bert()
    whole, pickled = save(network, tmp_path / "whole"), tmp_path / "pickled"
    pickled.mkdir()
    torch.save(network.state_dict(), pickled / "pytorch_model.bin")
    spaces = [WeightSpace.from_pretrained([folder]) for folder in (whole, pickled)]
    assert spaces[0].layout == spaces[1].layout
    assert spaces[0].at([1.0]).equal(spaces[1].at([1.0]))


@pytest.mark.parametrize("damaged", [0, 1])
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_a_truncated_json_is_a_problem_of_its_checkpoint(pair, name, damaged):
    path = pair[damaged] / name
    path.write_text(path.read_text()[:-2])
    (problem,) = preflight(pair).problems
    start = f"{path} is damaged" if name == "config.json" else f"The tokenizer of {path.parent} "
    assert problem.startswith(start)
    assert preflight(pair).warnings == () or name == "tokenizer.json"


def test_a_configuration_that_one_lacks_is_a_problem_and_bare_weights_are_none(pair):
    (pair[1] / "config.json").unlink()
    report = preflight(pair)
    assert report.problems == (
        f"{pair[1] / 'config.json'} is missing; load the model where it was made and save it with "
        "save_pretrained.",
    )
    assert report.warnings == ()
    (pair[0] / "config.json").unlink()
    assert preflight(pair).problems == ()


def test_more_tokens_than_the_embedding_has_rows_are_a_problem(pair, tokenizer_of):
    for folder, count in zip(pair, (47, 48), strict=True):
        tokenizer_of(*map(str, range(count))).save_pretrained(folder)
    (problem,) = preflight(pair).problems
    assert f"The tokenizer of {pair[1]} has 51 tokens but its embedding 50 rows" in problem


def test_whole_numbers_that_one_checkpoint_lacks_do_not_keep_it_from_the_mixture(pair):
    plain = WeightSpace.from_pretrained(pair).at([0.5, 0.5])
    state = load_file(pair[1] / "model.safetensors")
    state["bert.embeddings.position_ids"] = torch.arange(32)[None]
    save_file(state, pair[1] / "model.safetensors", metadata={"format": "pt"})
    for order in (pair, pair[::-1]):
        report = preflight(order)
        assert report.problems == report.warnings == ()
        assert WeightSpace.from_pretrained(order).at([0.5, 0.5]).equal(plain)


def test_a_bin_file_of_the_old_format_is_read(tmp_path, make_bert, save):
    network = make_bert()
    old, new = (save(network, tmp_path / name) for name in ("old", "new"))
    (old / "model.safetensors").unlink()
    torch.save(
        network.state_dict(), old / "pytorch_model.bin", _use_new_zipfile_serialization=False
    )
    assert (
        WeightSpace.from_pretrained(old)
        .at([1.0])
        .equal(WeightSpace.from_pretrained(new).at([1.0]))
    )


def test_folders_come_alone_in_a_list_or_one_by_one(pair):
    assert len(preflight(str(pair[0])).cells) == len(preflight(pair[0]).cells) == 1
    assert len(preflight(iter(pair)).cells) == 2
    assert preflight(iter(())).problems
    assert WeightSpace.from_pretrained(iter(pair)).labels == ("bert0", "bert1")
