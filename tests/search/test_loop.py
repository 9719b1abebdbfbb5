"""The loop scores an alpha once, and the best fp32 trial wins."""

import logging
from collections import Counter
from functools import partial

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.baselines import dirichlet, line, single_experts, uniform
from dfwe.search.config import Search
from dfwe.search.evaluation import Evaluation
from dfwe.search.loop import _Trials, likeliest, nearest_centroid, search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.search.simplex import Outcome
from dfwe.weights.groups import matching, part


def listed(*batches, outcome=None):
    """Strategy that ask for given weights of the first of two experts."""
    for batch in batches:
        yield from_first(batch)
    return outcome


def from_first(batch):
    return np.array([[first, 1 - first] for first in batch])


def test_an_alpha_scored_before_is_answered_from_its_trial():
    scored, sent = [], []

    def strategy():
        for batch in ([[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]], [[0.5, 0.5]]):
            sent.append((yield np.array(batch)).values.tolist())

    found = search(strategy(), lambda alpha: scored.append(alpha[0]) or alpha[0])
    assert scored == [1.0, 0.5]
    assert sent == [[1.0, 0.5, 1.0], [0.5]]
    assert (found.evaluations, found.repeats) == (2, 2)


def test_zero_and_minus_zero_are_one_weight():
    found = search(listed([0.0, -0.0]), lambda alpha: alpha[1])
    assert (found.evaluations, found.repeats) == (1, 1)


def test_ties_go_to_the_likelihood_then_to_the_earlier_trial():
    log_likelihoods = {0.0: -3.0, 0.2: -1.0, 0.4: -1.0, 0.6: None}
    found = search(
        listed(log_likelihoods), lambda alpha: Evaluation(50.0, log_likelihoods[alpha[0]])
    )
    assert found.alpha.tolist() == [0.2, 0.8]
    assert found.score == 50.0


def test_a_search_by_likelihood_climbs_it_and_its_ties_go_to_the_score():
    log_likelihoods, sent = {0.0: -3.0, 0.2: -1.0, 0.4: -1.0, 0.6: None}, []

    def strategy():
        sent.append((yield from_first(log_likelihoods)).values.tolist())

    found = search(
        strategy(),
        lambda alpha: Evaluation(100 * alpha[0], log_likelihoods[alpha[0]]),
        objective="log_likelihood",
    )
    assert sent == [[-3.0, -1.0, -1.0, -np.inf]]
    assert (found.alpha[0], found.score, found.best.log_likelihood) == (0.4, 40.0, -1.0)
    assert Search(nelder_mead).settings()["objective"] == "score"
    likely = Search(nelder_mead, objective="log_likelihood")
    assert likely.settings()["objective"] == "log_likelihood"


def test_a_search_by_likelihood_needs_one():
    with pytest.raises(
        UserError, match=r"^A search by log_.* an Evaluation .* or search by score"
    ):
        search(listed([0.1, 0.4]), lambda alpha: alpha[0], objective="log_likelihood")
    with pytest.raises(UserError, match="objective=loss is unknown"):
        search(listed([0.1]), lambda alpha: alpha[0], objective="loss")
    with pytest.raises(
        UserError, match=r"search\.objective=loss should be 'score' or 'log_likelihood'"
    ):
        Search(nelder_mead, objective="loss")


def test_only_an_fp32_trial_can_win():
    def score(alpha):
        return Evaluation(100 * alpha[0], precision="bf16" if alpha[0] > 0.5 else "fp32")

    assert search(listed([0.1, 0.4, 0.9]), score).alpha[0] == 0.4


def shifted(alpha):
    """A screen that is wrong by ten points, and most of all where the first weight is largest."""
    return Evaluation(100 * alpha[0] - 10 + 30 * (alpha[0] > 0.8), precision="bf16")


def test_a_screen_steers_and_the_best_are_scored_again():
    sent = []

    def strategy():
        for batch in ([0.1, 0.5], [0.2, 0.7, 0.9], [0.6]):
            sent.append((yield np.array([[first, 1 - first] for first in batch])).values.tolist())

    def score(alpha):
        return Evaluation(0.0 if alpha[0] > 0.8 else 100 * alpha[0])

    found = search(strategy(), score, screen=shifted, top=2)
    assert sent == [[10.0, 50.0], [pytest.approx(v) for v in (10.0, 60.0, 110.0)], [50.0]]
    rows = [(trial.precision, trial.alpha[0], trial.score) for trial in found.trials[-2:]]
    assert rows == [("fp32", 0.9, 0.0), ("fp32", 0.7, pytest.approx(70.0))]
    assert (found.best.index, found.best.precision) == (7, "fp32")
    assert [trial.precision for trial in found.trials] == ["fp32"] * 2 + ["bf16"] * 4 + [
        "fp32"
    ] * 2


