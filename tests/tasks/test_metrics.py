"""Metrics against scikit-learn and numbers worked out by hand; all in points."""

import numpy as np
import pytest
from sklearn import metrics as sk

from dfwe.errors import UserError
from dfwe.tasks.metrics import F1, Accuracy, ExactMatch, MultilabelF1, TokenF1, normalise

RNG = np.random.default_rng(0)
GOLDS = RNG.integers(0, 5, 200).tolist()
SAID = [int(g) if RNG.random() < 0.6 else int(RNG.integers(-1, 5)) for g in GOLDS]
VALID = [max(said, 0) for said in SAID]


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
@pytest.mark.parametrize("compatibility", [None, "tlidb"])
def test_f1_is_scikit_learns_where_every_answer_is_a_label(average, compatibility):
    wanted = sk.f1_score(GOLDS, VALID, average=average)
    assert F1(average, compatibility)(VALID, GOLDS) == pytest.approx(100 * wanted)


@pytest.mark.parametrize("average", ["micro", "macro", "weighted"])
def test_tlidbs_f1_counts_invalid_answers_as_a_class(average):
    wanted = sk.f1_score(GOLDS, SAID, average=average)
    assert F1(average, "tlidb")(SAID, GOLDS) == pytest.approx(100 * wanted)


def test_an_invalid_answer_is_wrong_but_no_class():
    said, golds = [0, -1, 1], [0, 0, 1]  # F1 of label 0: 2/3, of label 1: 1
    assert F1("macro")(said, golds) == pytest.approx(100 * 5 / 6)
    assert F1("macro", "tlidb")(said, golds) == pytest.approx(100 * 5 / 9)
    assert F1("micro")(said, golds) == pytest.approx(100 * 2 / 3)
    assert F1("weighted")(said, golds) == pytest.approx(100 * (2 * 2 / 3 + 1) / 3)


def test_f1_takes_labels_that_are_texts():
    golds, said = ["x", "x", "z", "y"], ["x", "y", "z", "z"]
    wanted = sk.f1_score(golds, said, average="macro")
    assert F1("macro")(said, golds) == pytest.approx(100 * wanted)


def test_accuracy_is_scikit_learns():
    assert Accuracy()(SAID, GOLDS) == pytest.approx(100 * sk.accuracy_score(GOLDS, SAID))


@pytest.mark.parametrize("labels", [None, [0, 2, 3]])
def test_multilabel_f1_is_scikit_learns_micro(labels):
    golds, said = RNG.integers(0, 2, (2, 50, 6))
    wanted = sk.f1_score(golds, said, average="micro", labels=labels)
    assert MultilabelF1(labels)(said.tolist(), golds.tolist()) == pytest.approx(100 * wanted)


def test_multilabel_f1_without_a_right_answer_is_nought():
    assert MultilabelF1()([[0, 0]], [[0, 1]]) == 0
    assert MultilabelF1()([[0, 0]], [[0, 0]]) == 0


@pytest.mark.parametrize(
    ("text", "plain"),
    [("The  Cat's hat!", "cats hat"), ("an apple, a day", "apple day"), ("theatre", "theatre")],
)
def test_normalisation_drops_case_punctuation_and_articles(text, plain):
    assert normalise(text) == plain


def test_an_exact_match_may_match_any_gold_text():
    assert ExactMatch()(["the Hat.", "shoe"], [("cap", "hat"), ("hat",)]) == 50


def test_token_f1_takes_the_best_gold_text():
    said, golds = ["hat", "nothing", "c x"], [("red hat", "hat"), ("the shop",), ("x y", "c d e")]
    assert TokenF1("macro")(said, golds) == pytest.approx(50)  # 1, 0 and 2 * 1 / (2 + 2)
    assert TokenF1("micro")(said, golds) == pytest.approx(50)  # 2 * 2 / (4 said + 4 gold)
    assert TokenF1("micro", "tlidb")(said, golds) == pytest.approx(100 * 4 / 7)  # last overlap


def test_tlidbs_micro_token_f1_ignores_answers_without_overlap():
    said, golds = ["hat", "shoe shoe"], [("hat",), ("cap",)]
    assert TokenF1("micro", "tlidb")(said, golds) == 100
    assert TokenF1("micro")(said, golds) == pytest.approx(40)  # 2 * 1 / (3 + 2)


def test_accuracy_of_several_labels_is_scikit_learns():
    golds, said = RNG.integers(0, 2, (2, 50, 3))
    wanted = sk.accuracy_score(golds, said)  # of whole rows
    assert 0 < wanted < 1
    assert Accuracy()(said.tolist(), golds.tolist()) == pytest.approx(100 * wanted)


@pytest.mark.parametrize(
    ("metric", "answer", "gold", "sentence"),
    [
        (ExactMatch(), 1, 2, r"of texts got the answer 1 and the gold answer 2; .*FreeText"),
        (TokenF1("micro"), 1, 2, r"of texts got the answer 1 .*FreeText"),
        (
            F1("micro"),
            [0, 1],
            [0, 1],
            r"of single labels got the answer \[0, 1\] .*answers\.Label}",
        ),
        (F1("macro"), "x", ("x", "y"), r"of single labels got .* gold answer \('x', 'y'\)"),
        (Accuracy(), "x", ("x", "y"), r"of labels got the answer 'x' .*Labels}, or other metrics"),
        (Accuracy(), 1, [0, 1], r"of labels got the answer 1 and the gold answer \[0, 1\]"),
        (MultilabelF1(), 1, 1, r"of several labels got the answer 1 .*answers\.Labels}"),
    ],
)
def test_a_metric_refuses_answers_that_it_does_not_compare(metric, answer, gold, sentence):
    with pytest.raises(UserError, match=sentence):
        metric([answer], [gold])


@pytest.mark.parametrize("average", ["macro", "micro"])
@pytest.mark.parametrize("compatibility", [None, "tlidb"])
def test_answers_all_wrong_score_nought_without_a_warning(average, compatibility):
    assert TokenF1(average, compatibility)(["x", ""], [("y",), ("z",)]) == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: F1("samples"), "average=samples should be 'micro', 'macro' or 'weighted'"),  # type: ignore[arg-type]
        (lambda: TokenF1("weighted"), "average=weighted should be 'macro' or 'micro'"),  # type: ignore[arg-type]
        (lambda: F1("micro", "feta"), "compatibility=feta should be 'tlidb' or None"),  # type: ignore[arg-type]
    ],
)
def test_an_unknown_choice_is_named_when_the_metric_is_made(make, message):
    with pytest.raises(UserError, match=message):
        make()
