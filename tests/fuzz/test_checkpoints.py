"""Checkpoint folders, loaded and mixed by transformers and plain arithmetic beside dfwe."""

import json
import shutil
from copy import deepcopy
from functools import cache, partial
from typing import NamedTuple

import pytest
import torch
from fuzzing import damaged, junk, mutated, texts
from hypothesis import strategies as st
from safetensors.torch import save
from tiny_checkpoints import files_of, header_of, network, pickled, with_header, write

from dfwe.weights.rows import read_row
from dfwe.weights.space import WeightSpace

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
# Buffers of earlier versions, which hold nothing that was trained.
BUFFERS = {
    "bert": {"bert.embeddings.position_ids": torch.arange(16)[None]},
    "t5": {
        "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight": torch.ones(32, 2)
    },
}
# What pretraining leaves beside a model that has no such head: said in one line, and left out.
LEFT_OUT = {"bert": {"lm_head.bias"}, "t5": set()}
ALIASES = {"t5": ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")}
METADATA = {"format": "pt"}


class Case(NamedTuple):
    """A checkpoint's files, to be mixed with another one of its kind.

    `state` is what was saved, in the network's names; None where something is wrong with it.
    """

    kind: str
    files: dict[str, bytes]
    alpha: float
    state: dict[str, torch.Tensor] | None

    def __repr__(self):
        sizes = {name: len(content) for name, content in self.files.items()}
        small = {x: y for x, y in self.files.items() if x.endswith(".json") and x[0] != "t"}
        return f"{self.kind}, {self.alpha}, {sizes}, {small}"


@st.composite
def states(draw, kind):
    """A network's state, and the same in the spellings that transformers reads."""
    dtype = draw(st.sampled_from(DTYPES))
    saved = network(kind, draw(st.integers(1, 3))).state_dict()
    saved = {name: x.to(dtype) for name, x in saved.items()}
    state = {name: x.clone() for name, x in saved.items()}
    spelling = draw(st.sampled_from(["now", "buffers", "aliases", "gamma"]))
    if spelling == "buffers":
        state |= {name: x.clone() for name, x in BUFFERS[kind].items()}
    elif spelling == "gamma" and kind == "bert":
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for new, before in old.items():
            state = {name.replace(new, before): x for name, x in state.items()}
    for alias in ALIASES.get(kind, ()):
        if spelling != "aliases":
            del state[alias]
    return saved, state


@st.composite
def stored(draw, state):
    """The files of a state: one, several, pickled, or with a header of another order."""
    form = draw(st.sampled_from(["one", "parts", "pickled", "pickled parts", "header"]))
    if form == "one":
        return {WEIGHTS: save(state, METADATA)}
    if form == "pickled":
        return {"pytorch_model.bin": pickled(state)}
    if form == "header":
        header, data = header_of(save(state, METADATA))
        items = draw(st.permutations(list(header.items())))
        return {WEIGHTS: with_header(dict(items), data, draw(st.integers(0, 9)))}
    ending, dump = (
        (".bin", pickled)
        if "pickled" in form
        else (".safetensors", partial(save, metadata=METADATA))
    )
    stem = "pytorch_model" if "pickled" in form else "model"
    number = draw(st.integers(1, 3))
    parts = {
        name: f"{stem}-{1 + n % number:05}-of-{number:05}{ending}"
        for n, name in enumerate(sorted(state))
    }
    index = {"metadata": {"total_size": 1}, "weight_map": parts}
    files = {
        part: dump({x: state[x] for x in state if parts[x] == part}) for part in parts.values()
    }
    return {**files, f"{stem}{ending}.index.json": json.dumps(index).encode()}


@st.composite
def sound(draw):
    kind = draw(st.sampled_from(["t5", "bert"]))
    saved, state = draw(states(kind))
    return Case(kind, files_with(kind, draw(stored(state))), draw(st.floats(0, 1)), saved)


def files_with(kind, weights):
    return {name: x for name, x in files_of(kind).items() if name != WEIGHTS} | weights


def changed(draw, state):
    """Something wrong in one tensor."""
    name = draw(st.sampled_from(sorted(state)))
    how = draw(
        st.sampled_from(
            ["out", "renamed", "shape", "whole", "nan", "inf", "empty", "more", "packed"]
        )
    )
    if how == "out":
        del state[name]
    elif how == "renamed":
        state[
            draw(
                st.one_of(
                    texts(1),
                    st.sampled_from([f"module.{name}", f"{name}.lora_A.weight", f"bert.{name}"]),
                )
            )
        ] = state.pop(name)
    elif how == "shape":
        state[name] = draw(
            st.sampled_from(
                [
                    state[name][None],
                    state[name][:1],
                    state[name].flatten(),
                    state[name].repeat(2, *[1] * (state[name].dim() - 1)),
                ]
            )
        ).contiguous()
    elif how == "whole":
        state[name] = state[name].to(
            draw(st.sampled_from([torch.int64, torch.int8, torch.uint8, torch.bool]))
        )
    elif how in ("nan", "inf"):
        state[name].view(-1)[-1] = float(how)
    elif how == "empty":
        state[name] = state[name].new_empty(0)
    elif how == "packed":
        state[f"{name.removesuffix('.weight')}.qweight"] = torch.zeros(2, 2, dtype=torch.int32)
    else:
        state[
            draw(
                st.sampled_from(
                    [
                        "v_head.summary.weight",
                        "x",
                        "classifier2.weight",
                        "lm_head.bias",
                        "encoder.block.7.layer.0.SelfAttention.q.weight",
                    ]
                )
            )
        ] = torch.ones(2, 2)


@st.composite
def unsound(draw):
    """A sound folder with a wrong tensor, a wrong file, or one that is missing."""
    how = draw(
        st.sampled_from(
            ["tensor", "tensor", "header", "bytes", "json", "json", "missing", "other", "config"]
        )
    )
    if how == "tensor":
        kind = draw(st.sampled_from(["t5", "bert"]))
        _, state = draw(states(kind))
        changed(draw, state)
        return Case(kind, files_with(kind, draw(stored(state))), draw(st.floats(0, 1)), None)
    case = draw(sound())
    files = dict(case.files)
    if how == "header":
        if WEIGHTS not in files:
            files = {name: x for name, x in files_of(case.kind, 1).items()}
        header, data = header_of(files[WEIGHTS])
        values = st.one_of(
            junk(), st.sampled_from(["F32", "F16", "I64", "F8_E4M3", "BF16", [0, 4], [8], [4, 0]])
        )
        files[WEIGHTS] = with_header(draw(mutated(header, values)), data)
    elif how == "bytes":
        name = draw(st.sampled_from(sorted(files)))
        files[name] = draw(damaged(files[name]))
    elif how in ("json", "config"):
        names = (
            ["config.json"]
            if how == "config"
            else [x for x in sorted(files) if x.endswith(".json")]
        )
        name = draw(st.sampled_from(names))
        files[name] = json.dumps(draw(mutated(json.loads(files[name])))).encode()
    elif how == "missing":
        del files[draw(st.sampled_from(sorted(files)))]
    else:
        name = draw(st.sampled_from(sorted(files)))
        other = files_of("bert" if case.kind == "t5" else "t5")
        files[name] = draw(
            st.sampled_from(
                [*other.values(), b"", b"{}", b"[]", b"null", pickled([1]), pickled({"a": 1})]
            )
        )
    return case._replace(files=files, state=None)


@cache
def plain_row(kind, folder):
    return read_row(write(files_of(kind), folder / kind))


def judge(folder, case):
    """The mixture's weights and answers are those that transformers and plain sums give."""
    place = folder / "variant"
    shutil.rmtree(place, ignore_errors=True)
    row, other = plain_row(case.kind, folder), read_row(write(case.files, place))
    if other.layout != row.layout:  # such as a head that a configuration ties: refused together
        WeightSpace.from_pretrained([folder / case.kind, place])
        raise AssertionError("two layouts are mixed")
    space = WeightSpace([row.theta, other.theta], row.layout, ["plain", "variant"])
    first, second = network(case.kind).state_dict(), case.state
    second = plain_state(case.kind, place) if second is None else second
    alpha = (case.alpha, 1 - case.alpha)
    mixed = {
        name: (alpha[0] * first[name].double() + alpha[1] * second[name].double()).float()
        for name in first
    }
    ours, theirs = deepcopy(network(case.kind)), deepcopy(network(case.kind))
    space.write(alpha, ours)
    theirs.load_state_dict(mixed)
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, mixed[name], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(answer(ours), answer(theirs), atol=1e-4, rtol=1e-4)
    return True


@torch.no_grad()
def answer(net):
    """The label's logits, or a greedy answer and the logits of its first word."""
    tokens = torch.tensor([[3, 4, 6, 1]])
    if not net.config.is_encoder_decoder:
        return net(tokens).logits
    told = net.generate(tokens, max_new_tokens=3, do_sample=False, num_beams=1)
    logits = net(tokens, decoder_input_ids=torch.tensor([[0]])).logits
    return torch.cat([logits.flatten(), told.flatten().float()])


def plain_state(kind, place):
    """What transformers loads, float32; nothing of it may be new, and nothing left out."""
    from transformers import BertForSequenceClassification, T5ForConditionalGeneration

    loader = T5ForConditionalGeneration if kind == "t5" else BertForSequenceClassification
    net, info = loader.from_pretrained(place, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert set(info["unexpected_keys"]) <= {*BUFFERS[kind], *LEFT_OUT[kind]}
    return net.state_dict()


@pytest.mark.usefixtures("no_random_start")
def test_checkpoints_are_mixed_right_or_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("checkpoint folders", partial(judge, tmp_path), sound(), unsound())
