"""What `import dfwe` offers: five lines from checkpoints to the best mixture."""

import subprocess
import sys
from importlib.metadata import version

import numpy as np
import pytest
import torch

import dfwe
from dfwe.search import nelder_mead, search


def test_importing_the_package_and_its_search_loads_no_torch():
    code = (
        "import sys, dfwe\n"
        "light = {'torch', 'numpy', 'transformers'} & set(sys.modules)\n"
        "from dfwe import WeightSpace\n"
        "from dfwe.search import nelder_mead, search\n"
        "heavy = {'torch', 'transformers', 'lightning'} & set(sys.modules)\n"
        "sys.exit(f'imported {light | heavy}' if light | heavy else 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("name", dfwe.__all__)
def test_every_name_is_there(name):
    assert getattr(dfwe, name).__name__ == name
    assert name in dir(dfwe)


def test_the_version_is_the_installed_one():
    assert dfwe.__version__ == version("dfwe")


def test_a_users_mistake_is_a_value_error():
    space = dfwe.WeightSpace.from_modules([torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)])
    with pytest.raises(ValueError, match="2 experts need"):
        space.write([1.0, 0.0, 0.0], torch.nn.Linear(2, 1))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No dfwe attribute serch"):
        dfwe.serch  # noqa: B018


def test_a_search_over_any_module_finds_the_best_mixture():
    """Linear regression: experts know one coefficient each, the truth is their mixture."""
    truth = torch.tensor([[0.2, 0.5, 0.3]])
    experts = [torch.nn.Linear(3, 1, bias=False) for _ in range(3)]
    for row, expert in zip(torch.eye(3), experts, strict=True):
        expert.weight.data = row[None].clone()
    space = dfwe.WeightSpace.from_modules(experts, labels=["a", "b", "c"])
    module = torch.nn.Linear(3, 1, bias=False)
    inputs = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))

    def score(alpha):
        space.write(alpha, module)
        with torch.no_grad():
            return -float((module(inputs) - inputs @ truth.T).square().mean())

    best = search(nelder_mead(space.n), score)
    np.testing.assert_allclose(best.alpha, [0.2, 0.5, 0.3], atol=0.02)
    assert best.score == max(trial.score for trial in best.trials)
    assert best.score == score(best.alpha)
