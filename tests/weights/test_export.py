"""An exported mixture, reloaded by transformers and by ourselves."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from transformers import AutoModelForMaskedLM, AutoModelForSeq2SeqLM, AutoTokenizer

from dfwe.errors import UserError
from dfwe.weights.layout import Header
from dfwe.weights.preflight import preflight
from dfwe.weights.rows import stored_row
from dfwe.weights.space import WeightSpace


def test_export_is_the_mixture_and_can_be_mapped_again(experts, naive, tmp_path):
    space = WeightSpace.from_pretrained(experts)
    folder = space.export([0.2, 0.5, 0.3], tmp_path / "new" / "mixture")
    state = load_file(folder / "model.safetensors")
    wanted = naive(experts, [0.2, 0.5, 0.3])
    assert state.keys() == wanted.keys()
    assert all(torch.allclose(state[name].double(), wanted[name], atol=1e-6) for name in wanted)
    assert Header.read(folder / "model.safetensors").is_flat(space.layout)
    assert WeightSpace.from_pretrained([folder]).at([1.0]).equal(space.at([0.2, 0.5, 0.3]))
    assert not list(folder.parent.glob("*.part"))


def test_exported_corner_is_its_checkpoint_byte_for_byte(experts, tmp_path):
    folder = WeightSpace.from_pretrained(experts).export([0, 1, 0], tmp_path / "corner")
    ours, theirs = (load_file(f / "model.safetensors") for f in (folder, experts[1]))
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_transformers_reloads_an_untied_t5(experts, make_t5, tmp_path):
    space = WeightSpace.from_pretrained(experts)
    loaded = AutoModelForSeq2SeqLM.from_pretrained(space.export([0.2, 0.5, 0.3], tmp_path / "t5"))
    network = make_t5(9)
    space.write([0.2, 0.5, 0.3], network)
    ids = torch.tensor([[3, 5, 8, 1]])
    answers = [n.eval()(input_ids=ids, decoder_input_ids=ids).logits for n in (network, loaded)]
    assert torch.allclose(*answers, atol=1e-6)


def test_transformers_reloads_tied_embeddings(tmp_path, make_bert, save):
    networks = [make_bert(seed) for seed in range(2)]
    folders = [save(net, tmp_path / str(seed)) for seed, net in enumerate(networks)]
    folder = WeightSpace.from_pretrained(folders).export([0.3, 0.7], tmp_path / "mixture")
    loaded = AutoModelForMaskedLM.from_pretrained(folder)
    assert loaded.get_output_embeddings().weight is loaded.get_input_embeddings().weight
    wanted = [
        0.3 * a + 0.7 * b
        for a, b in zip(networks[0].parameters(), networks[1].parameters(), strict=True)
    ]
    for found, mixture in zip(loaded.parameters(), wanted, strict=True):
        assert torch.allclose(found, mixture, atol=1e-7)


def test_mixture_of_half_precision_experts_loads_in_single(tmp_path, make_bert, save):
    folders = [save(make_bert(i).to(torch.bfloat16), tmp_path / str(i)) for i in range(2)]
    folder = WeightSpace.from_pretrained(folders).export([0.3, 0.7], tmp_path / "mixture")
    assert AutoModelForMaskedLM.from_pretrained(folder).dtype == torch.float32


def test_tokenizer_travels_and_others_notes_do_not(tmp_path, tokenizer, make_t5, save):
    source = save(make_t5(vocabulary=500), tmp_path / "source", tokenizer=None)
    tokenizer.save_pretrained(source)
    (source / "scores.json").write_text("{}")
    folder = WeightSpace.from_pretrained([source]).export([1.0], tmp_path / "mixture")
    text = "anna lost the bridge"
    assert AutoTokenizer.from_pretrained(folder)(text) == tokenizer(text)
    assert (folder / "generation_config.json").is_file()
    assert not (folder / "scores.json").exists()


def test_every_folder_of_a_sentence_encoder_travels_and_none_outside_it(tmp_path, make_bert, save):
    folder = save(make_bert(kind="BertModel"), tmp_path / "model")
    files = {
        "1_Pooling/config.json": '{"pooling_mode": "cls"}',
        "2_Dense/config.json": "{}",
        "2_Dense/model.safetensors": "dense",
        "additional_chat_templates/tools.jinja": "{{ messages }}",
        "chat_template.jinja": "{{ messages }}",
        "config_sentence_transformers.json": "{}",
        "source.spm": "pieces",
        "vocab.tiktoken": "bytes",
    }
    others = {"README.md": "card", "trainer_state.json": "{}", "3_Unnamed/config.json": "{}"}
    for name, text in (files | others | {"../outside/key.json": "{}"}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    paths = ("", "1_Pooling", "2_Dense", "../outside", "/etc", ".")
    (folder / "modules.json").write_text(json.dumps([{"path": path} for path in paths]))
    exported = WeightSpace.from_pretrained([folder]).export([1.0], tmp_path / "out")
    found = {path.relative_to(exported).as_posix() for path in exported.rglob("*.*")}
    own = {"config.json", "model.safetensors", "modules.json", "README.md"}
    assert (exported / "README.md").read_text() != "card"
    assert found == files.keys() | own | {"tokenizer.json", "tokenizer_config.json"}
    assert all((exported / name).read_text() == text for name, text in files.items())


def test_modules_that_are_not_mixed_and_differ_are_pointed_out(tmp_path, make_bert, save):
    for number in range(2):
        folder = save(make_bert(number, "BertModel"), tmp_path / str(number))
        (folder / "2_Dense").mkdir()
        (folder / "2_Dense" / "model.safetensors").write_text(str(number))
        (folder / "modules.json").write_text('[{"path": "2_Dense"}]')
    (warning,) = preflight([tmp_path / "0", tmp_path / "1"]).warnings
    assert warning.startswith("2_Dense/model.safetensors of")
    assert "are not mixed; an export takes the first checkpoint's" in warning


def test_integer_buffers_are_the_first_experts(tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        state = {
            "count": torch.tensor(7 + number),
            "mask": torch.tensor([True, False, True]),
            "weight": torch.full((5,), float(number)),
        }
        save_file(state, folder / "model.safetensors")
    folder = WeightSpace.from_pretrained(folders).export([0.5, 0.5], tmp_path / "mixture")
    state = load_file(folder / "model.safetensors")
    assert state["count"].item() == 7
    assert state["mask"].tolist() == [True, False, True]
    assert state["weight"].equal(torch.full((5,), 0.5))


def test_existing_folder_is_not_overwritten(experts, tmp_path):
    with pytest.raises(UserError, match="exists already"):
        WeightSpace.from_pretrained(experts).export([1, 0, 0], tmp_path)


def test_a_model_is_overwritten_on_demand_and_nothing_else_is(experts, tmp_path):
    space = WeightSpace.from_pretrained(experts)
    folder = space.export([1, 0, 0], tmp_path / "mixture")
    (folder / "old.txt").write_text("of the first")
    assert space.export([0, 1, 0], folder, overwrite=True) == folder
    assert not (folder / "old.txt").exists()
    assert stored_row(folder).theta.equal(space.rows[1])
    assert [path.name for path in tmp_path.iterdir()] == ["mixture"]
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("kept")
    with pytest.raises(
        UserError, match=r"notes has no model.safetensors, so it is no earlier expo"
    ):
        space.export([1, 0, 0], tmp_path / "notes", overwrite=True)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "kept"


def test_an_export_has_a_card_with_its_parents_by_the_names_given(experts, tmp_path):
    experts = [shutil.copytree(folder, tmp_path / folder.name) for folder in experts]
    (experts[0] / "README.md").write_text("---\nlicense: mit\n---\n# one\n")
    space = WeightSpace.from_pretrained(experts)
    folder = space.export([0.5, 0.25, 0.25], tmp_path / "mixture", scores={"accuracy": 61.5})
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == "transformers"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 61.5)
    label, name = space.labels[0], experts[0]
    assert f"| {label} | 0.500000 | `{name}` |" in card.text
    assert f"- `{name}`: mit" in card.text
    assert f"- `{experts[1]}`: not stated" in card.text
    assert not (space.export([1, 0, 0], tmp_path / "bare", card=False) / "README.md").exists()


def test_a_space_says_what_it_has(experts):
    space = WeightSpace.from_pretrained(experts, labels=["a", "b", "c"])
    assert repr(space) == f"WeightSpace(3 experts: a, b, c; {space.size:,} parameters)"
    assert space.named([0.5, 0.5, 0]) == {"a": 0.5, "b": 0.5, "c": 0.0}
    halves = space.grouped(lambda name: name[:1])
    assert [*halves.named(halves_alpha := [[1, 0, 0]] * len(halves.groups))] == [*halves.groups]
    assert halves.named(halves_alpha)[halves.groups[0]] == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_failed_export_leaves_nothing(experts, tmp_path, monkeypatch):
    space = WeightSpace.from_pretrained(experts)

    def full(weights):
        yield torch.zeros(3)
        raise OSError("No space left on device")

    monkeypatch.setattr(space, "_blocks", full)
    with pytest.raises(OSError, match="No space"):
        space.export([1, 0, 0], tmp_path / "mixture")
    assert list(tmp_path.iterdir()) == []


def test_configuration_keeps_its_other_settings(experts, tmp_path):
    folder = WeightSpace.from_pretrained(experts).export([1, 0, 0], tmp_path / "mixture")
    read = [json.loads((f / "config.json").read_text()) for f in (folder, experts[0])]
    assert read[0] == read[1]
