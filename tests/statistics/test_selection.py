"""The choice on resamples against loops over examples, and the sign test against SciPy's."""

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.scoring.scorer import scores_of
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.ledger import read_trials
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.statistics.counts import count, dialogue_of, draw_dialogues, sum_by_dialogue
from dfwe.statistics.selection import accuracy_among, certify, choose, select
from dfwe.tasks.answers import FreeText, Label
from dfwe.tasks.metrics import F1, Accuracy, ExactMatch, MultilabelF1, TokenF1
from dfwe.tasks.task import Task

OPTIONS = ("red hat", "hat", "the shoe", "coat")
TASKS = {
    "labels": Task("t", "t", lambda *_: [], Label(), [F1("weighted"), F1("macro")], 5),
    "texts": Task("t", "t", lambda *_: [], FreeText(), [ExactMatch(), TokenF1("macro")], 5),
    "accuracy": Task("t", "t", lambda *_: [], Label(), [Accuracy()], 5),
}
EXPERTS = 3


def make_examples(rng, sizes):
    """One dialogue a size, of so many examples."""
    targets = [str(rng.choice(OPTIONS)) for _ in range(sum(sizes))]
    dialogues = np.repeat(np.arange(len(sizes)), sizes)
    return [
        Example(f"e{i}", f"d{d}", "", "", target, (target,), OPTIONS)
        for i, (d, target) in enumerate(zip(dialogues, targets, strict=True))
    ]


def make_score(rng, task, examples):
    """alpha -> the answers of a mixture of three random models, better than by chance."""
    gold = np.array([OPTIONS.index(e.target) for e in examples])
    logits = rng.normal(size=(EXPERTS, len(gold), 4)) + 0.5 * np.eye(4)[gold]

    def score(alpha):
        mean = np.tensordot(alpha, logits, 1)
        likelihoods = mean - np.log(np.exp(mean).sum(-1, keepdims=True))
        texts = tuple(OPTIONS[k] for k in mean.argmax(-1))
        answers = Answers(texts, tuple(likelihoods[np.arange(len(gold)), gold].tolist()))
        value = scores_of(answers, examples, task)
        return Evaluation(value.score, value.log_likelihood, value.metrics, answers=answers)

    return score


def searched(task, sizes=(1, 3, 2, 5) * 8, seed=0, **settings):
    """A small search's result, and the examples of its dev."""
    rng = np.random.default_rng(seed)
    examples = make_examples(rng, sizes)
    strategy = nelder_mead(EXPERTS, evaluations=25)
    return search(strategy, make_score(rng, task, examples), **settings), examples


def counted(task, result, examples):
    """What `select` takes: the counts and likelihoods of the trials."""
    counts = count(task, [trial.answers.texts for trial in result.trials], examples)
    likelihoods = np.array([trial.answers.log_likelihoods for trial in result.trials])
    return counts, sum_by_dialogue(likelihoods, dialogue_of(examples))


@pytest.mark.parametrize("kind", TASKS)
def test_kept_answers_give_the_ledgers_scores_to_the_last_digit(kind, tmp_path: Path):
    task = TASKS[kind]
    _, examples = searched(task, ledger=tmp_path / "trials.jsonl")
    trials = read_trials(tmp_path / "trials.jsonl", answers=True)
    assert len(trials) > 10
    for trial in trials:
        again = scores_of(trial.answers, examples, task)
        assert again.score == trial.score
        assert again.metrics == trial.metrics
        assert again.log_likelihood == trial.log_likelihood


@pytest.mark.parametrize("kind", TASKS)
def test_counts_of_several_models_score_any_dialogues_as_the_task_does(kind):
    result, examples = searched(TASKS[kind])
    counts, _ = counted(TASKS[kind], result, examples)
    for seed, trial in enumerate(result.trials):
        drawn = np.random.default_rng(seed).random(len(counts.sizes)) < 0.5
        rows = [i for i, d in enumerate(dialogue_of(examples)) if drawn[d]]
        texts = [trial.answers.texts[i] for i in rows]
        wanted = TASKS[kind].score(texts, [examples[i] for i in rows])["score"]
        assert counts.score(seed, drawn.astype(float)) == pytest.approx(wanted, abs=1e-9)


