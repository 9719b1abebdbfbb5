"""The table of evaluations that a search needs for what another one ends with."""

import pytest
from unfinished import unfinished

from dfwe.errors import UserError
from dfwe.reporting.results import DfweResult, ExpertResult, ModelScores
from dfwe.search.ledger import Ledger
from dfwe.search.loop import search
from evaluations_to_reach import row


def run(folder, scores, address="a", remark=None):
    """A run whose trials have these scores."""
    folder.mkdir()
    left = iter(scores)
    n = 2

    def strategy():
        yield n
        for k in range(len(scores) - 3):
            yield [[0.1 + 0.1 * k, 0.9 - 0.1 * k]]

    search(strategy(), lambda alpha: next(left), ledger=Ledger(folder / "trials.jsonl"))
    experts = [ExpertResult(dev=1.0, test=None, label=x, address=address + x) for x in "xy"]
    none = ModelScores(dev=None, test=None)
    unfinished(
        task="mood",
        model="tiny",
        corpus="toy",
        sources=[],
        experts=experts,
        baseline=none,
        uniform=none,
        dfwe=DfweResult(
            dev=max(scores),
            test=None,
            alpha=None,
            evaluations=None,
            iterations=None,
            remark=remark,
        ),
    ).write(folder / "results.json")
    return folder


@pytest.mark.parametrize(
    ("scores", "cells"),
    [
        ([1.0, 2, 3, 5, 7], ["5", "7.00", "5"]),
        ([1.0, 6, 3, 5], ["2", "6.00", "4"]),
        ([1.0, 2, 3], ["not reached", "3.00", "3"]),
    ],
)
def test_the_first_trial_as_good_as_the_references_best_is_counted(tmp_path, scores, cells):
    reference = run(tmp_path / "nm", [1.0, 2, 3, 4, 6, 5])
    other = run(tmp_path / "other", scores, remark="Well.")
    assert row(reference, other) == ["mood, 3", "2", "6", "6.00", "other", *cells, "Well."]


def test_runs_of_other_experts_are_refused(tmp_path):
    runs = [run(tmp_path / name, [1.0, 2, 3], name) for name in "ab"]
    with pytest.raises(UserError, match="mix other experts"):
        row(*runs)
