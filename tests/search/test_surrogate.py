"""The surrogate: a quadratic model of every option's log-likelihood proposes what is measured."""

import json
import re
from functools import partial
from itertools import combinations

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import Ledger
from dfwe.search.loop import search
from dfwe.search.nelder_mead import best_simplex, nelder_mead
from dfwe.search.surrogate import PredictedLogits, surrogate
from landscapes import RightOrWrong, landscape

OPTIONS = 3


@pytest.fixture
def rng():
    """The same draws for a test, whichever ran before it."""
    return np.random.default_rng(0)


class Plain:
    """Options named 0, 1, 2; the first is right."""

    def chosen(self, texts):
        return np.array(list(map(int, texts)))

    def smoothed(self, logits, temperature):
        shares = np.exp((logits - logits.max(-1, keepdims=True)) / temperature)
        return 100 * (shares[..., 0] / shares.sum(-1)).mean(1)


def evaluation(logits):
    """Of a model with these logits, (examples, options)."""
    texts = [str(k) for k in logits.argmax(1)]
    right = float((logits.argmax(1) == 0).mean())
    answers = Answers(tuple(texts), (0.0,) * len(texts), tuple(map(tuple, logits.tolist())))
    return Evaluation(100 * right, answers=answers)


def pairs(n):
    return list(combinations(range(n), 2))


def quadratic(z, c, alpha):
    """By the formula, with loops."""
    total = sum(a * row for a, row in zip(alpha, z, strict=True))
    for k, (i, j) in enumerate(pairs(len(alpha))):
        total = total + alpha[i] * alpha[j] * c[k]
    return total


def centred(logits):
    return logits - logits.mean(-1, keepdims=True)


def opened(n):
    """What the search measures first: experts, average, midpoints."""
    middles = [(np.eye(n)[i] + np.eye(n)[j]) / 2 for i, j in pairs(n)]
    return np.concatenate([np.eye(n), *([np.full((1, n), 1 / n)] if n > 2 else []), middles])


@pytest.mark.parametrize("n", [2, 5])
def test_logits_that_are_quadratic_are_predicted_exactly_behind_the_opening(n, rng):
    z, c = rng.normal(size=(n, 200, OPTIONS)), rng.normal(size=(len(pairs(n)), 200, OPTIONS))
    first, new = opened(n), rng.dirichlet(np.ones(n), 100)
    logits = np.stack([quadratic(z, c, alpha) for alpha in (*first, *new)])
    predicted, _ = PredictedLogits(first, logits[: len(first)])(new)
    expected = centred(logits[len(first) :])
    np.testing.assert_allclose(predicted, expected, atol=3e-3)
    assert (predicted.argmax(-1) != expected.argmax(-1)).mean() < 1e-3


def covariance(first, second):
    """Of two alphas, by the formula; the rest's is scikit-learn's Matern kernel."""
    from sklearn.gaussian_process.kernels import Matern

    products = [first[i] * first[j] * second[i] * second[j] for i, j in pairs(len(first))]
    rest = Matern(length_scale=0.5, nu=2.5)(first[None], second[None])[0, 0]
    return 1e4 * first @ second + 1e3 * sum(products) + rest


def conditioned(alphas, values, alpha):
    """The normal distribution's mean and variance at an alpha, given values at others."""
    known = np.array([[covariance(a, b) for b in alphas] for a in alphas])
    near = np.array([covariance(alpha, a) for a in alphas])
    part = np.linalg.solve(known + 1e-6 * np.eye(len(alphas)), near)
    return np.tensordot(part, values, 1), covariance(alpha, alpha) - part @ near


@pytest.mark.parametrize(("n", "trials"), [(3, 12), (8, 14)])
def test_the_prediction_is_that_of_a_gaussian_process_scaled_by_leaving_trials_out(n, trials, rng):
    """By its definition, one trial left out after the other; also with fewer trials than
    coefficients."""
    alphas = np.concatenate([np.eye(n), rng.dirichlet(np.ones(n), trials - n)])
    logits, new = rng.normal(size=(trials, 4, OPTIONS)), rng.dirichlet(np.ones(n), 5)
    values = centred(logits)
    errors = []
    for place in range(trials):
        others = np.arange(trials) != place
        mean, variance = conditioned(alphas[others], values[others], alphas[place])
        errors.append((values[place] - mean) ** 2 / (variance + 1e-6))
    predicted, deviations = PredictedLogits(alphas, logits)(new)
    for alpha, ours, deviation in zip(new, predicted, deviations, strict=True):
        mean, variance = conditioned(alphas, values, alpha)
        np.testing.assert_allclose(ours, mean, atol=1e-4)
        assert deviation == pytest.approx(np.sqrt(np.mean(errors) * variance), rel=1e-3)