@pytest.mark.parametrize("kind", TASKS)
@pytest.mark.parametrize("objective", ["score", "log_likelihood"])
def test_on_all_of_dev_the_choice_is_the_searchs(kind, objective):
    for seed in range(10):
        result, examples = searched(TASKS[kind], seed=seed, objective=objective)
        counts, likelihoods = counted(TASKS[kind], result, examples)
        whole = np.ones((1, len(counts.sizes)))
        chosen = choose(counts, likelihoods, whole, range(len(result.trials)), objective)
        assert chosen.tolist() == [result.best.index]


def test_ties_go_to_the_likelier_and_then_to_the_earlier():
    examples = make_examples(np.random.default_rng(0), [1] * 4)
    right = [example.target for example in examples]
    counts = count(TASKS["accuracy"], [right] * 4, examples)
    likelihoods = np.array([[-2.0] * 4, [-1.0] * 4, [-1.0] * 4, [-3.0] * 4])
    assert choose(counts, likelihoods, np.ones((1, 4)), range(4)).tolist() == [1]
    assert choose(counts, likelihoods, np.ones((1, 4)), [0, 3]).tolist() == [0]


@pytest.mark.parametrize("kind", TASKS)
def test_selection_is_a_loop_over_resamples_that_scores_what_each_leaves_out(kind):
    task = TASKS[kind]
    result, examples = searched(task)
    counts, likelihoods = counted(task, result, examples)
    member, everyone = dialogue_of(examples), range(len(result.trials))
    chosen, scores, gains = [], [], []

    def score(trial, times):
        rows = [i for i, d in enumerate(member) for _ in range(int(times[d]))]
        texts = [result.trials[trial].answers.texts[i] for i in rows]
        points = task.score(texts, [examples[i] for i in rows])["score"]
        likely = np.mean([result.trials[trial].answers.log_likelihoods[i] for i in rows])
        return round(points, 9), likely, -trial

    for times in draw_dialogues(len(counts.sizes), 40, seed=3):
        chosen.append(max(everyone, key=lambda trial, times=times: score(trial, times)))
        scores.append(score(chosen[-1], times == 0)[0])
        gains.append(scores[-1] - score(EXPERTS, times == 0)[0])
    selection = select(counts, likelihoods, everyone, [EXPERTS], draws=40, seed=3)
    assert selection.chosen.tolist() == chosen
    assert selection.score == pytest.approx(np.mean(scores))
    assert selection.gains[0].mean == pytest.approx(np.mean(gains))
    assert selection.gains[0].at_least == pytest.approx(np.quantile(gains, 0.05))


def test_a_resample_that_leaves_nothing_out_is_dropped():
    result, examples = searched(TASKS["accuracy"], sizes=(3, 2))
    counts, likelihoods = counted(TASKS["accuracy"], result, examples)
    selection = select(counts, likelihoods, range(len(result.trials)), [EXPERTS], draws=100)
    assert 30 < len(selection.chosen) < 70
    assert np.isfinite(selection.score)


def test_a_certificate_is_scipys_sign_test_over_dialogues():
    rng = np.random.default_rng(0)
    for size in (3, 20, 150):
        examples = make_examples(rng, [2] * size)
        golds = [example.target for example in examples]
        better, worse = (
            [gold if rng.random() < right else "none" for gold in golds] for right in (0.7, 0.5)
        )
        counts = count(TASKS["accuracy"], [better, worse], examples)
        certificate = certify(Accuracy(), *counts.sums[0], counts.sizes)
        right = np.array(
            [[t == g for t, g in zip(x, golds, strict=True)] for x in (better, worse)]
        )
        difference = np.subtract(*right.astype(int).reshape(2, size, 2).sum(axis=2))
        wins, losses = (difference > 0).sum(), (difference < 0).sum()
        test = binomtest(wins, wins + losses, 0.5, alternative="greater")
        assert (certificate.wins, certificate.losses) == (wins, losses)
        assert certificate.p == pytest.approx(test.pvalue)
        assert certificate.holds == (test.pvalue <= 0.05)
        assert certificate.gain == pytest.approx(100 * difference.sum() / (2 * size))


