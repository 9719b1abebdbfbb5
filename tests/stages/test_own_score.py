"""A person's own score of a model, searched and tested over checkpoints; no corpus is read."""

import json
import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pytest
import torch

from dfwe.errors import ScoreError, UserError
from dfwe.pipeline.executor import Stage, execute
from dfwe.scoring.own_score import OwnScore
from dfwe.search.config import Search
from dfwe.search.ledger import read_trials
from dfwe.search.nelder_mead import nelder_mead
from dfwe.search.surrogate import surrogate
from dfwe.stages.evaluate import TestRecord
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present, results
from dfwe.weights.loading import save

INTERPOLATE = Stage("interpolate", ("import", "interpolate"))
ALL = Stage("all", ("import", "interpolate", "evaluate"))
CALLS = []


@dataclass(frozen=True)
class Unread:
    name: str = "unread"

    def dialogues(self, split, title=None):
        raise AssertionError("the corpus was read")

    def labels(self, title):
        raise AssertionError("the corpus was read")

    def whole(self):
        return self

    @property
    def of_sources(self):
        return self


def bias_of(model):
    return float(next(model.parameters()).detach().double().mean())


def close_to_zero(model, tokenizer):
    """Higher where the embedding's mean is nearer to nought."""
    assert not model.training
    assert tokenizer.eos_token_id is not None
    CALLS.append("dev")
    return -1e3 * abs(bias_of(model))


def on_splits(model, tokenizer, split, factor=1.0):
    CALLS.append(split)
    value = torch.tensor(bias_of(model) * factor)
    return {"score": value if split == "dev" else -value, "mean": value, "note": "no number"}


@pytest.fixture
def plan(make_study, make_network, tokenizer, tmp_path):
    """score, settings -> a plan over two checkpoints."""
    folders = [tmp_path / name for name in "ab"]
    for seed, folder in enumerate(folders):
        save(make_network(seed), tokenizer, folder)
    CALLS.clear()

    def make(function, **settings):
        return Plan(
            make_study(
                sources=(),
                corpus=Unread(),
                checkpoints=tuple(map(str, folders)),
                score=OwnScore(function),
                **settings,
            )
        )

    return make


def test_a_search_by_ones_own_score_reads_no_corpus_and_has_no_answers(plan, context, caplog):
    caplog.set_level("INFO")
    own = plan(close_to_zero)
    own.check(context.store, INTERPOLATE.computes)
    execute(own.steps, INTERPOLATE, context)
    record = context.store.record(own.interpolation.recipe, SearchRecord)
    trials = read_trials(context.store.folder(own.interpolation.recipe) / TRIALS, answers=True)
    assert len(CALLS) == len(trials) == record.cost.evaluations > 3
    assert record.dev.score == max(trial.score for trial in trials) > record.experts[0].score
    assert all(trial.answers is None for trial in trials)
    lacking = (record.one_standard_error, record.likeliest, record.selection, record.cross_fitted)
    assert lacking == (None,) * 4
    assert record.cost.tokens is None
    assert "score=" in caplog.text
    assert "no cross-fitting (search.folds), no choice within a standard error" in caplog.text
    present(own, INTERPOLATE, context)
    shown = json.loads((context.output / "results.json").read_text())
    assert (shown["task"], shown["corpus"]) == ("close_to_zero", f"{__name__}.close_to_zero")
    assert shown["dfwe"]["dev"] == record.dev.score
    assert "close_to_zero" in (context.output / "model_card.md").read_text()