def test_what_the_proposals_settle_on_is_scored_again():
    chosen = Outcome(candidates=np.array([[0.2, 0.8]]))
    found = search(
        listed([0.1], [0.2, 0.9], outcome=chosen), lambda alpha: alpha[0], screen=shifted, top=1
    )
    assert (found.score, found.best.precision) == (0.2, "fp32")


def test_a_screen_that_says_nothing_of_its_precision_cannot_win():
    found = search(
        nelder_mead(3), lambda alpha: 10 * alpha[0], screen=lambda alpha: 100 * alpha[2]
    )
    assert (found.best.precision, found.score) == ("fp32", 10.0)
    assert {trial.precision for trial in found.trials} == {"fp32", "screen"}


def test_a_score_may_change_the_alpha_it_is_given():
    def score(alpha):
        first = float(alpha[0])
        alpha /= 2
        return first

    assert search(nelder_mead(2), score).alpha.tolist() == [1.0, 0.0]


def test_a_search_takes_a_strategy_of_at_least_one_expert():
    with pytest.raises(UserError, match=r"^search takes what .*search\(nelder_mead\(n\), score\)"):
        search(nelder_mead, len)
    with pytest.raises(UserError, match="n=0 must be"):
        search(nelder_mead(0), len)
    with pytest.raises(UserError, match="shrink=nan should be a finite number"):
        search(nelder_mead(2, shrink=float("nan")), len)


def test_screening_is_part_of_a_searchs_settings():
    assert Search(nelder_mead).settings()["screen"] is None
    assert Search(nelder_mead, screen=3).settings()["screen"] == 3
    with pytest.raises(UserError, match=r"search\.screen=0"):
        Search(nelder_mead, screen=0)


def test_folds_are_part_of_a_searchs_settings():
    assert Search(nelder_mead).settings()["folds"] is None
    assert Search(nelder_mead, folds=5).settings()["folds"] == 5
    with pytest.raises(UserError, match=r"search\.folds=1 should be greater than or equal to 2"):
        Search(nelder_mead, folds=1)


def test_a_method_may_settle_on_another_than_the_best():
    chosen = Outcome(iterations=3, candidates=np.array([[0.25, 0.75]]))
    found = search(listed([0.25, 0.9], outcome=chosen), lambda alpha: alpha[0])
    assert (found.score, found.iterations) == (0.25, 3)


@pytest.mark.parametrize("strategy", [single_experts, partial(line, start=0, end=2, points=3)])
def test_a_method_that_settles_among_equals_takes_the_likelier(strategy):
    found = search(strategy(3), lambda alpha: Evaluation(50.0, log_likelihood=float(alpha[2])))
    assert found.alpha.tolist() == [0.0, 0.0, 1.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, ValueError("broken"), None])
def test_a_failing_candidate_counts_as_the_worst(bad):
    sent = []

    def strategy():
        sent.append((yield np.array([[1.0, 0.0], [0.0, 1.0]])).values)

    def score(alpha):
        if alpha[0] == 1.0:
            return fail(bad)
        return -1e6

    found = search(strategy(), score)
    assert sent[0].tolist() == [-np.inf, -1e6]
    assert found.trials[0].score is None
    assert found.trials[0].error
    assert found.alpha.tolist() == [0.0, 1.0]


def fail(bad):
    if isinstance(bad, Exception):
        raise bad
    return bad


@pytest.mark.parametrize("error", [UserError, MemoryError, KeyboardInterrupt])
def test_what_ends_a_search_is_not_taken_for_a_candidate(error):
    with pytest.raises(error):
        search(nelder_mead(3), lambda alpha: fail_with(error))


def fail_with(error):
    raise error


def test_when_nothing_can_be_scored_the_first_batch_ends_the_search():
    tried = []

    def score(alpha):
        tried.append(alpha)
        raise RuntimeError("no weights")

    with pytest.raises(UserError, match="RuntimeError: no weights"):
        search(nelder_mead(5), score)
    assert len(tried) == 2 * 6


def test_an_expert_that_cannot_be_scored_is_named():
    def score(alpha):
        return fail(ValueError("no head")) if alpha[1] == 1.0 else float(alpha[0])

    with pytest.raises(
        UserError, match=r"^Expert 'meld' cannot be scored \(ValueError: no head\)"
    ):
        search(nelder_mead(3), score, labels=["emory", "meld", "qa"])
    with pytest.raises(UserError, match="Expert number 2 cannot be scored"):
        search(nelder_mead(3, groups=2), lambda alpha: score(alpha[0]))