def test_alphas_of_which_too_many_answers_may_be_predicted_wrongly_are_not_proposed(rng):
    """The expected share, by drawing logits of two options from what is predicted of them."""
    alphas, logits = opened(3), rng.normal(size=(7, 50, 2))
    new = rng.dirichlet(np.ones(3), 9)
    model = PredictedLogits(alphas, logits)
    predicted, deviations = model(new)
    draws = rng.normal(size=(4000, *predicted.shape)) * deviations[:, None, None] + predicted
    shares = (draws.argmax(-1) != predicted.argmax(-1)).mean(axis=(0, 2))
    ordered = np.sort(shares)
    widest = np.diff(ordered).argmax()  # where draws decide alike
    for limit in (ordered[widest : widest + 2].mean(), 0.0, 1.0):
        scores = model.smoothed(new, Plain(), 1.0, limit)
        np.testing.assert_array_equal(np.isneginf(scores), shares > limit)
        kept = shares <= limit
        np.testing.assert_allclose(scores[kept], Plain().smoothed(predicted[kept], 1.0))


def test_options_that_an_example_lacks_stay_out_of_it(rng):
    logits = rng.normal(size=(6, 2, OPTIONS))
    logits[:, 1, 2] = -np.inf
    alphas = np.concatenate([np.eye(3), (np.eye(3) + np.roll(np.eye(3), 1, 0)) / 2])
    predicted, _ = PredictedLogits(alphas, logits)(alphas)
    assert (predicted[:, 1, 2] == -np.inf).all()
    np.testing.assert_allclose(predicted[:, 1, :2], centred(logits[:, 1, :2]), atol=1e-4)
    np.testing.assert_allclose(predicted[:, 0], centred(logits[:, 0]), atol=1e-4)


def peaked(n, examples=400):
    """Logits whose accuracy falls with the distance from a known optimum."""
    best = np.random.default_rng(3).dirichlet(np.full(n, 3.0))
    noise = np.random.default_rng(4).normal(size=examples)

    def score(alpha):
        margin = 1 - 6 * float(np.sum((alpha - best) ** 2)) + noise
        return evaluation(np.stack([margin, -margin, -margin - 1], 1))

    return best, score


@pytest.mark.parametrize("n", [2, 3, 5])
def test_a_quadratic_landscape_is_solved_right_behind_the_midpoints(n):
    best, score = peaked(n)
    found = search(surrogate(n, evaluations=40), score, options=Plain())
    opening = n + 1 + len(pairs(n)) - (n == 2)
    first = found.trials[opening]
    np.testing.assert_allclose(first.alpha, best, atol=0.03)
    assert found.score == pytest.approx(score(best).score, abs=0.5)
    assert re.search("predicted 0.[0-3]% of the answers", found.remark)


def test_the_opening_has_all_midpoints_of_few_experts():
    sent = surrogate(6)
    assert next(sent).options
    _, score = peaked(6)
    found = search(surrogate(6, evaluations=22), score, options=Plain())
    alphas = np.stack([trial.alpha for trial in found.trials])
    expected = [(np.eye(6)[i] + np.eye(6)[j]) / 2 for i, j in pairs(6)]
    np.testing.assert_array_equal(alphas, [*np.eye(6), np.full(6, 1 / 6), *expected])


def test_with_more_than_six_experts_only_the_best_four_are_paired():
    quality = np.array([3.0, 9, 1, 8, 2, 7, 0, 6])

    def score(alpha):
        margins = np.linspace(-9, 9, 40) + alpha @ quality
        return evaluation(np.stack([margins, 0 * margins, 0 * margins], 1))

    found = search(surrogate(8, evaluations=15), score, options=Plain())
    paired = [np.flatnonzero(trial.alpha).tolist() for trial in found.trials[9:]]
    assert paired == [[1, 3], [1, 5], [1, 7], [3, 5], [3, 7], [5, 7]]


@pytest.mark.parametrize("budget", [4, 6, 9])
def test_no_more_than_the_budget_is_measured(budget):
    score = landscape("edge", 2, 3, 300).evaluation
    found = search(surrogate(3, evaluations=budget), score, options=RightOrWrong())
    assert found.evaluations == budget


def test_one_expert_is_the_result():
    _, score = peaked(1)
    assert search(surrogate(1), score, options=Plain()).evaluations == 1


