"""A person's own checkpoints on a toy corpus: their names, and what a move leaves as it is."""

import csv
import shutil
from dataclasses import replace

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Classify
from dfwe.stages.evaluate import TestRecord
from dfwe.stages.import_checkpoint import import_checkpoints
from dfwe.stages.interpolate import SearchRecord
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present, results
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import save

pytestmark = pytest.mark.slow  # searches over checkpoints
ALL = Stage("all", ("import", "interpolate", "evaluate"))


@pytest.fixture(scope="module")
def computed(make_study, make_network, tokenizer, module_context):
    """A folder with two different checkpoints, a and b, and a store with their mixture."""
    folder = module_context.store.root.parent
    for seed, name in enumerate("ab"):
        save(make_network(seed), tokenizer, folder / name)
    names = tuple(str(folder / name) for name in "ab")
    execute(Plan(make_study(sources=(), checkpoints=names)).steps, ALL, module_context)
    return folder


@pytest.fixture
def folder(computed, tmp_path, monkeypatch):
    """A working directory with the two checkpoints, and the store of `context` as it is then."""
    shutil.copytree(computed, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mixed(make_study, context):
    """Checkpoints -> their plan, computed, and its results."""

    def run(*names, context=context):
        plan = Plan(make_study(sources=(), checkpoints=names))
        execute(plan.steps, ALL, context)
        return plan, results(plan, ALL, context.store)

    return run


def scores_of(results):
    """The numbers of a run, without names and times."""
    alpha = list(results.dfwe.alpha.values())
    experts = [(row.dev, row.test) for row in results.experts]
    return alpha, experts, results.baseline, results.uniform, results.delta


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "merges.txt"])
def test_all_that_decides_answers_is_in_the_address(name, folder):
    shutil.rmtree(folder / "b")
    shutil.copytree(folder / "a", folder / "b")
    one, other = import_checkpoints(("a", "b"))
    assert one.recipe == other.recipe
    (folder / "b" / name).write_text('{"forced_bos_token_id": 7}')
    assert import_checkpoints(("a", "b"))[1].recipe.address != one.recipe.address


def test_folders_of_one_name_without_parents_that_differ_are_numbered(folder):
    (folder / "x").mkdir()
    (folder / "b").rename(folder / "x" / "a")
    assert [step.label for step in import_checkpoints(("x/a", "a"))] == ["1 x/a", "2 a"]


def test_folders_of_one_name_are_called_after_the_parents_that_differ(folder, monkeypatch):
    for name in "ab":
        (folder / name).rename(folder / "final")
        (folder / name).mkdir()
        (folder / "final").rename(folder / name / "final")
    assert [
        step.label for step in import_checkpoints(("a/final", str(folder / "b" / "final")))
    ] == ["a", "b"]
    monkeypatch.chdir(folder / "a" / "final")
    assert [step.label for step in import_checkpoints((".", "../../b/final/"))] == ["a", "b"]


@pytest.mark.parametrize("role", ["baseline", "uniform", "mixture"])
def test_a_checkpoint_named_like_a_role_is_tested_as_itself(role, folder, mixed, context):
    _, expected = mixed("a", "b")
    (folder / "b").rename(folder / role)
    again = folder / "again"
    renamed = replace(context, store=Store(again / "store"), output=again)
    plan, results = mixed("a", role, context=renamed)
    assert scores_of(results) == scores_of(expected)
    assert results.baseline.test == results.experts[0].test
    assert list(results.dfwe.alpha) == ["a", role]
    present(plan, ALL, renamed)
    columns = _columns(again / "answers.csv")
    assert columns[f"2 {role}"] == columns_of(plan, renamed)[1]
    assert columns[role] == columns_of(plan, renamed)[role]


def columns_of(plan, context):
    """Tested model -> its answers, as stored."""
    answers = plan.evaluation.answers(context.store)
    return {key: value.texts for key, value in answers.items()}


def test_equal_weights_are_scored_once(folder, mixed, context, monkeypatch):
    import dfwe.callbacks.progress as progress

    scored, bar = {}, progress.scoring_bar

    def counted(label, total):
        scored[label] = total
        return bar(label, total)

    monkeypatch.setattr(progress, "scoring_bar", counted)
    _, results = mixed("a", "b", context=replace(context, store=Store(folder / "again")))
    assert results.one_standard_error.test is not None
    assert 4 <= scored["test mood"] <= 5  # a, b, the mixture, the average; perhaps the plainest