def test_an_average_that_cannot_be_scored_counts_as_the_worst_and_is_no_result():
    def score(alpha):
        return float("nan") if alpha[0] == alpha[1] else float(alpha[0])

    assert search(nelder_mead(2), score).failed == (2,)
    with pytest.raises(UserError, match=r"settles on could not be scored \(the score is nan\)"):
        search(uniform(2), score)


def test_a_candidate_that_fails_once_is_tried_again(caplog):
    tried = Counter()

    def score(alpha):
        tried[alpha.tobytes()] += 1
        if tried[alpha.tobytes()] == 1 and alpha[1] == 0.5:
            raise RuntimeError("lost connection")
        return float(alpha[0])

    found = search(listed([0.25, 0.5, 0.75]), score)
    assert [trial.score for trial in found.trials] == [0.25, 0.5, 0.75]
    assert (sorted(tried.values()), found.failed) == ([1, 1, 2], ())
    assert "Candidate 1 failed (RuntimeError: lost connection); it is tried again" in caplog.text


@pytest.mark.parametrize("together", [True, False])
def test_a_trial_costs_the_same_however_many_there_were(together, monkeypatch):
    compared, key = [], _Trials.key
    monkeypatch.setattr(
        _Trials, "key", lambda trials, trial: compared.append(0) or key(trials, trial)
    )
    batch = np.linspace(0, 1, 2000)
    strategy = listed(batch) if together else listed(*batch[:, None])
    search(strategy, lambda alpha: alpha[0], on_trial=lambda trial, best: None)
    assert len(compared) <= 3 * len(batch)


def test_no_proposals_are_the_users_mistake():
    with pytest.raises(UserError, match=r"\(nothing was proposed\)"):
        search(listed(), float)


def test_any_map_gives_the_same_result_and_each_trial_is_followed():
    def backwards(function, *columns):
        rows = list(zip(*columns, strict=True))
        return [function(*row) for row in reversed(rows)][::-1]

    plain, followed = [], []
    first = search(
        dirichlet(4, evaluations=40),
        lambda a: a[0] * a[1],
        on_trial=lambda trial, best: plain.append((trial.index, best.value)),
    )
    other = search(
        dirichlet(4, evaluations=40),
        lambda a: a[0] * a[1],
        map=backwards,
        on_trial=lambda trial, best: followed.append((trial.index, best.value)),
    )
    assert plain == followed
    assert [index for index, _ in plain] == list(range(40))
    assert plain[-1][1] == first.score == other.score
    assert np.all(np.diff([best for _, best in plain]) >= 0)


def test_a_high_share_of_repeats_is_told(caplog):
    with caplog.at_level(logging.WARNING):
        search(listed([0.1, 0.2, 0.3], [0.1, 0.2]), lambda alpha: alpha[0])
    assert "2 of 5 proposals had been scored before" in caplog.text


def test_steps_below_the_resolution_are_told(caplog):
    with caplog.at_level(logging.WARNING):
        search(nelder_mead(3), lambda alpha: round(alpha[0]))
    assert "The last 12 candidates all scored 1.00" in caplog.text


@pytest.mark.parametrize(("trials", "warned"), [(12, False), (13, True)])
def test_equal_scores_are_told_once_there_are_more_than_twelve(trials, warned, caplog):
    batch = np.linspace(0, 1, trials)
    with caplog.at_level(logging.WARNING):
        search(listed(batch), lambda alpha: 50.0)
    assert ("The last 12 candidates all scored 50.00" in caplog.text) is warned


@pytest.mark.parametrize(("objective", "sent"), [("score", True), ("log_likelihood", False)])
def test_steps_are_those_of_what_is_climbed(objective, sent, caplog):
    with caplog.at_level(logging.WARNING):
        search(
            nelder_mead(3),
            lambda alpha: Evaluation(50.0, -float(np.ptp(alpha))),
            objective=objective,
        )
    assert ("all scored 50.00" in caplog.text) is sent


def test_a_search_that_moves_warns_of_nothing(caplog):
    with caplog.at_level(logging.WARNING):
        search(nelder_mead(4), lambda alpha: -float(np.sum((alpha - 0.25) ** 2)))
    assert not caplog.records


def test_settings_name_the_proposals_and_what_they_are_given():
    declared = Search(partial(nelder_mead, evaluations=60, shrink=0.4))
    arguments = {
        "evaluations": 60,
        "iterations": 40,
        "start": "best",
        "shrink": 0.4,
        "leave_out": False,
        "groups": 1,
    }
    strategy = {"name": "nelder_mead", "version": 1, "arguments": arguments}
    assert declared.settings()["strategy"] == strategy
    spelled_out = Search(partial(nelder_mead, evaluations=None, iterations=40))
    assert spelled_out.settings() == Search(nelder_mead).settings()
    assert declared.evaluations(5) == 60
    assert search(declared(5), lambda alpha: float(np.cos(9 * alpha).sum())).evaluations <= 60


