"""Small checkpoints on disk: an untied T5, an encoder with a head, tied embeddings."""

import pytest
from tiny_checkpoints import bert, t5


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
