"""What a search returns: its best, what that is the best of, what is scored again, drawn in."""

import logging
from types import SimpleNamespace

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.baselines import single_experts
from dfwe.search.evaluation import Answers, Evaluation, Trial
from dfwe.search.loop import likeliest, nearest_centroid, search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.search.simplex import Outcome, toward_centroid


def proposing(*batches, candidates=None):
    """A strategy that asks for given alphas."""
    for batch in batches:
        yield np.array(batch)
    return None if candidates is None else Outcome(candidates=np.array(candidates))


def trial(alpha, score, log_likelihood=None):
    return Trial(score, log_likelihood, index=0, alpha=np.array(alpha))


def test_the_nearest_to_the_average_is_by_distance_and_of_equals_the_best():
    trials = [
        trial([1.0, 0.0, 0.0], 9.0),
        trial([0.5, 0.25, 0.25], 1.0),
        trial([0.25, 0.5, 0.25], 3.0),
        trial([0.25, 0.25, 0.5], 2.0),
        trial([0.5, 0.5, 0.0], 8.0),
    ]
    assert nearest_centroid(trials) is trials[2]


def test_a_trial_without_a_likelihood_is_not_the_likeliest():
    trials = [trial([1.0], 9.0), trial([1.0], 1.0, -5.0), trial([1.0], 2.0, -5.0)]
    assert likeliest(trials) is trials[2]


def test_the_best_is_the_best_of_its_candidates_which_were_scored():
    def score(alpha):
        return np.nan if alpha[0] == 0.75 else float(alpha[0])

    alphas = [[first, 1 - first] for first in (0.25, 0.5, 0.75, 0.125)]
    every = search(proposing(alphas), score)
    assert [t.index for t in every.candidates] == [0, 1, 3]
    some = search(proposing(alphas, candidates=[alphas[2], alphas[3], alphas[0]]), score)
    assert [t.index for t in some.candidates] == [0, 3]
    assert some.alpha.tolist() == alphas[0]


def screen(alpha):
    return Evaluation(float(alpha[1]), precision="bf16")


def test_five_screened_candidates_are_scored_again_and_the_others_are_no_candidates():
    alphas = [[1 - second, second] for second in np.linspace(0.1, 0.9, 9)]
    found = search(proposing(alphas[:1], alphas[1:]), lambda a: a[0] - 9, screen=screen)
    assert [t.precision for t in found.trials] == ["fp32"] + ["bf16"] * 8 + ["fp32"] * 5
    assert [t.alpha.tolist() for t in found.trials[9:]] == alphas[:3:-1]
    assert [t.index for t in found.candidates] == [0, 9, 10, 11, 12, 13]


def test_what_was_scored_exactly_is_not_scored_again():
    alphas = [[0.1, 0.9], [0.3, 0.7]]
    exact = search(proposing(alphas[:1], alphas[1:]), lambda a: float(a[1]), screen=screen, top=2)
    assert [t.alpha[1] for t in exact.trials] == [0.9, 0.7, 0.7]


def test_a_candidate_that_the_screen_could_not_score_is_scored_again_last():
    def failing(alpha):
        return Evaluation(None, 0.0, precision="bf16") if alpha[0] == 0.5 else screen(alpha)

    alphas = [[0.5, 0.5], [0.4, 0.6]]
    for objective in ("score", "log_likelihood"):
        found = search(
            proposing([[0.9, 0.1]], alphas),
            lambda a: Evaluation(float(a[1]), -1.0),
            screen=failing,
            top=3,
            objective=objective,
        )
        assert [t.alpha[0] for t in found.trials[3:]] == [0.4, 0.5]


@pytest.mark.parametrize("dtype", [np.float32, int])
def test_numbers_of_any_type_are_taken_in_double_precision(dtype):
    alphas = np.eye(2, dtype=dtype)
    sent = []

    def strategy():
        yield alphas
        sent.append((yield np.asfortranarray(alphas)).values.tolist())
        return Outcome(candidates=alphas)

    found = search(strategy(), lambda alpha: float(alpha[0]))
    assert [t.alpha.dtype for t in found.trials] == [np.float64] * 2
    assert sent == [[1.0, 0.0]]
    assert (found.repeats, found.alpha.tolist()) == (2, [1.0, 0.0])


