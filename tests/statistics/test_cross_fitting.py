"""Cross-fitted dev against searches done by hand; no alpha sees what it is scored on."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.scoring.scorer import scores_of
from dfwe.search.evaluation import Answers, Evaluation
from dfwe.search.loop import search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.statistics.cross_fitting import SHARES, cross_fit, fold_of, shrinkage
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import F1
from dfwe.tasks.task import Task

TASK = Task("t", "t", lambda *a: [], Label(), (F1("weighted"),), 8)
EXPERTS, FOLDS = 3, 4


@pytest.fixture
def logits(label_examples):
    """Of each expert, example and option, (n, m, options): right a little more often than not."""
    rng = np.random.default_rng(3)
    gold = np.array([e.options.index(e.target) for e in label_examples])
    return rng.normal(size=(EXPERTS, len(gold), 4)) + 0.7 * np.eye(4)[gold]


def world(rng, skill, size):
    """Experts of these skills on as many examples, four to a dialogue."""
    gold = rng.integers(4, size=size)
    options = tuple("abcd")
    examples = [
        Example(str(i), f"d{i // 4}", "", "", options[g], (options[g],), options)
        for i, g in enumerate(gold)
    ]
    return rng.normal(size=(EXPERTS, size, 4)) + skill * np.eye(4)[gold], examples


def mixed(logits, alpha, examples):
    """The mixture's answers, and the log-likelihood of each example's gold one."""
    mean = np.tensordot(alpha, logits, 1)
    log_likelihoods = mean - np.log(np.exp(mean).sum(-1, keepdims=True))
    golds = [example.options.index(example.target) for example in examples]
    texts = [e.options[best] for e, best in zip(examples, mean.argmax(-1), strict=True)]
    return texts, log_likelihoods[np.arange(len(golds)), golds]


def summarised(texts, log_likelihoods, examples):
    """Scores of such answers."""
    return scores_of(Answers(tuple(texts), tuple(log_likelihoods)), examples, TASK)


def answering(logits, examples):
    """alpha, precision -> the scores of such models' mixture."""
    return lambda alpha, precision: summarised(*mixed(logits, alpha, examples), examples)


def find(answers, fold=None):
    """Nelder-Mead by the answers' score."""

    def score(alpha):
        scores = answers(alpha, "fp32")
        return Evaluation(scores.score, scores.log_likelihood)

    return search(nelder_mead(EXPERTS, evaluations=30), score)


def crossed(logits, examples, k=FOLDS):
    """`cross_fit` of Nelder-Mead on such models."""
    return cross_fit(find, answering(logits, examples), TASK, examples, k)


def by_hand(logits, examples, member):
    """alpha of each fold, and the F1 of the answers pooled over the folds."""
    alphas, answered = [], [""] * len(examples)
    for fold in range(member.max() + 1):
        inside = [i for i in range(len(examples)) if member[i] != fold]
        some = [examples[i] for i in inside]

        def score(alpha, inside=inside, some=some):
            texts, log_likelihoods = mixed(logits[:, inside], alpha, some)
            golds = [example.target for example in some]
            f1 = f1_score(golds, texts, average="weighted", zero_division=0.0)
            return Evaluation(100 * f1, sum(log_likelihoods) / len(log_likelihoods))

        alphas.append(search(nelder_mead(EXPERTS, evaluations=30), score).alpha)
        texts, _ = mixed(logits, alphas[-1], examples)
        for i in set(range(len(examples))) - {*inside}:
            answered[i] = texts[i]
    golds = [example.target for example in examples]
    return alphas, 100 * f1_score(golds, answered, average="weighted", zero_division=0.0)


def test_it_is_k_searches_by_hand(logits, label_examples):
    fitted = crossed(logits, label_examples)
    alphas, f1 = by_hand(logits, label_examples, fold_of(label_examples, FOLDS))
    assert len({alpha.tobytes() for alpha in alphas}) > 1
    np.testing.assert_allclose([search.alpha for search in fitted.searches], alphas)
    assert fitted.score == pytest.approx(f1)
    assert fitted.metrics == {"f1_weighted": pytest.approx(f1)}
    assert TASK.score(fitted.texts, label_examples)["score"] == fitted.score


@pytest.mark.parametrize("fold", range(FOLDS))
def test_left_out_answers_never_touch_their_alpha(fold, logits, label_examples):
    before = crossed(logits, label_examples)
    member = fold_of(label_examples, FOLDS)
    changed = logits.copy()
    changed[:, member == fold] *= np.array([-5.0, 3.0, 1.0])[:, None, None]
    after = crossed(changed, label_examples)
    same = [
        (one.alpha == other.alpha).all()
        for one, other in zip(before.searches, after.searches, strict=True)
    ]
    assert same[fold]
    assert not all(same)  # the others were searched on the change
    assert after.score != before.score


