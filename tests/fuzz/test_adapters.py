"""LoRA adapters, merged by peft, and by hand, beside dfwe."""

import json
import re
import shutil
from copy import deepcopy
from functools import cache, partial
from typing import NamedTuple

import peft
import pytest
import torch
from fuzzing import damaged, junk, mutated, texts
from hypothesis import strategies as st
from safetensors.torch import load as load_tensors
from safetensors.torch import save
from tiny_checkpoints import files_of, header_of, network, pickled, with_header, write

from dfwe.weights.rows import read_row

pytestmark = pytest.mark.filterwarnings("ignore")  # peft's own
SETTINGS, WEIGHTS, PICKLED = (
    "adapter_config.json",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
PREFIX = "base_model.model."
TARGETS = {
    "t5": ["q", "k", "v", "o", "wo", "wi_0", "shared"],
    "bert": ["query", "value", "attention.output.dense", "word_embeddings"],
}
HEADS = {"t5": "lm_head", "bert": "classifier"}
PATTERNS = (
    {"(a+)+$": 2.0},
    {"(": 2.0},
    {".*": 3},
    {"v": 9.0, "q": 0},
    {"(.*a){20}": 1.0},
    {"": 1.0},
)


class Case(NamedTuple):
    """An adapter's files, where BASE stands for its base's folder.

    `state` is what peft merges; None where something is wrong with the files.
    """

    kind: str
    files: dict[str, bytes]
    state: dict[str, torch.Tensor] | None

    def __repr__(self):
        sizes = {name: len(content) for name, content in self.files.items()}
        return f"{self.kind}, {sizes}, {self.files.get(SETTINGS)}"


@cache
def made(kind, seed, **settings):
    """peft's settings, tensors, and the merged network's state."""
    settings = {name: json.loads(value) for name, value in settings.items()}
    torch.manual_seed(seed)
    config = peft.LoraConfig(init_lora_weights=False, **settings)
    model = peft.get_peft_model(deepcopy(network(kind)), config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    tensors = {
        name: x.contiguous().clone() for name, x in peft.get_peft_model_state_dict(model).items()
    }
    kept = {x: sorted(y) if isinstance(y, set) else y for x, y in config.to_dict().items()}
    kept["base_model_name_or_path"] = "BASE"
    merged = model.merge_and_unload().state_dict()
    return json.dumps(kept, default=str), tensors, {x: y.clone() for x, y in merged.items()}


@st.composite
def sound(draw):
    kind = draw(st.sampled_from(["t5", "bert"]))
    targets = draw(st.lists(st.sampled_from(TARGETS[kind]), min_size=1, max_size=2, unique=True))
    settings = {
        "r": draw(st.integers(1, 3)),
        "lora_alpha": draw(st.sampled_from([1, 4, 16])),
        "target_modules": targets,
        "use_rslora": draw(st.booleans()),
        "bias": draw(st.sampled_from(["none", "all"])) if kind == "bert" else "none",
        "modules_to_save": draw(st.sampled_from([None, [HEADS[kind]]])),
        "task_type": draw(
            st.sampled_from([None, "SEQ_CLS" if kind == "bert" else "SEQ_2_SEQ_LM"])
        ),
    }
    if draw(st.booleans()):
        settings["alpha_pattern"] = {targets[0]: draw(st.sampled_from([2, 0.5]))}
        settings["rank_pattern"] = draw(st.sampled_from([{}, {targets[0]: 2}]))
    spelled = {name: json.dumps(value) for name, value in settings.items()}
    config, tensors, merged = made(kind, draw(st.integers(0, 2)), **spelled)
    if draw(st.booleans()):
        weights = {WEIGHTS: save(tensors, {"format": "pt"})}
    else:
        weights = {PICKLED: pickled(tensors)}
    return Case(kind, {SETTINGS: config.encode(), **weights}, merged)


@st.composite
def unsound(draw):
    """A sound adapter with wrong settings, tensors, files or base."""
    case = draw(sound())
    files = dict(case.files)
    config = json.loads(files[SETTINGS])
    how = draw(
        st.sampled_from(
            [
                "settings",
                "settings",
                "tensor",
                "tensor",
                "bytes",
                "header",
                "missing",
                "base",
                "pattern",
            ]
        )
    )
    if how == "settings":
        config = draw(mutated(config))
    elif how == "base":
        config["base_model_name_or_path"] = draw(
            st.one_of(texts(), st.sampled_from([".", "..", "../other", None]))
        )
    elif how == "pattern":
        config["alpha_pattern"] = draw(st.sampled_from(PATTERNS))
    elif how == "bytes":
        name = draw(st.sampled_from(sorted(files)))
        files[name] = draw(damaged(files[name]))
    elif how == "missing":
        del files[draw(st.sampled_from(sorted(files)))]
    elif WEIGHTS in files:
        if how == "header":
            header, data = header_of(files[WEIGHTS])
            values = st.one_of(junk(), st.sampled_from(["F16", "I64", [0, 4], [8], [2, 2]]))
            files[WEIGHTS] = with_header(draw(mutated(header, values)), data)
        else:
            tensors = load_tensors(files[WEIGHTS])
            changed(draw, tensors)
            files[WEIGHTS] = save(tensors, {"format": "pt"})
    if how in ("settings", "base", "pattern"):
        files[SETTINGS] = json.dumps(config).encode()
    return case._replace(files=files, state=None)


def changed(draw, tensors):
    name = draw(st.sampled_from(sorted(tensors)))
    how = draw(st.sampled_from(["out", "renamed", "shape", "whole", "nan", "empty", "more"]))
    if how == "out":
        del tensors[name]
    elif how == "renamed":
        other = st.sampled_from(
            [
                name.replace(PREFIX, ""),
                f"{PREFIX}{name}",
                f"{name}.default",
                name.replace("lora_A", "lora_C"),
            ]
        )
        tensors[draw(st.one_of(texts(1), other))] = tensors.pop(name)
    elif how == "shape":
        value = tensors[name]
        tensors[name] = draw(
            st.sampled_from([value[None], value[:1], value.flatten(), value.T])
        ).contiguous()
    elif how == "whole":
        tensors[name] = tensors[name].to(torch.int64)
    elif how == "nan":
        tensors[name].view(-1)[-1] = float("nan")
    elif how == "empty":
        tensors[name] = tensors[name].new_empty(0)
    else:
        more = [
            "x",
            f"{PREFIX}x.lora_A.weight",
            f"{name}_magnitude_vector",
            name.replace("weight", "bias"),
        ]
        tensors[draw(st.sampled_from(more))] = torch.ones(2, 2)


def judge(folder, case):
    """The merged weights are those of peft; where peft refuses the files, W + s B A by hand."""
    base, place = folder / case.kind, folder / "adapter"
    if not base.exists():
        write(files_of(case.kind), base)
    shutil.rmtree(place, ignore_errors=True)
    write(
        {x: y.replace(b'"BASE"', json.dumps(str(base)).encode()) for x, y in case.files.items()},
        place,
    )
    row = read_row(place)
    values = {
        name: row.theta[start:stop].view(shape) for name, start, stop, shape in row.layout.spans()
    }
    if case.state is not None:
        assert agrees(values, case.state)
    else:
        merged = by_peft(case.kind, place)
        assert (merged is not None and agrees(values, merged)) or agrees(
            values, by_hand(case.kind, place)
        )
    return True


def agrees(values, state):
    """Every value is the state's, and the state has no other that is not tied to one."""
    named = all(
        x in state and torch.allclose(y, state[x].float(), atol=1e-6) for x, y in values.items()
    )
    rest = [state[x].float() for x in state.keys() - values.keys() if state[x].is_floating_point()]
    return named and all(
        any(x.shape == y.shape and torch.allclose(x, y, atol=1e-6) for y in values.values())
        for x in rest
    )


def by_peft(kind, place):
    try:
        loaded = peft.PeftModel.from_pretrained(deepcopy(network(kind)), place)
        return loaded.merge_and_unload().state_dict()
    except Exception:  # whatever it raises for a file that is not as it should be
        return None


def by_hand(kind, place):
    config = json.loads((place / SETTINGS).read_text())
    if (place / WEIGHTS).exists():
        tensors = load_tensors((place / WEIGHTS).read_bytes())
    else:
        tensors = torch.load(place / PICKLED, weights_only=True)
    state = {name: x.clone() for name, x in network(kind).state_dict().items()}
    tensors = {
        name.removeprefix(PREFIX): x.float()
        for name, x in tensors.items()
        if ".original_module." not in name  # a head as it was before training
    }
    for name, a in tensors.items():
        if ".lora_" not in name:
            state[re.sub(r"(modules_to_save|base_layer)\.", "", name)] = a
        elif "A" in name.rpartition("lora_")[2]:
            b = tensors[name.replace("lora_A", "lora_B").replace("embedding_A", "embedding_B")]
            module = name.partition(".lora_")[0]
            found = (
                x
                for p, x in (config.get("alpha_pattern") or {}).items()
                if re.match(rf"(.*\.)?({p})$", module)
            )
            alpha, rank = next(found, config["lora_alpha"]), a.shape[0]
            change = b @ a * alpha / (rank**0.5 if config.get("use_rslora") else rank)
            state[f"{module}.weight"] += change.T if "embedding" in name else change
    for alias in ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight"):
        if alias in state:
            state[alias] = state["shared.weight"]
    return state


@pytest.mark.usefixtures("no_random_start")
def test_adapters_are_merged_right_or_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("adapters", partial(judge, tmp_path), sound(), unsound())
