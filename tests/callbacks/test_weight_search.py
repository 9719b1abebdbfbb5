"""The search in Lightning: screened in bf16, shared by workers, cross-fitted, resumed."""

import json
import warnings
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from dfwe.callbacks.weight_search import WeightSearch
from dfwe.data.batches import scoring_loader
from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Scorer
from dfwe.search.config import Search
from dfwe.search.evaluation import answers_digest
from dfwe.search.ledger import Ledger, read_trials
from dfwe.search.nelder_mead import nelder_mead
from dfwe.search.surrogate import surrogate
from dfwe.statistics.cross_fitting import SHARES, fold_of
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task
from dfwe.training.module import GenerationModule
from dfwe.weights.layout import flatten
from dfwe.weights.space import WeightSpace

TASK = Task("t", "t", lambda *a: [], Label(), (Accuracy(),), 8)


@pytest.fixture(scope="module")
def searched(tmp_path_factory, build_trainer, make_network, tokenizer, label_examples):
    """Settings of the search -> the callback, the module and the ledger's rows."""
    tokenized = tokenize(label_examples[:16], tokenizer, max_input=80, max_target=16)
    space = WeightSpace.from_modules([make_network(seed) for seed in range(3)])

    def run(
        folder=None,
        workers=1,
        resume="check",
        strategy=nelder_mead,
        decoding=Likelihood(),  # noqa: B008
        **settings,
    ):
        folder = folder or tmp_path_factory.mktemp("search")
        network = make_network(0)
        flatten(network)
        module = GenerationModule(network, TASK, decoding, tokenized)
        chosen = Search(partial(strategy, evaluations=9), **settings)
        ledger = Ledger(folder / "trials.jsonl", resume=resume)
        callback = WeightSearch(space, chosen, ledger, workers=workers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Lightning's hints about loaders
            trainer = build_trainer(folder, callbacks=[callback])
            trainer.validate(module, scoring_loader(tokenized, torch.device("cpu")), verbose=False)
        rows = [json.loads(line) for line in ledger.path.read_text().splitlines()]
        return callback, module, rows

    return run


@pytest.mark.parametrize("folds", [None, 2])
def test_options_are_computed_where_the_strategy_reads_them(folds, searched):
    plain, *_ = searched(decoding=Greedy())
    asking, module, rows = searched(decoding=Greedy(), strategy=surrogate, folds=folds)
    assert all(trial.answers.options is None for trial in plain.searched.result.trials)
    assert len(rows) > 6  # the experts, their average and midpoints, and what was predicted
    for trial in asking.searched.result.trials:
        assert [len(row) for row in trial.answers.options] == [4] * 16
    for ours, theirs in zip(
        asking.searched.result.trials[:4], plain.searched.result.trials[:4], strict=True
    ):
        assert ours.answers.texts == theirs.answers.texts
    assert module.scores.score == asking.searched.result.score
    if folds is not None:
        for result in asking.searched.cross_fitted.searches:
            assert all(0 < len(trial.answers.options) < 16 for trial in result.trials)


def test_two_processes_write_the_ledger_of_one(searched):
    assert searched(workers=2)[2] == searched()[2]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        torch.AcceleratorError("device lost"),
        RuntimeError("OutOfMemoryError: DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_machine_that_fails_is_no_result_of_a_candidate(error, searched, tmp_path, monkeypatch):
    whole, measure, calls = searched()[2], Scorer._measure, []

    def fail_late(scorer, *request):
        calls.append(request)
        if len(calls) == 6:
            raise error
        return measure(scorer, *request)

    monkeypatch.setattr(Scorer, "_measure", fail_late)
    with pytest.raises(type(error), match=str(error)):
        searched(tmp_path)
    monkeypatch.undo()
    assert searched(tmp_path)[2] == whole


def test_bf16_steers_and_only_fp32_wins(searched):
    callback, module, rows = searched(screen=2)
    result = callback.searched.result
    plain = searched()[2]
    assert [row["precision"] for row in rows[:4]] == ["fp32"] * 4
    assert rows[:4] == plain[:4]  # the experts and their average
    screened = [row for row in rows if row["precision"] == "bf16"]
    assert [row["alpha"] for row in screened] == [
        row["alpha"] for row in rows[4 : 4 + len(screened)]
    ]
    again = rows[4 + len(screened) :]
    assert len(screened) > 2
    assert len(again) <= 2
    for row in again:
        assert row["precision"] == "fp32"
        (first,) = [other for other in screened if other["alpha"] == row["alpha"]]
        assert row["log_likelihood"] == pytest.approx(first["log_likelihood"], rel=0.05)
        assert row["log_likelihood"] != first["log_likelihood"]
    assert result.best.precision == "fp32"
    assert module.scores.score == result.score
    assert all(value.dtype == torch.float32 for value in module.network.parameters())


def test_every_trial_carries_the_answers_that_its_model_gives(searched, make_network):
    callback, module, rows = searched()
    network = make_network(5)
    for trial, row in zip(callback.searched.result.trials, rows, strict=True):
        callback.space.write(trial.alpha, network)
        alone = Scorer(network, module.dev, TASK, Likelihood())()
        assert trial.answers == alone.answers
        assert [len(options) for options in trial.answers.options] == [4] * len(module.dev)
        assert row["answers"] == answers_digest(alone.answers.line())
    assert callback.searched.result.best.answers == module.scores.answers


def test_trials_of_a_fold_carry_the_answers_to_the_other_dialogues(crossed):
    _, callback, _ = crossed
    counts = [
        {(len(trial.answers.texts), len(trial.answers.options)) for trial in search.trials}
        for search in callback.searched.cross_fitted.searches
    ]
    assert [len(sizes) for sizes in counts] == [1, 1]
    (one, other) = (sizes.pop() for sizes in counts)
    assert one[0] == one[1]
    assert one[0] + other[0] == 16


def ledgers(folder):
    return {
        path.name: path.read_bytes()
        for path in folder.glob("*.jsonl")
        if "timings" not in path.name and "attempts" not in path.name
    }


@pytest.fixture(scope="module")
def crossed(searched, tmp_path_factory):
    """A search with two folds: its folder, the callback and the alphas scored for it."""
    folder, scored, measure = tmp_path_factory.mktemp("crossed"), [], Scorer._measure

    def record(scorer, alpha, precision):
        scored.append(alpha)
        return measure(scorer, alpha, precision)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Scorer, "_measure", record)
        callback, module, rows = searched(folder, folds=2)
    assert rows == searched()[2]  # the search on all of dev is the same
    assert module.scores.score == callback.searched.result.score
    return folder, callback, scored


def test_each_alpha_is_scored_once_for_all_folds(crossed):
    folder, callback, scored = crossed
    names = [f"{stem}.jsonl" for stem in ("trials", "fold0", "fold1")]
    beside = [f"{stem}answers.jsonl" for stem in ("", "fold0_", "fold1_")]
    assert set(ledgers(folder)) == {*names, *beside}
    tried = [
        json.dumps(json.loads(line)["alpha"])
        for name in names
        for line in ledgers(folder)[name].splitlines()
    ]
    assert sorted(json.dumps(alpha.tolist()) for alpha in scored) == sorted(set(tried))
    assert len(tried) >= len(set(tried)) + 2 * 4  # the opening at least is shared
    for number, result in enumerate(callback.searched.cross_fitted.searches):
        lines = (folder / f"fold{number}_timings.jsonl").read_text().splitlines()
        assert len(lines) == result.evaluations


def test_two_processes_cross_fit_like_one(searched, crossed, tmp_path):
    folder, callback, _ = crossed
    other, *_ = searched(tmp_path, folds=2, workers=2)
    assert ledgers(tmp_path) == ledgers(folder)
    assert other.searched.cross_fitted.score == callback.searched.cross_fitted.score


@pytest.mark.parametrize("name", ["trials", "fold0", "fold1"])
def test_a_search_killed_in_any_fold_ends_with_the_same_ledgers(name, searched, crossed, tmp_path):
    folder, callback, _ = crossed
    order = ["trials", "fold0", "fold1"]
    whole, at = ledgers(folder), order.index(name)
    for stem in order[: at + 1]:
        answers = "answers.jsonl" if stem == "trials" else f"{stem}_answers.jsonl"
        content, texts = whole[f"{stem}.jsonl"], whole[answers]
        if stem == name:
            content, texts = content[: len(content) * 2 // 3], texts[: len(texts) * 3 // 4]
        (tmp_path / f"{stem}.jsonl").write_bytes(content)
        (tmp_path / answers).write_bytes(texts)
    again, *_ = searched(tmp_path, folds=2)
    assert ledgers(tmp_path) == whole
    assert again.searched.cross_fitted.score == callback.searched.cross_fitted.score
    assert again.searched.cross_fitted.metrics == callback.searched.cross_fitted.metrics


@pytest.fixture
def elsewhere(crossed, tmp_path):
    """The ledgers of a search with two folds as of a machine on which an answer is another."""
    for path in crossed[0].glob("*.jsonl"):
        if path.stem in ("trials", "fold0", "fold1"):
            Ledger(tmp_path / path.name).finish(
                [other(t) for t in read_trials(path, answers=True)]
            )
    return tmp_path


def other(trial):
    texts = ("other", *trial.answers.texts[1:])
    return replace(trial, score=trial.score + 6.25, answers=replace(trial.answers, texts=texts))


def test_a_result_that_scores_otherwise_here_is_kept_and_the_way_out_is_named(
    elsewhere, searched, crossed
):
    """All was scored elsewhere: only Lightning's validation of theta(alpha*) shows it."""
    before = ledgers(elsewhere)
    with pytest.raises(UserError, match=r"Trial \d+ of .* scores .* here .* resume=anyway"):
        searched(elsewhere, folds=2)
    assert ledgers(elsewhere) == before
    callback, module, _ = searched(elsewhere, folds=2, resume="anyway")
    assert ledgers(elsewhere) == before
    (both,) = callback.searched.remeasured
    assert both.measured == module.scores.score == both.recorded - 6.25
    assert (
        callback.searched.result.alpha.tolist()
        == crossed[1].searched.result.alpha.tolist()
        == both.alpha.tolist()
    )


def test_a_fold_that_scores_otherwise_here_stops_before_anything_new(elsewhere, searched):
    path = elsewhere / "fold1.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:6]))
    with pytest.raises(UserError, match=r"Trial \d+ of .*fold1.jsonl scores .* resume=anyway"):
        searched(elsewhere, folds=2)
    assert path.read_bytes() == b"".join(lines[:6])
    callback, *_ = searched(elsewhere, folds=2, resume="anyway")
    assert len(callback.searched.remeasured) == 2  # of the fold, and of the search on all of dev


def test_shrinkage_draws_the_result_toward_the_average_as_far_as_folds_prefer(searched):
    plain, *_ = searched(folds=2)
    callback, module, rows = searched(folds=2, shrinkage=True)
    share, alpha = callback.searched.shrinkage, plain.searched.result.alpha
    assert share in SHARES
    np.testing.assert_array_equal(callback.searched.result.alpha, (1 - share) * alpha + share / 3)
    assert module.scores.score == callback.searched.result.score
    assert callback.searched.cross_fitted.score == plain.searched.cross_fitted.score
    assert len(rows) <= plain.searched.result.evaluations + 1
    # By hand: each fold's dialogues answered by the drawn-in alpha of the search without it.
    examples = module.dev.examples
    member = fold_of(examples, 2)
    network = module.network
    scores = {}
    for drawn in SHARES:
        texts = [None] * len(examples)
        for fold, result in enumerate(plain.searched.cross_fitted.searches):
            callback.space.write((1 - drawn) * result.alpha + drawn / 3, network)
            answers = Scorer(network, module.dev, TASK, Likelihood())().texts
            for position in np.flatnonzero(member == fold):
                texts[position] = answers[position]
        scores[drawn] = TASK.score(texts, examples)["score"]
    assert share == max(drawn for drawn in SHARES if scores[drawn] == max(scores.values()))