def test_a_score_that_takes_the_split_is_tested(plan, context):
    own = plan(on_splits)
    execute(own.steps, ALL, context)
    record = context.store.record(own.interpolation.recipe, SearchRecord)
    test = context.store.record(own.evaluation.recipe, TestRecord)
    assert set(CALLS[: record.cost.evaluations]) == {"dev"}
    assert CALLS[record.cost.evaluations :] == ["test"] * 4  # of two, their average, the mixture
    assert set(test.roles) == {"baseline", "mixture", "uniform"}
    assert [x.score for x in test.experts] == [-x.score for x in record.experts]
    assert list(test.experts[0].metrics) == ["mean"]
    shown = results(own, ALL, context.store)
    assert shown.delta == test.roles["mixture"].score - test.roles["baseline"].score
    assert shown.interval is None
    assert "gives a number, and no answers to resample" in shown.no_interval
    assert {row.name: row.flops for row in shown.methods}["dfwe"] is None
    present(own, ALL, context)
    assert not (context.output / "predictions.csv").exists()


def test_a_test_is_refused_where_the_score_knows_no_split(plan, context):
    with pytest.raises(
        UserError, match=r"close_to_zero takes no split=, .* give stage=interpolate"
    ):
        plan(close_to_zero).check(context.store, ALL.computes)
    plan(on_splits).check(context.store, ALL.computes)
    fixed = partial(on_splits, split="dev")
    with pytest.raises(UserError, match="takes no split="):
        plan(fixed).check(context.store, ALL.computes)


@pytest.mark.parametrize(
    ("search", "name"),
    [
        (Search(nelder_mead, folds=2), "search.folds="),
        (Search(nelder_mead, screen=3), "search.screen="),
        (Search(surrogate), "search=surrogate"),
    ],
)
def test_what_needs_answers_is_refused_before_any_work(plan, context, search, name):
    with pytest.raises(UserError, match=rf"^{name} needs the answers .* score=.*close_to_zero gi"):
        plan(close_to_zero, search=search).check(context.store, INTERPOLATE.computes)


def one_argument(model):
    return 1.0


@pytest.mark.parametrize(
    ("function", "sentence"),
    [
        (one_argument, r"score=one_argument cannot be called as f\(model, tokenizer\)"),
        (partial(on_splits, factr=2), r"score.factr= is not known"),
        (len, "score=len cannot be called"),
        (math.hypot, r"score=hypot cannot be called as .* \(no signature found for builtin"),
    ],
)
def test_a_function_that_cannot_be_called_so_is_refused(function, sentence):
    with pytest.raises(UserError, match=sentence):
        OwnScore(function)


def test_a_score_is_searched_over_models_that_exist(make_study):
    with pytest.raises(UserError, match=r"close_to_zero is searched over models that exist"):
        make_study(score=OwnScore(close_to_zero))


def test_a_score_is_hashed_by_its_code_and_keywords(plan):
    first, again, scaled, other = (
        plan(f).interpolation.recipe.address
        for f in (on_splits, on_splits, partial(on_splits, factor=2.0), close_to_zero)
    )
    assert first == again
    assert len({first, scaled, other}) == 3


@pytest.mark.parametrize("returned", [{"accuracy": 1.0}, "good", None, {"score": "high"}])
def test_what_is_no_score_is_told(make_network, tokenizer, returned):
    with pytest.raises(ScoreError, match='a number, or a dict with "score", is needed'):
        OwnScore(lambda model, tokenizer: returned)(make_network(), tokenizer, "dev")


def test_a_number_of_any_library_is_a_score(make_network, tokenizer):
    numbers = [3, np.float32(3), torch.tensor(3.0), {"score": np.int64(3)}]
    own = OwnScore(lambda model, tokenizer: numbers.pop())
    network = make_network()
    assert [own(network, tokenizer, "dev").score for _ in range(4)] == [3.0] * 4


def failing(model, tokenizer, split):
    if split == "test":
        raise RuntimeError("no server")
    return 1.0


def test_a_failing_test_is_one_sentence(plan, context):
    own = plan(failing)
    with pytest.raises(
        ScoreError, match=r"failing fails on the test split \(RuntimeError: no ser"
    ):
        execute(own.steps, ALL, context)
    assert own.interpolation.recipe in context.store
    repaired = replace(own.study, score=OwnScore(on_splits))
    assert Plan(repaired).interpolation.recipe not in context.store
