"""The plan as a whole, on a toy corpus: what it reads, and what it says about its noise."""

import json
import logging
import pickle
import shutil
from dataclasses import fields, replace
from functools import partial

import numpy as np
import pytest

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Greedy
from dfwe.scoring.scorer import scores_of
from dfwe.search.baselines import line, single_experts
from dfwe.search.config import Search
from dfwe.search.ledger import read_trials
from dfwe.search.nelder_mead import cone, nelder_mead
from dfwe.search.surrogate import surrogate
from dfwe.stages.evaluate import TestRecord
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.stages.train import TrainRecord
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present, results
from dfwe.tasks.answers import FreeText, Labels
from dfwe.tasks.metrics import F1, ExactMatch, MultilabelF1
from dfwe.weights import merge
from dfwe.weights.groups import block, matching, part

pytestmark = pytest.mark.slow  # whole plans
TIES = partial(controls.merged, rules=merge.ties, points=3)
TRAINED = Stage("finetune", ("experts", "finetune"))
BEFORE = Stage("interpolate", (*TRAINED.computes, "interpolate"))
ALL = Stage("all", (*BEFORE.computes, "evaluate"))


def without_options(*corpus, read):
    """Examples in free text."""
    return [replace(example, options=()) for example in read(*corpus)]


@pytest.fixture(scope="module")
def trained(make_study, module_context):
    """A store with the experts of the study, fine-tuned."""
    execute(Plan(make_study()).steps, TRAINED, module_context)
    return module_context.store.root


@pytest.fixture
def context(trained, context):
    """A context whose store has the experts."""
    shutil.copytree(trained, context.store.root)
    return context


@pytest.fixture
def plan(make_study):
    return Plan(make_study())


def test_nothing_reads_test_before_the_evaluation(make_study, context, tmp_path):
    plan, context = Plan(make_study(closed=True)), replace(context, store=Store(tmp_path / "new"))
    execute(plan.steps, BEFORE, context)
    present(plan, BEFORE, context)
    assert json.loads((context.output / "results.json").read_text())["dfwe"]["dev"] is not None
    with pytest.raises(AssertionError, match="test split was read"):
        execute(plan.steps, ALL, context)


def test_results_tell_the_noise_from_the_gain(plan, context, caplog):
    with caplog.at_level(logging.INFO):
        execute(plan.steps, ALL, context)
    messages = [record.message for record in caplog.records]
    assert sum(message.startswith("Dev has 16 instances in 4") for message in messages) == 1
    shown = results(plan, ALL, context.store)
    assert shown.optimism == pytest.approx(shown.dfwe.dev - shown.dfwe.test)
    low, high = shown.interval
    assert low <= shown.delta <= high
    plain = shown.one_standard_error
    search = context.store.record(plan.interpolation.recipe, SearchRecord)
    error = search.one_standard_error.standard_error
    assert shown.dfwe.dev - error <= plain.dev <= shown.dfwe.dev
    assert sum(plain.alpha.values()) == pytest.approx(1)
    assert plain.test is not None
    assert shown.cross_fitted is None
    selection = shown.selection
    gains = (selection.over_uniform, search.selection.over_uniform)
    assert gains[0].model_dump_json() == gains[1].model_dump_json()
    assert list(selection.mean.values()) == search.selection.mean.tolist()
    assert not selection.over_uniform.certificate.exact


def test_alpha_stands_in_the_order_of_the_members_and_names_the_winning_trial(plan, context):
    execute(plan.steps, BEFORE, context)
    store, recipe = context.store, plan.interpolation.recipe
    search = store.record(recipe, SearchRecord)
    trials = read_trials(store.folder(recipe) / TRIALS)
    assert search.members == tuple(range(5))
    assert trials[search.best].alpha.tolist() == search.alpha.tolist()
    assert trials[search.best].score == search.dev.score == max(t.score for t in trials)
    members = [recipe.parents[member].name for member in search.members]
    assert members == [step.recipe.name for step in plan.finetuned]
    for scores, step in zip(search.experts, plan.finetuned, strict=True):
        dev = store.record(step.recipe, TrainRecord).dev
        assert scores.score == pytest.approx(dev.score)
        assert scores.log_likelihood == pytest.approx(dev.log_likelihood, abs=1e-4)
    present(plan, BEFORE, context)
    shown = json.loads((context.output / "results.json").read_text())
    labels = [step.label for step in plan.finetuned]
    assert list(shown["dfwe"]["alpha"].items()) == list(
        zip(labels, search.alpha.tolist(), strict=True)
    )


