"""Language models as backbones: they have no head to leave out, and other names."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.studies.region.backbones import backbone_space, empty_backbone
from dfwe.studies.region.probe import Texts, features
from dfwe.studies.region.survey import survey_folders
from dfwe.training.freezing import freeze
from dfwe.weights.loading import load, save

KINDS = ("gpt2", "bart", "t5")


@pytest.fixture(scope="module")
def checkpoints(tokenizer, make_network, tmp_path_factory):
    """Architecture -> the folders of three random models."""
    from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

    ends = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    size = {"vocab_size": len(tokenizer), "bos_token_id": 1, **ends}
    gpt2 = GPT2Config(n_embd=16, n_layer=1, n_head=2, n_positions=64, **size)
    bart = BartConfig(
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        **size,
    )
    make = {
        "gpt2": lambda seed: GPT2LMHeadModel(gpt2),
        "t5": make_network,
        "bart": lambda seed: BartForConditionalGeneration(bart),
    }
    folder = tmp_path_factory.mktemp("models")
    for kind in KINDS:
        for seed in range(3):
            torch.manual_seed(seed)
            save(make[kind](seed), tokenizer, folder / kind / str(seed))
    return {kind: [folder / kind / str(seed) for seed in range(3)] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_a_language_model_is_a_backbone_as_a_whole(kind, checkpoints, tokenizer, label_examples):
    base, *others = checkpoints[kind]
    space, backbone, _ = backbone_space(base, others, ["a", "b"])
    tokenized = tokenize(label_examples[:5], tokenizer, max_input=40, max_target=8)
    for alpha, folder in zip(torch.eye(3).tolist(), [*others, base], strict=True):
        space.write(alpha, backbone)
        network, _ = load(folder)
        theirs = dict(network.named_parameters())
        for name, value in backbone.named_parameters():
            assert torch.equal(value, theirs[name]), name
        texts = Texts.of(tokenized, [0] * 5)
        ours, theirs = (features(one, texts, ("mean",))["mean"] for one in (backbone, network))
        assert (ours == theirs).all()


@pytest.mark.parametrize("kind", KINDS)
def test_language_models_are_surveyed(kind, checkpoints):
    folders = [str(folder) for folder in checkpoints[kind]]
    assert survey_folders(folders).products.shape == (3, 3)
    products = survey_folders(folders, folders[0]).products
    assert not products[0].any()  # the base itself never moved
    rows = [
        torch.cat([values.flatten() for _, values in sorted(load(folder)[0].named_parameters())])
        for folder in checkpoints[kind]
    ]
    moved = [(row - rows[0]).detach().double() for row in rows]
    assert products[1, 2] == pytest.approx(float(moved[1] @ moved[2]), rel=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_layer_norms_are_recognised_by_name_in_a_backbone_without_values(kind, checkpoints):
    backbone = empty_backbone(checkpoints[kind][0])
    assert {values.device.type for values in backbone.parameters()} == {"meta"}
    freeze(backbone, "norms")
    trained = {name for name, values in backbone.named_parameters() if values.requires_grad}
    assert trained == {
        f"{owner}.{name}"
        for owner, module in backbone.named_modules()
        if "Norm" in type(module).__name__
        for name, _ in module.named_parameters()
    }


def test_a_folder_without_a_model_has_no_backbone(tmp_path):
    with pytest.raises(UserError, match=r"holds no model\.safetensors"):
        empty_backbone(tmp_path)


@pytest.mark.parametrize(("kind", "prefix"), [("gpt2", "transformer."), ("bart", "model.")])
def test_a_base_may_be_saved_without_the_prefix(kind, prefix, checkpoints, tmp_path):
    for file in checkpoints[kind][0].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    state = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix(prefix): values for name, values in state.items()}
    assert bare.keys() != state.keys()
    save_file(bare, tmp_path / "model.safetensors", {"format": "pt"})
    folders = [str(folder) for folder in checkpoints[kind]]
    products = survey_folders(folders, str(tmp_path)).products
    assert (products == survey_folders(folders, folders[0]).products).all()


def test_a_pooler_that_the_head_took_the_place_of_is_left_out(tokenizer, tmp_path):
    from transformers import RobertaConfig, RobertaForSequenceClassification, RobertaModel

    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
        pad_token_id=tokenizer.pad_token_id,
    )
    for number in range(3):
        save(RobertaForSequenceClassification(config), tokenizer, tmp_path / str(number))
    save(RobertaModel(config, add_pooling_layer=False), tokenizer, tmp_path / "base")
    folders = [tmp_path / str(number) for number in range(3)]
    space, backbone, _ = backbone_space(tmp_path / "base", folders, ["a", "b", "c"])
    space.write([0.0, 1.0, 0.0, 0.0], backbone)
    wanted = load(folders[1])[0].roberta.state_dict()
    assert {name: values.tolist() for name, values in backbone.state_dict().items()} == {
        name: values.tolist() for name, values in wanted.items()
    }
    assert survey_folders([str(folder) for folder in folders]).products.shape == (3, 3)