@pytest.mark.parametrize("k", [2, 3, 5, 10])
def test_folds_hold_whole_dialogues_and_are_of_about_one_size(k, label_examples):
    rng = np.random.default_rng(k)
    kept = [e for i, e in enumerate(label_examples) if i % 4 == 0 or rng.random() < 0.7]
    member = fold_of(kept, k)
    dialogues = [example.dialogue for example in kept]
    assert len({*zip(dialogues, member, strict=True)}) == len({*dialogues})
    sizes = np.bincount(member, minlength=k)
    assert sizes.min() > 0
    assert sizes.max() - sizes.min() <= max(map(dialogues.count, dialogues))
    assert fold_of(kept[::-1], k)[::-1].tolist() == member.tolist()


def test_a_seed_draws_the_folds(label_examples):
    draws = {fold_of(label_examples, 5, seed).tobytes() for seed in (0, 0, 1, 2)}
    assert len(draws) == 3


def test_more_folds_than_dialogues_are_the_users_mistake(label_examples):
    fold_of(label_examples, 10)
    with pytest.raises(UserError, match=r"search\.folds=11 is more than the 10 dialogues"):
        fold_of(label_examples, 11)


def test_it_is_nearer_than_dev_to_what_the_search_is_worth():
    dev, cross_fitted = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        skill = rng.uniform(0.2, 0.8, size=(EXPERTS, 1, 1))
        small, large = (world(rng, skill, size) for size in (60, 3000))
        fitted = crossed(*small, k=5)
        alpha = find(answering(*small)).alpha
        true = summarised(*mixed(large[0], alpha, large[1]), large[1]).score
        dev.append(answering(*small)(alpha, "fp32").score - true)
        cross_fitted.append(fitted.score - true)
    assert np.mean(dev) > 2 * abs(np.mean(cross_fitted))


def test_each_search_has_its_number_and_its_precision_and_what_it_found_answers_in_fp32(
    logits, label_examples
):
    asked, folds = [], []

    def score(alpha, precision):
        asked.append(precision)
        return answering(logits, label_examples)(alpha, precision)

    def find_in_bf16(answers, fold):
        folds.append(fold)
        return search(nelder_mead(EXPERTS, evaluations=4), lambda a: answers(a, "bf16").score)

    cross_fit(find_in_bf16, score, TASK, label_examples, FOLDS)
    assert folds == list(range(FOLDS))
    assert asked == (["bf16"] * 4 + ["fp32"]) * FOLDS


def made_of(sizes):
    """Examples of one dialogue a size."""
    return [
        Example(f"{d}_{i}", f"d{d:02}", "", "", "a", ("a",))
        for d, size in enumerate(sizes)
        for i in range(size)
    ]


def test_equal_dialogues_are_dealt_to_the_folds_in_the_drawn_order():
    drawn = np.random.default_rng(0).permutation(40)
    assert fold_of(made_of([1] * 40), 4)[drawn].tolist() == [*range(4)] * 10


@pytest.mark.parametrize("seed", range(5))
def test_the_largest_dialogue_is_dealt_first(seed):
    assert np.bincount(fold_of(made_of([1, 1, 5, 1, 1, 1]), 2, seed)).tolist() == [5, 5]


def test_the_share_of_the_average_is_the_best_over_the_folds_and_of_equals_the_largest(
    logits, label_examples
):
    fitted = crossed(logits, label_examples)
    member = fold_of(label_examples, FOLDS)
    pooled = []
    for share in SHARES:
        alphas = [(1 - share) * s.alpha + share / EXPERTS for s in fitted.searches]
        answered = [mixed(logits, alpha, label_examples)[0] for alpha in alphas]
        texts = [answered[fold][i] for i, fold in enumerate(member)]
        golds = [example.target for example in label_examples]
        pooled.append(f1_score(golds, texts, average="weighted", zero_division=0.0))
    best = max(range(len(SHARES)), key=lambda k: (round(pooled[k], 12), SHARES[k]))
    asked = []

    def score(alpha, precision):
        asked.append(precision)
        return answering(logits, label_examples)(alpha, precision)

    assert shrinkage(fitted, score, TASK, label_examples) == SHARES[best]
    assert set(asked) == {"fp32"}
    same = np.repeat(logits[:1], EXPERTS, axis=0)
    assert shrinkage(fitted, answering(same, label_examples), TASK, label_examples) == 1.0