def test_labels_and_groups_change_no_address(make_study):
    plan = Plan(make_study(controls={"fusing": controls.fusing, "ties": TIES}))
    renamed = 0
    for step in plan.steps:
        names = {item.name for item in fields(step) if item.init} & {"label", "group"}
        other = replace(step, **{name: f"another {name}" for name in names})
        assert other.recipe.name == step.recipe.name
        renamed += other.label == "another label"
    assert renamed >= len(plan.experts) + len(plan.finetuned) + 4


def test_every_trial_keeps_its_answers(plan, context):
    execute(plan.steps, BEFORE, context)
    store, recipe = context.store, plan.interpolation.recipe
    examples = plan.study.task.examples(plan.study.corpus, "dev")
    for trial in read_trials(store.folder(recipe) / TRIALS, answers=True):
        assert len(trial.answers.texts) == len(trial.answers.log_likelihoods) == len(examples)
        assert scores_of(trial.answers, examples, plan.study.task).score == trial.score
        assert trial.log_likelihood == pytest.approx(np.mean(trial.answers.log_likelihoods))


def test_every_step_pickles_to_less_than_100_kb(make_study):
    plan = Plan(make_study(controls={"fusing": controls.fusing, "seeds": controls.seeds}))
    plan.study.task.examples(plan.study.corpus, "train")
    for step in plan.steps:
        pickled = pickle.dumps(step)
        assert len(pickled) < 100_000
        assert pickle.loads(pickled).recipe.name == step.recipe.name


def test_two_processes_test_as_one_does(plan, context, monkeypatch):
    execute(plan.steps, ALL, context)
    address = plan.evaluation.recipe
    folder = context.store.folder(address)
    alone = context.store.record(address, TestRecord), plan.evaluation.answers(context.store)
    shutil.rmtree(folder)
    monkeypatch.setattr("dfwe.data.batches.scoring_tokens", lambda device: 100)  # many batches
    execute(plan.steps, ALL, replace(context, workers=2))
    shared = context.store.record(address, TestRecord), plan.evaluation.answers(context.store)
    assert shared[0].keys == alone[0].keys
    for key in alone[0].keys:
        assert shared[1][key].texts == alone[1][key].texts
        assert shared[0].scores(key).score == alone[0].scores(key).score
        assert shared[0].scores(key).log_likelihood == pytest.approx(
            alone[0].scores(key).log_likelihood, abs=1e-4
        )


def test_a_search_killed_in_its_commit_is_not_repeated(plan, context, monkeypatch):
    def kill(path):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("dfwe.pipeline.store.sync", kill)
        with pytest.raises(KeyboardInterrupt):
            execute(plan.steps, BEFORE, context)
    timings = context.store.work(plan.interpolation.recipe) / "timings.jsonl"
    timed = timings.read_text()
    execute(plan.steps, BEFORE, replace(context, output=context.output / "again"))
    folder = context.store.folder(plan.interpolation.recipe)
    assert (folder / timings.name).read_text() == timed  # of what was scored, the seconds


