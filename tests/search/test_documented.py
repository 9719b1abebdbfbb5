"""The strategy of docs/search.md runs, in Python and as a configuration names it."""

import re
from pathlib import Path

import numpy as np
import pytest

from dfwe.search import search
from dfwe.search.config import Search

PAGE = (Path(__file__).parents[2] / "docs/search.md").read_text()


@pytest.fixture
def midpoints():
    (code,) = re.findall(r"```python\n# my_search.py\n(.*?)```", PAGE, re.DOTALL)
    assert len(code.split("\n")) < 13
    module = {}
    exec(code, module)
    return module["midpoints"]


def test_the_ten_lines_are_a_strategy(midpoints):
    target = np.array([0.5, 0.0, 0.5])
    best = search(midpoints(3), lambda alpha: -float(np.abs(alpha - target).sum()))
    assert best.alpha.tolist() == target.tolist()
    assert best.evaluations == 4 + 2
    Search(midpoints).check(3)
