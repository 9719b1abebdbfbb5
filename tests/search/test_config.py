"""What a search declares, and what is refused before anything is trained."""

import re
from functools import partial

import pytest

from dfwe.errors import UserError
from dfwe.search.baselines import uniform
from dfwe.search.config import Search
from dfwe.search.nelder_mead import cone, nelder_mead
from dfwe.search.simplex import default_evaluations


def test_what_decides_the_trials_is_all_in_the_settings():
    declared = Search(nelder_mead, screen=4, folds=5, ties="log_likelihood", shrinkage=True)
    settings = declared.settings()
    assert settings.pop("strategy")["name"] == "nelder_mead"
    assert settings == {
        "groups": None,
        "screen": 4,
        "folds": 5,
        "objective": "score",
        "ties": "log_likelihood",
        "shrinkage": True,
    }


@pytest.mark.parametrize(
    ("build", "sentence"),
    [
        (
            lambda: Search(nelder_mead, shrinkage=True),
            "search.shrinkage=true is chosen by cross-fitting; set search.folds=5.",
        ),
        (
            lambda: Search(nelder_mead, experts=["longer", "longer"]),
            "search.experts=['longer', 'longer'] names one twice.",
        ),
        (
            lambda: Search(cone, experts=["theta_0", "longer"]),
            "search=cone mixes task vectors from theta_0: name it last, as in "
            "search.experts=[theta_0].",
        ),
        (lambda: Search(nelder_mead, groups=3), "search.groups=3 is no choice of groups; "),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(build, sentence):
    with pytest.raises(UserError, match="^" + re.escape(sentence)):
        build()


def test_settings_that_fit_together_are_taken():
    assert Search(nelder_mead, shrinkage=True, folds=5).shrinkage
    assert Search(cone, experts=["longer", "theta_0"]).experts == ("longer", "theta_0")
    assert Search(partial(cone, reach=2.0), experts=["theta_0"]).experts == ("theta_0",)


def test_one_group_is_the_default_and_uniform_is_known():
    assert next(Search(nelder_mead)(3)) == 3
    assert next(Search(nelder_mead)(3, groups=2)) == (2, 3)
    assert Search(uniform).is_uniform
    assert not Search(nelder_mead).is_uniform


def test_the_default_budget_is_120_or_three_openings():
    assert [default_evaluations(n) for n in (3, 39, 40, 100)] == [120, 120, 123, 303]
