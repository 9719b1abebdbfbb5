"""Generation settings are those that transformers reads, and an export keeps them."""

import json
import logging

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, GenerationConfig

from dfwe.errors import UserError
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.generation import Generation, generate, generation_of, read_generation
from dfwe.weights.loading import load, load_network
from dfwe.weights.loading import save as save_model
from dfwe.weights.preflight import preflight
from dfwe.weights.space import WeightSpace

IDS = {"decoder_start_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
BEAMS = {"num_beams": 4, "num_return_sequences": 4, "early_stopping": True, "do_sample": False}


@pytest.fixture
def folder_of(make_t5, save, tmp_path):
    """Settings -> a T5's folder that has them, in generation_config.json or in config.json."""

    def build(settings, name="model", seed=0, file="generation_config.json"):
        folder = save(make_t5(seed), tmp_path / name)
        if file == "config.json":
            settings = json.loads((folder / file).read_text()) | settings
            (folder / "generation_config.json").unlink()
        (folder / file).write_text(json.dumps(settings))
        return folder

    return build


@pytest.mark.parametrize("file", ["generation_config.json", "config.json"])
def test_a_network_has_the_settings_that_transformers_reads(folder_of, file):
    folder = folder_of({**IDS, "min_length": 4, "eos_token_id": [1, 7], **BEAMS}, file=file)
    own = AutoModelForSeq2SeqLM.from_pretrained(folder)
    network = load_network(Checkpoint.read(folder)).network
    assert network.generation_config == own.generation_config
    settings = generation_of(network)
    assert (settings.start, settings.ends) == (0, {1, 7})
    assert settings.changes == {"min_length": 4}


def test_what_has_no_part_in_a_greedy_answer_is_one_sentence(folder_of):
    folder = folder_of({**IDS, **BEAMS, "temperature": 1.0})
    note = Generation.of(read_generation(folder)).note(folder)
    named = "early_stopping=True, num_beams=4, num_return_sequences=4"
    assert note == f"Answers are greedy: {named} of {folder} is ignored."
    assert Generation.of(GenerationConfig(num_beams=1, min_length=4)).note(folder) is None


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({**IDS, "guidance_scale": 2.0}, r"cannot generate by its settings \(guidance_scale\)"),
        ({**IDS, "forced_bos_token_id": 99}, r"cannot generate by .* \(forced_bos_token_id\)"),
        ({"eos_token_id": 1}, r"\(without decoder_start_token_id\): .*put them right in its gen"),
        ({"early_stopping": "perhaps"}, r"generation_config\.json cannot be read .*save the mod"),
    ],
)
def test_settings_that_cannot_be_are_one_sentence(folder_of, settings, sentence):
    folder = folder_of(settings)
    (problem,) = preflight([folder]).problems
    with pytest.raises(UserError, match=sentence) as raised:
        load(folder)
    assert problem == str(raised.value)


def test_settings_that_differ_are_said(folder_of):
    first = folder_of({**IDS, "min_length": 4, "max_length": 9}, "first")
    other = folder_of({**IDS, **BEAMS, "eos_token_id": [1, 5]}, "other", seed=1)
    (warning,) = preflight([first, other]).warnings
    assert warning.startswith(f"The generation settings of {other} and {first} differ in eos_to")
    assert "eos_token_id, min_length; answers and an export have the first" in warning


def test_an_export_answers_as_its_mixture_was_scored(folder_of, tmp_path):
    settings = {**IDS, **BEAMS, "min_length": 5, "suppress_tokens": [4, 8], "eos_token_id": [1, 7]}
    folders = [folder_of(settings, "first"), folder_of(IDS, "other", seed=1)]
    space, alpha = WeightSpace.from_pretrained(folders), [0.6, 0.4]
    network = load(folders[0])[0]
    space.write(alpha, network)
    exported = AutoModelForSeq2SeqLM.from_pretrained(space.export(alpha, tmp_path / "mixture"))
    source = torch.tensor([[3, 5, 8, 9, 1]])
    mask = torch.ones_like(source)
    greedy = {"num_beams": 1, "do_sample": False, "num_return_sequences": 1}
    own = exported.generate(source, attention_mask=mask, max_new_tokens=9, **greedy)
    assert own[0, 1:].tolist() == generate(network, source, mask, 9)[0].tolist()
    plain = exported.generate(
        source, attention_mask=mask, generation_config=GenerationConfig(**IDS, max_new_tokens=9)
    )
    assert own.tolist() != plain.tolist()


def test_a_saved_model_keeps_settings_that_transformers_would_not_save(
    folder_of, tmp_path, caplog
):
    settings = {**IDS, "temperature": 0.3, "min_length": 4}  # of sampling, without do_sample
    network, tokenizer = load(folder_of(settings))
    with caplog.at_level(logging.WARNING):
        save_model(network, tokenizer, tmp_path / "saved")
    assert read_generation(tmp_path / "saved") == network.generation_config
    assert caplog.text == ""
