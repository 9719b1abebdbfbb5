"""The Python of docs/checkpoints.md runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

from dfwe.weights.loading import load, save
from dfwe.weights.space import WeightSpace

PAGE = (Path(__file__).parents[2] / "docs/checkpoints.md").read_text()
BLOCKS = [
    code for code in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "search(" in code
]


@pytest.fixture
def folder(tmp_path, monkeypatch, make_network, tokenizer):
    """A working directory with the checkpoints that the page names."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("a", "b", "base")):
        save(make_network(seed), tokenizer, tmp_path / "models" / name)
    return tmp_path


def run(code):
    """The names that a block leaves, with a score that falls with the weights' size."""
    model, _ = load("models/a")

    def size(network):
        with torch.no_grad():
            return float(sum(parameter.abs().mean() for parameter in network.parameters()))

    names = {"model": model, "evaluate": lambda m: (-size(m), 0.0), "accuracy_on_dev": size}
    exec(code, names)
    return names


def test_a_grouped_search_has_a_ledger(folder):
    (code,) = (code for code in BLOCKS if "grouped" in code)
    best = run(code)["best"]
    assert best.alpha.shape == (len(best.weights), 2)
    assert (folder / "trials.jsonl").is_file()


def test_the_scale_of_a_merge_is_searched_and_exported(folder):
    (code,) = (code for code in BLOCKS if "ties(" in code)
    names = run(code)
    assert names["best"].evaluations == 26  # t = 0.5 is the average of the two
    assert names["best"].score == max(trial.score for trial in names["best"].trials)
    exported = WeightSpace.from_pretrained("merged").rows[0]
    assert exported.equal(names["line"].at(names["best"].alpha))
