"""K-fold experts on a toy study: what each has read, how alpha is scored, what is reported."""

import json
import signal
from collections import Counter
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from dfwe.data.tokenization import tokenize
from dfwe.errors import UserError
from dfwe.pipeline.executor import Stage, compute, execute, lineage
from dfwe.pipeline.recipe import digest
from dfwe.scoring.backends import t5
from dfwe.scoring.scorer import Scorer
from dfwe.search.config import Search
from dfwe.search.ledger import read_trials
from dfwe.search.nelder_mead import nelder_mead
from dfwe.stages.evaluate import TestRecord
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.stages.k_fold import Folds, Joined, WithoutFold, k_folds
from dfwe.stages.refit import Refit, RefitRecord
from dfwe.stages.train import Train, TrainRecord
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.comparison import entries
from dfwe.studies.ensembling.out_of_fold import k_fold_results
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.tables import out_of_fold
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TrainingSteps
from dfwe.weights.loading import load

ALL = Stage("all", ("experts", "finetune", "interpolate", "evaluate"))
K = 2


@pytest.fixture(scope="module")
def study(make_study):
    training = TrainingConfig(learning_rate=3e-3, epochs=2, effective_batch=8, warmup=2)
    return make_study(sources=("tone",), training=training)


@pytest.fixture(scope="module")
def folds(study):
    return Folds(study.corpus, study.task, K)


def read(task, corpus, split):
    """The dialogues that a task's examples come from."""
    return {example.dialogue for example in task.examples(corpus, split)}


def test_every_dialogue_is_in_one_fold_and_each_fold_has_its_part_of_both_splits(study, folds):
    assert folds.of.keys() == read(study.task, study.corpus, "train") | read(
        study.task, study.corpus, "dev"
    )
    for split in ("train", "dev"):
        parts = Counter(fold for name, fold in folds.of.items() if name.startswith(split))
        assert parts == {fold: 4 / K for fold in range(K)}


@pytest.mark.parametrize("fold", range(K))
def test_no_task_reads_the_fold_that_is_left_out(fold, study, folds):
    corpus = WithoutFold(folds, fold)
    for task in (study.task, *study.sources):
        for split in ("train", "dev"):
            left = {d for d in read(task, study.corpus, split) if folds.of[d] != fold}
            assert read(task, corpus, split) == left
        assert read(task, corpus, "test") == read(task, study.corpus, "test")


def test_train_and_dev_are_one_for_the_target_alone(study, folds):
    corpus, (source,) = Joined(folds), study.sources
    for split in ("train", "dev"):
        examples = study.task.examples(corpus, split)
        assert len({example.id for example in examples}) == len(examples) == 32
        order = [folds.of[example.dialogue] for example in examples]
        assert order == sorted(order)
        assert source.examples(corpus, split) == source.examples(study.corpus, split)
    assert study.task.examples(corpus, "test") == study.task.examples(study.corpus, "test")


def test_more_folds_than_dialogues_are_refused(study):
    plan = Plan(replace(study, controls={"k_fold": partial(controls.k_fold, k=5)}))
    with pytest.raises(UserError, match="5 folds are more than the 4 dialogues of the train sp"):
        plan.check(SimpleNamespace())


def test_each_training_of_the_study_is_done_without_each_fold_and_on_all(study, folds):
    """Both stages; what has no examples, theta_0, is the same everywhere."""
    search = replace(study.search, experts=("theta_0",))
    plan = Plan(replace(study, search=search))
    step = k_folds(plan.interpolation, K)
    assert step.experts[-1] == plan.base
    for final, without, plain in zip(
        step.experts[:-1], zip(*step.answering, strict=True), plan.finetuned, strict=False
    ):
        assert isinstance(final, Refit)
        assert final.folds == without
        for fold, training in enumerate(without):
            view = WithoutFold(folds, fold)
            assert training == replace(plain, corpus=view, start=replace(plain.start, corpus=view))
        assert final.training.start.training == replace(plain.start, corpus=Joined(folds))
        assert final.training.start.folds == tuple(training.start for training in without)


def two_experts(plan):
    """The control with the first two experts alone, before their fine-tuning."""
    return k_folds(replace(plan.interpolation, experts=plan.experts[:2]), K)


@pytest.fixture(scope="module")
def plan(study):
    search = Search(partial(nelder_mead, evaluations=8, iterations=3))
    return Plan(replace(study, search=search, controls={"k_fold": two_experts}))


@pytest.fixture(scope="module")
def method(plan):
    return next(method for method in plan.methods if method.name == "k_fold")


@pytest.fixture(scope="module")
def context(method, module_context):
    execute(lineage(method.test), ALL, module_context)
    return module_context


def test_the_final_experts_have_the_median_of_the_folds_epochs(method, context):
    for expert in method.step.experts:
        best = [context.store.record(s.recipe, TrainRecord).best_epoch for s in expert.folds]
        record = context.store.record(expert.recipe, RefitRecord)
        assert record.epochs == len(record.train_loss) == sorted(best)[0]


