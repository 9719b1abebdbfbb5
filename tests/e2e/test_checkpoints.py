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


def test_a_score_of_ones_own_is_searched_and_the_model_exported(brought, dfwe):
    folder, (first, second, _) = brought
    (folder / "my_scores.py").write_text(
        "def closeness(model, tokenizer, scale=1.0):\n"
        "    return {'score': -scale * float(model.shared.weight.abs().mean()), 'one': 1}\n"
    )
    words = (
        "stage=interpolate",
        *CSV,
        f"checkpoints=[{first},{second}]",
        "score={_target_: my_scores.closeness, scale: 10.0}",
        "search=uniform",
        "export=mixture",
    )
    process = dfwe(folder, *words)
    assert process.returncode == 0, process.stderr
    assert "score=my_scores.closeness gives a number alone" in process.stdout + process.stderr
    shown = json.loads(Path(process.stdout.splitlines()[-1]).read_text())
    assert shown["task"] == "closeness"
    assert shown["dfwe"]["dev"] == shown["uniform"]["dev"]
    state = load_file(folder / "mixture" / "model.safetensors")
    stored = load_file(Path(shown["model_dir"]) / "model.safetensors")
    assert all(tensor.equal(stored[name]) for name, tensor in state.items())
    card = (folder / "mixture" / "README.md").read_text()
    assert "| first | 0.500000 |" in card
    assert f"`{first}`" in card
    assert 'from_pretrained("mixture")' in card
    again = dfwe(folder, *words)
    assert again.returncode == 1
    assert "mixture exists already; name a new folder for the export, or set over" in again.stderr
    assert dfwe(folder, *words, "overwrite=true").returncode == 0


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
    output = process.stdout + process.stderr
    assert output.count("other lacks 'lm_head.weight'") == 1
    assert "warning" not in output
    assert "Traceback" not in process.stderr
