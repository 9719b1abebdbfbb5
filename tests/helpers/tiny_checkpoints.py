"""Small networks of random weights, and the folders that save_pretrained makes of them."""

import io
import json
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn import Parameter

WORDS = ("<pad>", "</s>", "<unk>", "film", "good", "bad", "the", "a")


def t5(seed=0, vocabulary=40, width=16, layers=2, **changes):
    """An untied T5 of random weights."""
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(seed)
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_ff=3 * width // 2,
        d_kv=width // 2,
        num_layers=layers,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
        **changes,
    )
    network = T5ForConditionalGeneration(config)
    network.lm_head.weight = Parameter(torch.randn(vocabulary, width))
    network.all_tied_weights_keys.pop("lm_head.weight", None)
    return network.eval()


def bert(seed=0, kind="BertForMaskedLM", vocabulary=50, width=16, layers=2):
    """A BERT of random weights; where it has a head for labels, for three."""
    import transformers

    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=3 * width // 2,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=2 * width,
        num_labels=3,
    )
    return getattr(transformers, kind)(config).eval()


def network(kind, seed=0):
    """A T5, or a BERT with a head for labels, of a few hundred weights."""
    return _network(kind, seed)


@cache
def _network(kind, seed):
    if kind == "bert":
        return bert(seed, "BertForSequenceClassification", 12, 8, 1)
    return t5(seed, 12, 8, 1)


@cache
def tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({x: n for n, x in enumerate(WORDS)}, unk_token="<unk>"))
    inner.pre_tokenizer = Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **special)


@cache
def _files(kind, seed):
    with TemporaryDirectory() as folder:
        network(kind, seed).save_pretrained(folder)
        tokenizer().save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def files_of(kind, seed=0):
    """Name -> bytes of the folder that save_pretrained makes."""
    return dict(_files(kind, seed))


def write(files, folder):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def header_of(content):
    """The header of a safetensors file as plain data, and what follows it."""
    (size,) = struct.unpack("<Q", content[:8])
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def with_header(header, data, blanks=0):
    text = json.dumps(header).encode() + b" " * blanks
    return struct.pack("<Q", len(text)) + text + data


def pickled(state):
    """A state as torch.save writes it."""
    out = io.BytesIO()
    torch.save(state, out)
    return out.getvalue()
