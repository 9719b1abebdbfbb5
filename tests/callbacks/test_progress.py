"""The bars on the terminal."""

import numpy as np

from dfwe.callbacks.progress import search_bar
from dfwe.search.evaluation import Trial


def test_a_search_that_ended_before_its_cap_fills_its_bar(capsys):
    alpha = np.array([1.0])
    trials = [Trial(score, index=k, alpha=alpha) for k, score in enumerate((40.0, 42.5))]
    with search_bar("search emory", 9) as follow:
        for trial in trials:
            follow(trial, trial)
        follow(trials[0], trials[0], "without fold 0")
    lines = capsys.readouterr().err.splitlines()
    assert any(
        "search emory" in line and "2/2" in line and "best dev 42.50" in line for line in lines
    )
    assert any("without fold 0" in line and "1/1" in line for line in lines)
