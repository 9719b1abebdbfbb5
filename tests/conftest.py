"""Shared fixtures: a tiny random T5 of Flan's shape, its tokenizer, examples."""

import os

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest

from dfwe.data.dialogue import Example

WORDS = tuple(
    "anna ben carla bridge river coffee angry happy sad calm lost found the a is was to of in "
    "yes no maybe when where who why question answer emotion said bought broke fixed".split()
)
LABELS = ("happy", "angry", "rather sad", "calm")


def sentence(rng, low, high):
    return " ".join(rng.choice(WORDS, int(rng.integers(low, high))))


@pytest.fixture(scope="session")
def tokenizer():
    import numpy as np

    from dfwe.model.pretrain import train_tokenizer

    rng = np.random.default_rng(0)
    return train_tokenizer([sentence(rng, 10, 40) for _ in range(200)], 500)


@pytest.fixture(scope="session")
def make_network(tokenizer):
    """seed -> a small random T5 whose greedy answers differ in length and content."""
    import torch

    from dfwe.model.pretrain import build

    def make(seed=0):
        network = build(tokenizer, d_model=32, d_ff=64, layers=2, heads=4, seed=seed)
        with torch.no_grad():
            network.lm_head.weight.mul_(8)
            network.lm_head.weight[1] *= 3  # the end token comes early now and then
        return network.eval()

    return make


@pytest.fixture(scope="session")
def label_examples():
    import numpy as np

    rng = np.random.default_rng(1)
    return tuple(
        Example(
            id=f"d{i // 4}_t{i}", dialogue=f"d{i // 4}",
            context=f"context: {sentence(rng, 3, 60)}", prompt="emotion:",
            target=(target := str(rng.choice(LABELS))), references=(target,),
            options=LABELS,
        )
        for i in range(37)
    )  # fmt: skip


@pytest.fixture(scope="session")
def text_examples():
    import numpy as np

    rng = np.random.default_rng(2)
    return tuple(
        Example(f"d{i}_q", f"d{i}", f"context: {sentence(rng, 3, 50)}",
                f"question: {sentence(rng, 2, 6)} answer:", (target := sentence(rng, 1, 6)),
                (target,))
        for i in range(23)
    )  # fmt: skip


FILM = "the film was good bad great poor plot actor and a of it how who".split()


@pytest.fixture(scope="session")
def bert(tmp_path_factory):
    """The folder of a tiny random BERT without a head, as a Hub checkpoint is."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer

    from dfwe.model.pretrained import save

    folder = tmp_path_factory.mktemp("bert")
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILM]
    config = BertConfig(vocab_size=len(vocabulary), hidden_size=16, num_hidden_layers=2,
                        num_attention_heads=2, intermediate_size=32)  # fmt: skip
    torch.manual_seed(0)
    numbers = {word: number for number, word in enumerate(vocabulary)}
    save(BertModel(config), BertTokenizer(numbers), folder)
    return folder
