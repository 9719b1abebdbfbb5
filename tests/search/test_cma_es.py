"""CMA-ES: its first draws, its batches, its end; the package `cma` is its reference."""

import sys

import numpy as np
import pytest
from scipy.special import softmax

from dfwe.errors import UserError
from dfwe.search.cma_es import cma_es
from dfwe.search.evaluation import Evaluations
from dfwe.search.loop import search

BEST = np.array([0.45, 0.25, 0.3])


def bowl(alpha):
    return -float(np.sum((alpha - BEST) ** 2))


@pytest.mark.parametrize("groups", [1, 2])
def test_the_first_batch_is_normal_around_the_average(groups):
    strategy = cma_es(3, groups=groups)
    next(strategy)
    alphas = strategy.send(Evaluations((), np.zeros(4)))
    assert len(alphas) == 4 + int(3 * np.log(3 * groups))
    z = np.random.default_rng(0).standard_normal((len(alphas), 3 * groups))
    z = z.reshape(alphas.shape)
    np.testing.assert_allclose(alphas, softmax(z, axis=-1), atol=1e-4)


def test_it_converges():
    assert np.abs(search(cma_es(3, evaluations=400), bowl).alpha - BEST).max() < 1e-4


def test_failed_candidates_drive_it_away():
    def score(alpha):
        return np.nan if 0.35 < alpha[0] < 0.9 else bowl(alpha)

    found = search(cma_es(3, evaluations=400), score)
    assert found.alpha[0] == pytest.approx(0.35, abs=1e-2)
    assert found.alpha[1] == pytest.approx(0.3, abs=1e-2)  # by Lagrange: 0.25 + 0.1 / 2


@pytest.mark.parametrize(("n", "opening"), [(2, 3), (3, 4)])
def test_its_batches_fill_the_budget_and_are_counted(n, opening):
    def score(alpha):
        return float(alpha[0] * alpha[1])

    found = search(cma_es(n, evaluations=opening + 8, population=4), score)
    assert (found.evaluations, found.iterations) == (opening + 8, 2)
    fewer = search(cma_es(n, evaluations=opening + 7, population=4), score)
    assert (fewer.evaluations, fewer.iterations) == (opening + 4, 1)


def test_one_expert_has_its_shape_and_no_search():
    assert next(cma_es(1, groups=2)) == (2, 1)
    found = search(cma_es(1), lambda alpha: 1.0)
    assert (found.evaluations, found.iterations) == (1, 0)


@pytest.mark.parametrize(("evaluations", "population"), [(4, None), (10, None), (30, 40)])
def test_a_budget_below_one_population_is_told(evaluations, population, caplog):
    found = search(cma_es(4, evaluations=evaluations, population=population), lambda a: a[0])
    assert (found.evaluations, found.iterations) == (5, 0)
    size = 8 if population is None else population  # 4 + floor(3 ln 4)
    assert f"A population of CMA-ES needs {size} evaluations, but only" in caplog.text


def test_it_prints_nothing(capsys):
    search(cma_es(3, evaluations=40), bowl)
    assert capsys.readouterr().out == ""


def test_without_its_package_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cma", None)
    with pytest.raises(UserError, match=r"^search=cma_es needs the package cma.*pip install cma"):
        next(cma_es(3))