def test_groups_are_part_of_the_settings_and_reach_the_proposals():
    declared = Search(partial(nelder_mead, evaluations=40), groups=partial(part))
    assert declared.settings()["groups"]["name"] == "part"
    found = search(declared(3, groups=2), lambda alpha: -float(np.ptp(alpha)))
    assert found.alpha.shape == (2, 3)
    orders = [{"a": ["x*"], "b": ["*"]}, {"b": ["*"], "a": ["x*"]}]
    first, second = (
        Search(nelder_mead, partial(matching, patterns=order)).settings()["groups"]
        for order in orders
    )
    assert first["arguments"]["patterns"] == [["a", ["x*"]], ["b", ["*"]]]
    assert first != second


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"evaluations": "ten"}, "evaluations=ten should be a valid integer"),
        ({"shrink": "little"}, "shrink=little should be a valid number"),
        ({"shrink": 2.0}, "shrink=2.0 should be less than or equal to 1"),
        ({"start": "middle"}, "start=middle should be 'best', 'centroid' or 'noise'"),
        ({"stop": 3}, "search.strategy.stop= is not known"),
    ],
)
def test_a_setting_out_of_its_type_or_range_is_refused_when_it_is_declared(wrong, sentence):
    with pytest.raises(UserError, match=sentence):
        Search(partial(nelder_mead, **wrong))


def test_nelder_mead_refuses_the_same_without_a_configuration():
    with pytest.raises(UserError, match="start=middle should be 'best', 'centroid' or 'noise'"):
        next(nelder_mead(3, start="middle"))


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (Search(partial(line, end=5)), "cannot end at 5"),
        (Search(line, groups=partial(part)), "gives all parameters one alpha"),
    ],
)
def test_what_a_strategy_refuses_is_refused_without_a_score(declared, sentence):
    with pytest.raises(UserError, match=sentence):
        declared.check(4)


def test_groups_are_chosen_as_a_config_group():
    with pytest.raises(UserError, match="search/groups=part"):
        Search(nelder_mead, groups="part")


def test_proposals_without_groups_say_so():
    with pytest.raises(UserError, match=r"search=line gives all parameters one alpha"):
        Search(partial(line, points=5))(3, groups=2)


@pytest.mark.parametrize(
    ("error", "nearest", "likely"), [(0.0, 0.9, 0.9), (0.5, 0.4, 0.9), (2.0, 0.4, 0.0)]
)
def test_within_an_error_the_nearest_to_the_average_or_the_likeliest_is_chosen(
    error, nearest, likely
):
    scores = {0.0: 49.0, 0.4: 50.5, 0.5: 48.0, 0.9: 51.0}
    likelihoods = {0.0: -1.0, 0.4: -3.0, 0.5: -0.5, 0.9: -2.0}
    result = search(
        listed(scores), lambda alpha: Evaluation(scores[alpha[0]], likelihoods[alpha[0]])
    )
    close = result.within([error] * 4)
    assert nearest_centroid(close).alpha[0] == nearest
    assert likeliest(close).alpha[0] == likely


def test_each_trial_is_measured_by_its_own_error():
    scores = {0.0: 49.0, 0.4: 50.5, 0.9: 51.0}
    result = search(listed(scores), lambda alpha: scores[alpha[0]])
    assert [trial.alpha[0] for trial in result.within([2.0, 0.1, 0.0])] == [0.0, 0.9]


@pytest.mark.parametrize("ties", ["none", "log_likelihood"])
def test_ties_are_sent_to_the_strategy_in_the_order_of_likelihood(ties):
    """A difference in likelihood orders equal scores and no others.

    Commit 60dbe5b: the score alone is sent, and equal trials are ties.
    """
    likelihoods = {0.0: -1.0, 0.4: -3.0, 1.0: -9.0}
    scores = {0.0: 50.0, 0.4: 50.0, 1.0: 50.02}  # one of 5,000 answers more
    values = []

    def strategy():
        values.extend((yield from_first(scores)).values.tolist())

    search(
        strategy(), lambda alpha: Evaluation(scores[alpha[0]], likelihoods[alpha[0]]), ties=ties
    )
    assert values[2] > max(values[:2])
    if ties == "none":
        assert values[:2] == [50.0, 50.0]
    else:
        assert values[0] > values[1]
    with pytest.raises(UserError, match=r"^ties=score is unknown"):
        search(strategy(), lambda alpha: 0.0, ties="score")