def test_what_it_cannot_predict_is_left_to_nelder_mead():
    """Each alpha's answers are drawn anew: about two in three are predicted wrongly."""

    def score(alpha):
        drawn = np.random.default_rng(int(1e6 * (alpha @ np.arange(1, 5))))
        return evaluation(drawn.normal(size=(60, OPTIONS)))

    found = search(surrogate(4, evaluations=40), score, options=Plain())
    opening = [trial.alpha for trial in found.trials[:11]]
    assert found.remark.endswith("more than 15%: Nelder-Mead continued from the best trials.")
    assert "answers of 1 trial wrongly" in found.remark
    assert found.iterations > 1
    alphas = np.stack([trial.alpha for trial in found.trials])
    values = np.array([trial.score for trial in found.trials])
    *best, worst = alphas[best_simplex(alphas[:12], values[:12])]
    middle = np.mean(best, axis=0)
    steps = (alphas[12] - middle) / (middle - worst)  # on the worst one's line, as reflections are
    np.testing.assert_allclose(steps, steps[0])
    assert found.repeats == 0
    trusting = search(surrogate(4, evaluations=40, tolerance=1.0), score, options=Plain())
    np.testing.assert_array_equal([t.alpha for t in trusting.trials[:11]], opening)
    assert "Nelder-Mead" not in trusting.remark


def test_a_trial_that_fails_is_left_out_of_the_fit():
    best, score = peaked(3)
    failed = []

    def failing(alpha):
        if np.count_nonzero(alpha) == 2 and alpha[0] == 0:
            failed.append(alpha)
            raise RuntimeError("no")
        return score(alpha)

    found = search(surrogate(3, evaluations=30), failing, options=Plain())
    assert failed
    assert found.score == pytest.approx(score(best).score, abs=1)


def landed(strategy, kind, seed):
    land = landscape(kind, seed, 5, 200)
    found = search(strategy, land.evaluation, options=RightOrWrong())
    return land.regret(found.alpha), found.evaluations


@pytest.mark.parametrize("kind", ["interior", "flat"])
def test_half_of_nelder_meads_evaluations_end_as_near_the_optimum(kind):
    ours = np.array([landed(surrogate(5), kind, seed) for seed in range(8)])
    theirs = np.array([landed(nelder_mead(5, evaluations=60), kind, seed) for seed in range(8)])
    assert ours[:, 0].mean() < theirs[:, 0].mean() + 0.1
    assert ours[:, 1].mean() < 30 < theirs[:, 1].mean()


def test_few_useful_experts_among_twenty_are_found_in_half_of_nelder_meads_evaluations():
    """The average of all is 57 points below the optimum, Nelder-Mead's 120 evaluations end 1.7."""
    lands = [landscape("few", seed, 20, 200) for seed in range(3)]
    found = [search(surrogate(20), land.evaluation, options=RightOrWrong()) for land in lands]
    regrets = [land.regret(one.alpha) for land, one in zip(lands, found, strict=True)]
    assert np.mean(regrets) < 0.6
    assert np.mean([one.evaluations for one in found]) < 60


def test_a_killed_search_resumes_and_scores_again_what_lacks_options(tmp_path):
    land = landscape("interior", 1, 4, 60)
    path = tmp_path / "trials.jsonl"
    run = partial(search, options=RightOrWrong(), ledger=path)
    strategy = partial(surrogate, 4, evaluations=18)
    whole = run(strategy(), land.evaluation)
    lines, answers = path.read_bytes(), (tmp_path / "answers.jsonl").read_bytes()
    path.write_bytes(b"".join(lines.splitlines(keepends=True)[:13]))
    scored = []

    def score(alpha):
        scored.append(alpha)
        return land.evaluation(alpha)

    again = run(strategy(), score)
    assert len(scored) == whole.evaluations - 13 + 1  # the best is scored again, to be confirmed
    assert (path.read_bytes(), (tmp_path / "answers.jsonl").read_bytes()) == (lines, answers)
    assert again.remark == whole.remark
    path.unlink()
    plain = Ledger(path)
    for trial in whole.trials[:5]:
        texts = trial.answers.texts
        bare = Answers(texts, trial.answers.log_likelihoods)
        plain.append(type(trial)(**{**vars(trial), "answers": bare}))
    assert run(strategy(), land.evaluation).evaluations == whole.evaluations
    assert path.read_bytes() == lines
    assert json.loads(lines.splitlines()[0])["answers"]


@pytest.mark.parametrize(
    ("score", "options", "sentence"),
    [
        (lambda alpha: 1.0, None, r"give search\(\.\.\., options=\)"),
        (lambda alpha: 1.0, Plain(), "reads the log-likelihood of every option"),
    ],
)
def test_scores_without_options_are_refused(score, options, sentence):
    with pytest.raises(UserError, match=sentence):
        search(surrogate(3), score, options=options)
