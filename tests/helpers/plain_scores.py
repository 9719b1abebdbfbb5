"""The metrics once more, in plain code, as numbers to compare with."""

import re
import string
from collections import Counter

import pytest


def accuracy(answers, golds):
    return 100 * sum(a == g for a, g in zip(answers, golds, strict=True)) / len(golds)


def label_scores(answers, golds, options):
    """Accuracy and F1 of single labels.

    Args:
        answers: a model's texts; one that names no option is wrong for each.
        golds: the accepted options of each, of which the first counts.
        options: of the task.
    """
    told = []
    for answer, accepted in zip(answers, golds, strict=True):
        text = answer.strip().lower()
        told.append(accepted[0].lower() if text in {x.lower() for x in accepted} else text)
    wanted = [accepted[0].lower() for accepted in golds]
    f1, weights = {}, {}
    for label in {option.lower() for option in options} & {*wanted, *told}:
        both = sum(a == g == label for a, g in zip(told, wanted, strict=True))
        f1[label] = 2 * both / (told.count(label) + wanted.count(label))
        weights[label] = wanted.count(label)
    right = accuracy(told, wanted)
    return {
        "accuracy": right,
        "f1_micro": right,
        "f1_macro": 100 * sum(f1.values()) / len(f1),
        "f1_weighted": 100 * sum(f1[x] * weights[x] for x in f1) / len(wanted),
    }


def words(text):
    """SQuAD's normalisation, as its evaluation script has it."""
    text = "".join(x for x in text.lower() if x not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def text_scores(answers, golds):
    """Exact match and word overlap with the best of the accepted texts."""
    exact, best, pooled = [], [], [0, 0]
    for answer, accepted in zip(answers, golds, strict=True):
        exact.append(any(words(answer) == words(gold) for gold in accepted))
        pairs = [overlap(words(answer), words(gold)) for gold in accepted]
        f1 = [2 * both / total if total else 1.0 for both, total in pairs]
        best.append(max(f1))
        both, total = pairs[f1.index(max(f1))]
        pooled = [pooled[0] + 2 * both, pooled[1] + total]
    return {
        "exact_match": 100 * sum(exact) / len(exact),
        "token_f1_macro": 100 * sum(best) / len(best),
        "token_f1_micro": 100 * pooled[0] / pooled[1] if pooled[1] else 100.0,
    }


def overlap(answer, gold):
    """Words in common, and words of both together."""
    return sum((Counter(answer) & Counter(gold)).values()), len(answer) + len(gold)


def set_scores(answers, golds, options):
    """Micro F1 of sets of labels, joined by `and`; what names no option counts for nothing."""
    known = {option.lower() for option in options}
    told = [{part.strip().lower() for part in answer.split(" and ")} & known for answer in answers]
    wanted = [set(gold.lower().split(" and ")) & known for [gold] in golds]
    both = sum(len(a & g) for a, g in zip(told, wanted, strict=True))
    wrong = sum(len(a ^ g) for a, g in zip(told, wanted, strict=True))
    return {"f1_micro": 200 * both / (2 * both + wrong) if both + wrong else 0.0}


def compare(scores, due):
    """Each metric has its number here, and the score is their mean."""
    metrics = {name: value for name, value in scores.items() if name != "score"}
    assert metrics == pytest.approx({name: due[name] for name in metrics})
    assert scores["score"] == pytest.approx(sum(metrics.values()) / len(metrics))