@pytest.mark.parametrize("groups", [None, partial(matching, patterns={"a": ["enc*"], "b": ["*"]})])
def test_folds_say_how_hopeful_devs_score_is(groups, make_study, context):
    strategy = partial(nelder_mead, evaluations=9, iterations=3)
    plain, crossed = (
        Plan(make_study(sources=("tone",), search=Search(strategy, groups, folds=folds)))
        for folds in (None, 2)
    )
    for plan in (plain, crossed):
        plan.check(context.store)
        execute(plan.steps, BEFORE, context)
    present(crossed, BEFORE, context)
    shown = results(crossed, BEFORE, context.store)
    assert shown.dfwe == results(plain, BEFORE, context.store).dfwe  # chosen on all of dev
    scores = shown.cross_fitted
    assert scores.optimism == shown.dfwe.dev - scores.score
    assert shown.selection.over_uniform.certificate.exact
    assert set(shown.selection.mean) == set(shown.dfwe.alpha)
    assert len(scores.alphas) == 2
    assert set(scores.alphas[0]) == set(shown.dfwe.alpha)
    searches = [(context.output / f"fold{fold}.jsonl").read_text().splitlines() for fold in (0, 1)]
    assert scores.evaluations <= sum(map(len, searches)) - 2 * 4
    alone, both = (
        context.store.record(plan.interpolation.recipe, SearchRecord).cost
        for plan in (plain, crossed)
    )
    passes = both.evaluations + scores.evaluations
    assert both.tokens * alone.evaluations == alone.tokens * passes


@pytest.mark.parametrize("name", ["dfwe", "baseline"])
def test_a_task_may_be_called_as_results_call_a_model(name, make_study, context):
    study = make_study()
    usual, named = Plan(study), Plan(replace(study, task=replace(study.task, name=name)))
    for plan in (usual, named):
        execute(plan.steps, ALL, context)
    shown, expected = (results(plan, ALL, context.store) for plan in (named, usual))
    assert shown.experts[0].label == name
    assert (shown.baseline, shown.dfwe.test) == (expected.baseline, expected.dfwe.test)


@pytest.mark.parametrize(
    ("search", "sentence"),
    [
        (Search(partial(line, end=9)), "cannot end at 9"),
        (Search(line, groups=partial(matching, patterns={"a": ["*"]})), "one alpha"),
    ],
)
def test_a_search_that_cannot_be_made_is_refused_before_any_work(
    search, sentence, make_study, context
):
    with pytest.raises(UserError, match=sentence):
        Plan(make_study(search=search)).check(context.store)


@pytest.mark.parametrize(
    ("answer", "metric", "sentence"),
    [
        (FreeText(), ExactMatch(), "task=mood is answered in free text"),
        (Labels("calm"), MultilabelF1(), "task=mood may have several labels an example"),
    ],
)
def test_a_search_by_options_is_refused_for_tasks_without_one_each(
    answer, metric, sentence, make_study, context
):
    study = make_study(search=Search(surrogate), decoding=Greedy())
    read = partial(without_options, read=study.task.read)
    changed = {"read": read} if isinstance(answer, FreeText) else {}
    task = replace(study.task, answer=answer, metrics=[metric], **changed)
    study = replace(study, task=task)
    with pytest.raises(UserError, match=sentence):
        Plan(study).check(context.store)
    study = replace(study, search=Search(nelder_mead))
    Plan(study).check(context.store)
    with pytest.raises(UserError, match="A metric of single labels got the answer"):
        Plan(replace(study, task=replace(task, metrics=[F1("micro")]))).check(context.store)


def mood_with(study, *labels):
    """The study, whose task has more labels, which no example has."""
    return replace(study, task=replace(study.task, labels=(*study.corpus.labels("mood"), *labels)))


def test_a_label_that_the_tokenizer_cannot_write_is_told_before_any_work(
    make_study, context, caplog
):
    study = mood_with(make_study(), "<pad>")
    with pytest.raises(UserError, match="cannot write the label '<pad>' of task=mood"):
        Plan(replace(study, decoding=Greedy())).check(context.store)
    Plan(study).check(context.store)
    assert "cannot write the label '<pad>' of task=mood: its likelihood is" in caplog.text


def test_beams_of_a_models_settings_are_ignored_and_that_is_said(
    make_study, context, caplog, tmp_path
):
    study = make_study(sources=("tone", "air"))
    folder = shutil.copytree(study.model.folder, tmp_path / "beams")
    path = folder / "generation_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"num_beams": 4, "top_k": 9}))
    study = replace(study, model=replace(study.model, path=str(folder)))
    with caplog.at_level(logging.INFO):
        Plan(study).check(context.store)
        assert "ignored" not in caplog.text  # no text is generated
        Plan(replace(study, decoding=Greedy())).check(context.store)
    lines = [record.message for record in caplog.records if "ignored" in record.message]
    assert lines == [f"Answers are greedy: num_beams=4, top_k=9 of {folder} is ignored."]