@pytest.mark.parametrize("names", [("c", "b"), ("b", "a")])
def test_checkpoints_that_moved_keep_their_results(names, folder, mixed, context):
    plan, before = mixed("a", "b")
    for name, now in zip("ab", names, strict=True):
        (folder / name).rename(folder / f"{now}.new")
    for now in names:
        (folder / f"{now}.new").rename(folder / now)
    moved, after = mixed(*names)
    assert moved.evaluation.recipe == plan.evaluation.recipe  # nothing was computed again
    assert scores_of(after) == scores_of(before)
    assert list(after.dfwe.alpha) == list(names)
    assert list(after.one_standard_error.alpha) == list(names)
    assert [row.label for row in after.experts] == list(names)
    present(moved, ALL, context)
    assert (context.output / "search.png").is_file()
    columns = _columns(context.output / "answers.csv")
    examples = moved.evaluation.examples
    assert columns["input"] == tuple(example.source for example in examples)
    assert columns["gold"] == tuple(example.target for example in examples)
    stored = columns_of(plan, context)
    assert [columns[name] for name in names] == [stored[0], stored[1]]
    card = (context.output / "model_card.md").read_text()
    for name, alpha in after.dfwe.alpha.items():
        assert f"| {name} | {alpha:.6f} |" in card


def test_a_record_knows_members_by_place_and_no_names(folder, mixed, context):
    plan, results = mixed("a", "b")
    search = context.store.record(plan.interpolation.recipe, SearchRecord)
    assert search.members == (0, 1)
    assert search.alpha.tolist() == list(results.dfwe.alpha.values())
    tested = context.store.record(plan.evaluation.recipe, TestRecord)
    assert tested.keys[-2:] == (0, 1)
    assert [scores.score for scores in tested.experts] == [row.test for row in results.experts]


def test_a_move_between_search_and_test_leaves_alpha_with_its_weights(folder, mixed, context):
    plan, before = mixed("a", "b")
    context.store.folder(plan.evaluation.recipe).rename(folder / "tested")
    (folder / "a").rename(folder / "c")
    _, after = mixed("c", "b")
    assert after.one_standard_error.test == before.one_standard_error.test
    assert scores_of(after) == scores_of(before)


def test_answers_that_are_fewer_than_the_tested_models_are_refused(folder, mixed, context):
    plan, _ = mixed("a", "b")
    path = context.store.folder(plan.evaluation.recipe) / "answers.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match=r"is damaged: answers\.jsonl has \d+ bytes"):
        plan.evaluation.answers(context.store)


def _columns(path):
    """Name -> texts of a table with distinct columns."""
    with path.open(newline="") as file:
        names, *rows = csv.reader(file)
    assert len(set(names)) == len(names)
    return dict(zip(names, zip(*rows, strict=True), strict=True))


@pytest.mark.parametrize("other", ["a", "a/", "./a", "link"])
def test_one_checkpoint_under_two_names_is_refused(other, folder, make_study):
    (folder / "link").symlink_to("a")
    with pytest.raises(UserError, match="contains a duplicate"):
        make_study(sources=(), checkpoints=("a", other))


@pytest.mark.parametrize("odd", [0, 1])
def test_each_head_is_to_have_the_tasks_labels_in_the_tasks_order(
    odd, bert, folder, make_study, context
):
    study = make_study(
        sources=(),
        checkpoints=("x", "y"),
        model=SequenceClassifier("bert", str(bert)),
        decoding=Classify(),
        training=TrainingConfig(monitor="own"),
    )
    labels = study.corpus.labels("mood")
    for number, name in enumerate(study.checkpoints):
        named = labels[::-1] if number == odd else labels
        network = AutoModelForSequenceClassification.from_pretrained(
            bert, id2label=dict(enumerate(named)), label2id={x: i for i, x in enumerate(named)}
        )
        save(network, AutoTokenizer.from_pretrained(bert), folder / name)
    with pytest.raises(UserError, match=f"head of {'xy'[odd]} has the labels {labels[-1]}"):
        Plan(study).check(context.store)