def test_a_score_may_come_with_what_it_rests_on():
    answers = Answers(("yes",), (-0.5,))
    scores = SimpleNamespace(
        score=60.0, metrics={"f1": 50.0}, log_likelihood=-0.5, answers=answers
    )
    best = search(proposing([[1.0]]), lambda alpha: scores).best
    assert (best.score, best.log_likelihood, best.metrics) == (60.0, -0.5, {"f1": 50.0})
    assert best.answers is answers


def test_a_missing_score_has_its_reason():
    reasons = [None, "no memory", None]
    alphas = [[0.25, 0.75], [0.5, 0.5], [0.75, 0.25]]

    def score(alpha):
        k = alphas.index(alpha.tolist())
        return Evaluation(1.0) if k == 2 else Evaluation(None, error=reasons[k])

    found = search(proposing(alphas), score)
    assert [t.error for t in found.trials] == ["the score is None", "no memory", None]


def test_the_first_reason_is_the_one_that_is_named():
    def score(alpha):
        raise RuntimeError("first" if alpha[0] == 0.25 else "second")

    sentence = r"^None of the 2 candidates could be scored \(RuntimeError: first\); fix that"
    with pytest.raises(UserError, match=sentence):
        search(proposing([[0.25, 0.75], [0.5, 0.5]]), score)


@pytest.mark.parametrize(("repeats", "warned"), [(1, False), (2, True)])
def test_more_than_a_quarter_of_repeats_is_many(repeats, warned, caplog):
    alphas = [[first, 1 - first] for first in (0.25, 0.5, 0.75)]
    with caplog.at_level(logging.WARNING):
        search(proposing(alphas, alphas[:repeats]), lambda alpha: float(alpha[0]))
    messages = [record.getMessage() for record in caplog.records]
    assert [message.startswith("2 of 5 proposals") for message in messages] == [True] * warned


@pytest.mark.parametrize("shape", [(3,), (2, 3)])
def test_a_share_of_the_average_is_a_share_of_each_group(shape):
    alpha = np.broadcast_to([0.5, 0.3, 0.2], shape)
    drawn = np.broadcast_to([0.425, 0.315, 0.26], shape)  # 0.55 * 0.5 + 0.45 / 3, ...
    np.testing.assert_allclose(toward_centroid(alpha, 0.45), drawn)


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_shrunk_search_ends_at_its_best_drawn_in(share):
    def score(alpha):
        return -float(np.sum((alpha - [0.7, 0.2, 0.1]) ** 2))

    plain = search(nelder_mead(3, evaluations=30), score)
    drawn = search(nelder_mead(3, evaluations=30), score, shrinkage=share)
    np.testing.assert_allclose(drawn.alpha, (1 - share) * plain.alpha + share / 3)
    assert drawn.iterations == plain.iterations
    best = search(single_experts(3), score, shrinkage=share)
    np.testing.assert_allclose(best.alpha, (1 - share) * np.eye(3)[0] + share / 3)


def test_what_is_drawn_in_is_the_best_by_the_objective():
    """Expert 0 has the best score, expert 1 the best likelihood."""

    def score(alpha):
        return Evaluation(float(alpha[0]), float(alpha[1]))

    result = search(single_experts(3), score, objective="log_likelihood", shrinkage=0.5)
    np.testing.assert_allclose(result.alpha, 0.5 * np.eye(3)[1] + 0.5 / 3)


def test_the_best_alpha_is_read_by_name():
    def score(alpha):
        return float(alpha[..., 0].mean())

    named = search(single_experts(2), score, labels=["a", "b"])
    assert named.weights == {"a": 1.0, "b": 0.0}
    assert search(single_experts(2), score).weights == {"0": 1.0, "1": 0.0}
    grouped = search(single_experts(2, groups=2), score, labels=["a", "b"]).weights
    assert grouped == {"0": {"a": 1.0, "b": 0.0}, "1": {"a": 1.0, "b": 0.0}}
