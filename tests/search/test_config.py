"""What a search declares, and what is refused before anything is trained."""

import re
from functools import partial

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.baselines import uniform
from dfwe.search.config import Search
from dfwe.search.nelder_mead import cone, nelder_mead
from dfwe.search.simplex import default_evaluations, initial_alphas


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
            "search.experts=['longer', 'longer'] contains a duplicate.",
        ),
        (
            lambda: Search(cone, experts=["theta_0", "longer"]),
            "search=cone mixes task vectors from theta_0: name it last, as in "
            "search.experts=[theta_0].",
        ),
        (
            lambda: Search(nelder_mead, groups=3),
            "search.groups=3 is not a valid choice",
        ),
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


def pure_first(n):
    """As docs/search.md was read: the experts, then midpoints."""
    yield np.eye(n)
    yield np.full((1, n), 1 / n)


def opening(n):
    yield initial_alphas(n)


def listed(n):
    return [n]


def silent(n):
    return
    yield n


def other(n, *, groups=1):
    yield n + 1 if groups == 1 else n


@pytest.mark.parametrize(
    ("strategy", "groups", "sentence"),
    [
        (
            pure_first,
            None,
            r"search=pure_first asks for alphas of the shape \(3, 3\) first; a str",
        ),
        (listed, None, "search=listed gives a list where a generator is needed; write `eval"),
        (silent, None, "search=silent asks for None first; a strategy begins with `evaluations ="),
        (other, None, "search=other asks for 4 first"),
        (other, str, r"search=other asks for 3 first; .* \(with groups, `yield groups, n`\)"),
    ],
)
def test_a_strategy_that_does_not_begin_as_all_do_is_refused_at_once(strategy, groups, sentence):
    """Commit 60dbe5b: the search runs, then StopIteration."""
    with pytest.raises(UserError, match=sentence):
        Search(strategy, groups=groups).check(3)


def test_a_strategy_may_name_the_first_alphas_itself():
    Search(opening).check(3)