def test_more_folds_than_dialogues_are_refused_before_any_work(make_study, context):
    plan = Plan(make_study(search=Search(nelder_mead, folds=5)))
    with pytest.raises(UserError, match="more than the 4 dialogues"):
        plan.check(context.store)


def test_further_experts_are_mixed_behind_the_fine_tuned_ones(make_study, context):
    search = Search(partial(cone, evaluations=12, iterations=2), experts=["longer", "theta_0"])
    plan = Plan(make_study(sources=("tone",), search=search))
    execute(plan.steps, ALL, context)
    assert [step.label for step in plan.members][-2:] == ["longer", "base"]
    record = context.store.record(plan.interpolation.recipe, SearchRecord)
    assert len(record.experts) == len(record.alpha) == 5
    shown = results(plan, ALL, context.store)
    assert [expert.label for expert in shown.experts] == list(shown.dfwe.alpha)
    assert all(expert.dev is not None and expert.test is not None for expert in shown.experts)
    assert controls.soup(plan, single_experts).experts == plan.finetuned


def test_the_slope_of_a_cone_is_over_the_models_blocks(make_study, context):
    sloped = partial(cone, evaluations=12, slope=True)
    search = Search(sloped, partial(block), experts=["theta_0"])
    plan = Plan(make_study(sources=("tone",), search=search))
    plan.check(context.store)
    execute(plan.steps, BEFORE, context)
    record = context.store.record(plan.interpolation.recipe, SearchRecord)
    assert set(record.groups) > {"embedding", "encoder.0", "encoder.1", "decoder.1", "head"}
    trials = read_trials(context.store.folder(plan.interpolation.recipe) / TRIALS)
    s = np.stack([1 - trial.alpha[:, -1] for trial in trials])  # (m, g)
    place = [record.groups.index(name) for name in ("embedding", "encoder.0", "encoder.1", "head")]
    bottom, half, top, head = s[:, place].T
    np.testing.assert_allclose(half, (bottom + head) / 2)
    np.testing.assert_allclose(top, head)
    assert np.abs(head - bottom).max() > 0.1


@pytest.mark.parametrize("group_of", [part, None])
def test_a_slope_over_anything_but_blocks_is_refused_before_any_work(
    group_of, make_study, context
):
    groups = None if group_of is None else partial(group_of)
    search = Search(partial(cone, slope=True), groups, experts=["theta_0"])
    with pytest.raises(UserError, match="search/groups=block"):
        Plan(make_study(search=search)).check(context.store)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"experts": ["longer", "longer"]}, "contains a duplicate"),
        ({"experts": ["shorter"]}, r"search\.experts"),
        ({"strategy": cone}, r"name it last, as in search\.experts=\[theta_0\]"),
        ({"strategy": cone, "experts": ["theta_0", "longer"]}, "name it last"),
    ],
)
def test_further_experts_that_cannot_be_are_refused(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        Search(**{"strategy": single_experts} | settings)


def test_a_persons_checkpoints_have_no_further_experts(make_study):
    with pytest.raises(UserError, match=r"with checkpoints=\[\.\.\.\] name such a model there"):
        make_study(checkpoints=("a", "b"), search=Search(single_experts, experts=["longer"]))


def test_a_search_that_starts_by_noise_takes_its_errors_from_the_answers(make_study, context):
    strategy = partial(nelder_mead, evaluations=12, iterations=2, start="noise", leave_out=True)
    plan = Plan(make_study(search=Search(strategy, folds=2)))
    execute(plan.steps, BEFORE, context)
    record = context.store.record(plan.interpolation.recipe, SearchRecord)
    trials = read_trials(context.store.folder(plan.interpolation.recipe) / TRIALS)
    assert len(trials) > 6
    assert record.cross_fitted is not None


def test_a_control_has_a_name_that_a_table_can_show(make_study):
    with pytest.raises(
        UserError, match=r"controls has the name 'a\\nb', which should be 1 to 100"
    ):
        make_study(controls={"a\nb": Deferred("dfwe.studies.ensembling.controls.joint")})