def test_a_final_expert_is_a_plain_training_on_train_and_dev(method, study, context):
    """Ten lines of torch, over the same batches and with the same draws of dropout."""
    expert = method.step.experts[0]
    network, tokenizer = load(study.model.folder)
    corpus = Joined(Folds(study.corpus, study.task, K))
    split = study.model.tokenize(study.task, corpus, "train", tokenizer)
    steps = TrainingSteps({"mood": split}, study.training, study.seed)
    adam = torch.optim.Adam(network.train().parameters(), lr=3e-3, fused=True)
    taken = 0
    for epoch in range(context.store.record(expert.recipe, RefitRecord).epochs):
        steps.set_epoch(epoch)
        torch.manual_seed(int(digest([study.seed, epoch])[:15], 16))
        for batches in (steps[number] for number in range(len(steps))):
            adam.zero_grad()
            for batch in batches:
                (t5.token_losses(network, batch) * batch.weight).sum().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            taken += 1
            adam.param_groups[0]["lr"] = 3e-3 * min(1, taken / 2)
            adam.step()
    trained, _ = load(context.store.weights(expert.recipe))
    for ours, theirs in zip(trained.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def mixed(context, steps, alpha):
    """The network of sum_i alpha_i theta_i, by the state dicts of transformers."""
    loaded = [load(context.store.weights(step.recipe)) for step in steps]
    states = [network.state_dict() for network, _ in loaded]
    network, tokenizer = loaded[0]
    mean = {
        name: sum(a * state[name] for a, state in zip(alpha, states, strict=True))
        for name in states[0]
    }
    network.load_state_dict(mean)
    return network.eval(), tokenizer


def test_a_candidate_answers_each_fold_by_experts_that_have_not_seen_it(
    method, study, folds, context
):
    store, step = context.store, method.step
    record = store.record(step.recipe, SearchRecord)
    trials = read_trials(store.folder(step.recipe) / TRIALS, answers=True)
    task, corpus = study.task, study.corpus
    every = [*task.examples(corpus, "train"), *task.examples(corpus, "dev")]
    assert len(trials) == record.cost.evaluations > 3
    for trial in (trials[0], trials[-1]):
        texts, held_out = [], []
        for fold in range(K):
            network, tokenizer = mixed(context, step.answering[fold], trial.alpha)
            examples = tuple(e for e in every if folds.of[e.dialogue] == fold)
            split = tokenize(examples, tokenizer, max_input=32, max_target=6)
            texts += Scorer(network, split, task, study.decoding)().texts
            held_out += examples
        assert trial.answers.texts == tuple(texts)
        assert trial.score == task.score(texts, held_out)["score"]
    best = trials[record.best]
    assert best.score == record.dev.score == max(trial.score for trial in trials)
    network, _ = mixed(context, step.experts, best.alpha)
    final, _ = load(store.weights(step.recipe))
    for ours, plain in zip(final.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-6)


def test_folds_are_reported_with_the_rank_correlation_of_the_experts(plan, method, context):
    store = context.store
    search = store.record(method.step.recipe, SearchRecord)
    test = store.record(method.test.recipe, TestRecord)
    shown = k_fold_results(plan, store)["k_fold"]
    assert (shown.folds, shown.out_of_fold) == (K, search.dev.score)
    assert shown.test == test.roles["mixture"].score
    assert list(shown.alpha.values()) == search.alpha.tolist()
    for row, before, after, expert in zip(
        shown.experts, search.experts, test.experts, method.step.experts, strict=True
    ):
        assert (row.label, row.out_of_fold, row.test) == (expert.label, before.score, after.score)
        assert row.epochs == store.record(expert.recipe, RefitRecord).epochs
    assert shown.rank_correlation is None  # of two experts
    untested = k_fold_results(plan, store, tested=False)["k_fold"]
    assert (untested.out_of_fold, untested.test) == (shown.out_of_fold, None)
    (sheet,) = out_of_fold(SimpleNamespace(finished={"mood": [(plan, {})]}, store=store))
    (row,) = sheet.rows
    assert row[1:5] == ["K-fold experts", "1", f"{shown.out_of_fold:.2f}", f"{shown.test:.2f}"]


def test_the_control_costs_all_of_its_trainings_and_has_no_dev_score(plan, method, context):
    store = context.store
    entry = entries(plan, store)["k_fold"]
    trained = {step for step in lineage(method.step) if isinstance(step, Train | Refit)}
    assert len(trained) == 2 * (K + 1)
    records = [store.record(step.recipe, step.record) for step in trained]
    search = store.record(method.step.recipe, SearchRecord)
    assert entry.cost.tokens == search.cost.tokens + sum(r.cost.tokens for r in records)
    assert entry.cost.evaluations == search.cost.evaluations
    assert entry.dev is None
    assert entry.test == k_fold_results(plan, store)["k_fold"].test


def results_of(context, steps):
    """The weights and ledgers of steps, as bytes."""
    folders = [context.store.folder(step.recipe) for step in steps]
    return [
        {
            path.name: path.read_bytes()
            for name in ("model.safetensors", "trials.jsonl", "answers.jsonl")
            if (path := folder / name).exists()
        }
        for folder in folders
    ]


def test_a_search_and_a_refit_that_are_stopped_resume(method, context, tmp_path, stopped):
    step, store = method.step, context.store
    expert = step.experts[0]
    whole = results_of(context, (expert, step))
    work = {s: store.root / ".work" / s.recipe.name for s in (expert, step)}
    moments = [(step, work[step] / TRIALS, "\n", 5), (expert, work[expert] / "resume.json", "", 1)]
    for number, (part, path, text, times) in enumerate(moments):
        store.folder(part.recipe).rename(tmp_path / str(number))
        assert stopped(partial(compute, part, context), signal.SIGTERM, path, text, times) == 143
    kept = len((work[step] / TRIALS).read_text().splitlines())
    for part in (expert, step):
        compute(part, context)
    assert results_of(context, (expert, step)) == whole
    first, *_ = (store.folder(step.recipe) / "attempts.jsonl").read_text().splitlines()[-1:]
    assert json.loads(first)["first"] >= kept >= 5
