"""Small checkpoints on disk: an untied T5, an encoder with a head, tied embeddings."""

import pytest
import torch
from torch.nn import Parameter


def t5(seed=0, vocabulary=40, **changes):
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=16,
        d_ff=24,
        d_kv=8,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
        **changes,
    )
    network = T5ForConditionalGeneration(config)
    network.lm_head.weight = Parameter(torch.randn(vocabulary, 16))
    network.all_tied_weights_keys.pop("lm_head.weight", None)
    return network.eval()


def bert(seed=0, kind="BertForMaskedLM"):
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        num_labels=3,
    )
    return getattr(transformers, kind)(config).eval()


def words(*more):
    """A tokenizer of a few words."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: number for number, word in enumerate(("<pad>", "</s>", "<unk>", *more))}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="<unk>")),
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def saved(network, folder, tokenizer=("film", "good")):
    network.save_pretrained(folder)
    if tokenizer:
        words(*tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def experts(tmp_path_factory):
    """Three saved T5s with untied heads."""
    root = tmp_path_factory.mktemp("experts")
    return tuple(saved(t5(seed), root / f"expert{seed}") for seed in range(3))


@pytest.fixture
def naive():
    """(folders, alpha) -> name -> sum_i alpha_i theta_i, from the saved files."""
    from safetensors.torch import load_file

    def mix(folders, alpha):
        states = [load_file(folder / "model.safetensors") for folder in folders]
        return {
            name: sum(a * state[name].double() for a, state in zip(alpha, states, strict=True))
            for name in states[0]
        }

    return mix


@pytest.fixture
def make_t5():
    return t5


@pytest.fixture
def make_bert():
    return bert


@pytest.fixture
def save():
    return saved


@pytest.fixture
def tokenizer_of():
    return words