@pytest.mark.parametrize("discordant", [0, 3, 5, 6, 11, 40, 300])
def test_the_smallest_gain_would_be_certified_and_a_smaller_one_not(discordant):
    examples = make_examples(np.random.default_rng(0), [1] * 400)
    right = [example.target for example in examples]
    most = max(discordant, 5)  # 0.5 ** 4 > 0.05

    def certificate(wins, of):
        chosen = ["none" if wins <= i < of else text for i, text in enumerate(right)]
        baseline = ["none" if i < wins else text for i, text in enumerate(right)]
        counts = count(TASKS["accuracy"], [chosen, baseline], examples)
        return certify(Accuracy(), *counts.sums[0], counts.sizes)

    smallest = certificate(discordant, discordant).smallest
    wins = round((smallest * 4 + most) / 2)
    assert certificate(wins, most).gain == pytest.approx(smallest)
    assert certificate(wins, most).holds
    assert not certificate(wins - 1, most).holds


def test_two_equal_models_are_told_apart_by_nothing():
    examples = make_examples(np.random.default_rng(0), [1] * 9)
    counts = count(TASKS["accuracy"], [["hat"] * 9] * 2, examples)
    certificate = certify(Accuracy(), *counts.sums[0], counts.sizes)
    assert (certificate.p, certificate.gain, certificate.holds) == (1.0, 0.0, False)


def test_a_certificate_is_about_a_share_of_right_answers_alone():
    assert accuracy_among([F1("weighted"), F1("micro")]) == 1
    assert accuracy_among([Accuracy(), ExactMatch()]) == 0
    with pytest.raises(UserError, match="which f1_macro, f1_micro, token_f1_macro is not"):
        accuracy_among([F1("macro"), MultilabelF1(), TokenF1("macro")])


def test_a_search_by_likelihood_is_repeated_by_likelihood():
    examples = make_examples(np.random.default_rng(0), [1] * 20)
    right = [example.target for example in examples]
    counts = count(TASKS["accuracy"], [right, ["none"] * 20], examples)
    likelihoods = np.repeat([[-2.0], [-1.0]], 20, axis=1)  # the wrong answers are likelier
    by_score = select(counts, likelihoods, range(2), [0], draws=30)
    by_likelihood = select(counts, likelihoods, range(2), [0], "log_likelihood", draws=30)
    assert (by_score.score, set(by_score.chosen.tolist())) == (100.0, {0})
    assert (by_likelihood.score, set(by_likelihood.chosen.tolist())) == (0.0, {1})
    assert by_likelihood.gains[0].mean == -100.0


def test_one_answer_more_of_a_large_dialogue_wins_it():
    examples = make_examples(np.random.default_rng(0), [150] * 6)
    right = [example.target for example in examples]
    fewer = ["none" if i % 150 == 0 else text for i, text in enumerate(right)]
    counts = count(TASKS["accuracy"], [right, fewer], examples)
    forth = certify(Accuracy(), *counts.sums[0], counts.sizes)
    back = certify(Accuracy(), *counts.sums[0][::-1], counts.sizes)
    assert (forth.wins, forth.losses, forth.holds) == (6, 0, True)
    assert (back.wins, back.losses, back.p) == (0, 6, 1.0)
    assert forth.smallest == back.smallest == pytest.approx(100 * 6 / 900)


def test_draws_that_models_share_cannot_be_changed():
    drawn = draw_dialogues(5, 10)
    with pytest.raises(ValueError, match="read-only"):
        drawn[0, 0] = 7
    assert (drawn.sum(axis=1) == 5).all()
