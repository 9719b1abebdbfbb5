"""Networks of a few hundred weights, and the folders that save_pretrained makes of them."""

import io
import json
import struct
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.nn import Parameter

WORDS = ("<pad>", "</s>", "<unk>", "film", "good", "bad", "the", "a")


def network(kind, seed=0):
    """An untied T5, or a BERT with a head for labels; of random weights."""
    return _network(kind, seed)


@cache
def _network(kind, seed):
    import transformers

    torch.manual_seed(seed)
    if kind == "bert":
        config = transformers.BertConfig(
            vocab_size=12,
            hidden_size=8,
            intermediate_size=12,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=16,
            num_labels=3,
        )
        return transformers.BertForSequenceClassification(config).eval()
    config = transformers.T5Config(
        vocab_size=12,
        d_model=8,
        d_ff=12,
        d_kv=4,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
        decoder_start_token_id=0,
        tie_word_embeddings=False,
    )
    made = transformers.T5ForConditionalGeneration(config)
    made.lm_head.weight = Parameter(torch.randn(12, 8))
    made.all_tied_weights_keys.pop("lm_head.weight", None)
    return made.eval()


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
