"""A person's own checkpoints, mixed by `stage=interpolate checkpoints=[...]`."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

pytestmark = pytest.mark.slow  # searches by the command

CSV = ("logger=csv", "store=another")


@pytest.fixture(scope="module")
def brought(experts):
    """Two of a run's experts and a LoRA adapter, outside the store, in three shapes."""
    folder, _ = experts
    names = [folder / "own" / name for name in ("first", "second", "adapter")]
    stored = sorted(path.parent for path in folder.glob("multirun/store/*/model.safetensors"))
    for expert, place in zip(stored[:2], names[:2], strict=True):
        shutil.copytree(expert, place)
    state = load_file(names[1] / "model.safetensors")
    save_file(
        {name: tensor.half() for name, tensor in state.items()},
        names[1] / "model.safetensors",
        {"format": "pt"},
    )
    (names[1] / "tokenizer.json").unlink()
    names[2].mkdir()
    settings = {"peft_type": "LORA", "base_model_name_or_path": str(names[0]), "lora_alpha": 4}
    (names[2] / "adapter_config.json").write_text(json.dumps(settings))
    weight = "decoder.block.0.layer.0.SelfAttention.q"
    rows, columns = state[f"{weight}.weight"].shape
    save_file(
        {
            f"base_model.model.{weight}.lora_A.weight": torch.ones(2, columns) / 30,
            f"base_model.model.{weight}.lora_B.weight": torch.ones(rows, 2) / 30,
        },
        names[2] / "adapter_model.safetensors",
    )
    return folder, names


def test_any_checkpoints_are_searched_tested_and_exported(brought, small, dfwe):
    folder, names = brought
    listed = ",".join(map(str, names))
    process = dfwe(
        folder,
        "stage=all",
        "task=meld",
        *small,
        *CSV,
        f"checkpoints=[{listed}]",
        "search=single_experts",
    )
    assert process.returncode == 0, process.stderr
    assert "second has no tokenizer" in process.stdout + process.stderr
    assert "These 3 checkpoints can be mixed." in process.stdout + process.stderr
    shown = json.loads(Path(process.stdout.splitlines()[-1]).read_text())
    assert list(shown["dfwe"]["alpha"]) == ["first", "second", "adapter"]
    dev = [row["dev"] for row in shown["experts"]]
    assert shown["dfwe"]["dev"] == max(dev)
    assert shown["baseline"] == {"dev": dev[0], "test": shown["experts"][0]["test"]}
    state = load_file(Path(shown["model_dir"]) / "model.safetensors")
    assert all(tensor.dtype == torch.float32 for tensor in state.values())


def test_checkpoints_that_do_not_fit_are_named_before_any_work(brought, small, dfwe):
    folder, (first, *_) = brought
    other = folder / "own" / "other"
    other.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(first / name, other / name)
    state = load_file(first / "model.safetensors")
    state.pop("lm_head.weight")
    save_file(state, other / "model.safetensors", {"format": "pt"})
    process = dfwe(
        folder,
        "stage=interpolate",
        "task=meld",
        *small,
        *CSV,
        f"checkpoints=[{first},{other}]",
    )
    assert process.returncode == 1
    assert "PROBLEM" in process.stdout + process.stderr
    assert "other lacks 'lm_head.weight'" in process.stderr
    assert "Traceback" not in process.stderr
