"""A person's own checkpoints on a toy corpus: what they are called, and what moves with them."""

import csv
import json
import shutil
from dataclasses import replace

import pytest
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.files import write_json
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Classify
from dfwe.stages.import_checkpoint import ROLES, by_label, import_checkpoints
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present, results
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import save

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
ALL = Stage("all", ("import", "interpolate", "evaluate"))


@pytest.fixture
def folder(tmp_path, make_network, tokenizer, monkeypatch):
    """A working directory with two different checkpoints, a and b."""
    for seed, name in enumerate("ab"):
        save(make_network(seed), tokenizer, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mixed(make_study, context):
    """Checkpoints -> their plan, made, and its results."""

    def run(*names, context=context):
        plan = Plan(make_study(sources=(), checkpoints=names))
        execute(plan.steps, ALL, context)
        return plan, results(plan, ALL, context.store)

    return run


def measured(found):
    """The numbers of a run, without the names and the times."""
    alpha = list(found["dfwe"]["alpha"].values())
    experts = [(row["dev"], row["test"]) for row in found["experts"]]
    return alpha, experts, found["baseline"], found["uniform"], found["delta"]


@pytest.mark.parametrize("name", ["generation_config.json", "tokenizer_config.json", "merges.txt"])
def test_all_that_decides_answers_is_in_the_address(name, folder):
    shutil.rmtree(folder / "b")
    shutil.copytree(folder / "a", folder / "b")
    one, other = import_checkpoints(("a", "b"))
    assert one.recipe == other.recipe
    (folder / "b" / name).write_text('{"forced_bos_token_id": 7}')
    assert import_checkpoints(("a", "b"))[1].recipe.address != one.recipe.address


@pytest.mark.parametrize("names", [("a", "baseline"), ("dfwe", "b"), ("x/a", "a")])
def test_labels_are_distinct_and_no_roles(names, folder):
    for name, place in zip("ab", names, strict=True):
        (folder / name).rename(temporary := folder / f"{name}.aside")
        (folder / place).parent.mkdir(exist_ok=True)
        temporary.rename(folder / place)
    labels = [step.label for step in import_checkpoints(names)]
    assert labels == [f"1 {names[0]}", f"2 {names[1]}"]
    assert not ROLES & set(labels)


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


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_checkpoint_named_like_a_role_is_tested_as_itself(role, folder, mixed, context):
    _, expected = mixed("a", "b")
    (folder / "b").rename(folder / role)
    again = folder / "again"
    _, found = mixed(
        "a", role, context=replace(context, store=Store(again / "store"), output=again)
    )
    assert measured(found) == measured(expected)
    assert found["baseline"]["test"] == found["experts"][0]["test"]


def test_weights_that_stand_twice_are_scored_once(folder, mixed, monkeypatch):
    import dfwe.callbacks.progress as progress

    scored, bar = {}, progress.scoring_bar

    def counted(label, total):
        scored[label] = total
        return bar(label, total)

    monkeypatch.setattr(progress, "scoring_bar", counted)
    _, found = mixed("a", "b")
    assert found["one_standard_error"]["test"] is not None
    assert 4 <= scored["test mood"] <= 5  # a, b, the mixture, the average; perhaps the plainest


@pytest.mark.parametrize("names", [("c", "b"), ("b", "a")])
def test_checkpoints_that_moved_keep_their_results(names, folder, mixed, context):
    plan, found = mixed("a", "b")
    for name, now in zip("ab", names, strict=True):
        (folder / name).rename(folder / f"{now}.new")
    for now in names:
        (folder / f"{now}.new").rename(folder / now)
    moved, after = mixed(*names)
    assert moved.evaluation.recipe == plan.evaluation.recipe  # nothing was made again
    assert measured(after) == measured(found)
    assert list(after["dfwe"]["alpha"]) == list(names)
    assert list(after["one_standard_error"]["alpha"]) == list(names)
    assert [row["label"] for row in after["experts"]] == list(names)
    present(moved, ALL, context)
    assert (context.output / "search.png").is_file()
    texts = {name: column for name, *column in _columns(context.output / "answers.csv")}
    stored = _columns(context.store.folder(plan.evaluation.recipe) / "answers.csv")
    noted = {name: column for name, *column in stored}
    assert [texts[name] for name in names] == [noted[name] for name in "ab"]
    card = (context.store.folder(plan.interpolation.recipe) / "README.md").read_text()
    for name, alpha in after["dfwe"]["alpha"].items():
        assert f"| {name} | {alpha:.6f} |" in card


def test_an_alpha_of_groups_keeps_its_groups():
    noted = {"encoder": {"a": 0.25, "b": 0.75}, "decoder": {"a": 1.0, "b": 0.0}}
    now = {"encoder": {"b": 0.25, "c": 0.75}, "decoder": {"b": 1.0, "c": 0.0}}
    assert by_label(noted, ["b", "c"]) == now


def test_a_move_between_search_and_test_leaves_alpha_with_its_weights(folder, mixed, context):
    plan, found = mixed("a", "b")
    context.store.folder(plan.evaluation.recipe).rename(folder / "tested")
    (folder / "a").rename(folder / "c")
    _, after = mixed("c", "b")
    assert after["one_standard_error"]["test"] == found["one_standard_error"]["test"]
    assert measured(after) == measured(found)


def test_a_test_of_fewer_models_than_were_brought_is_refused(folder, mixed, context):
    plan, _ = mixed("a", "b")
    path = context.store.folder(plan.evaluation.recipe) / "scores.json"
    scores = json.loads(path.read_text())
    scores["test"].pop("b")  # as when a checkpoint called `baseline` took the baseline's place
    write_json(path, scores)
    with pytest.raises(UserError, match="delete that folder"):
        results(plan, ALL, context.store)


def _columns(path):
    with path.open(newline="") as file:
        return list(zip(*csv.reader(file), strict=True))


@pytest.mark.parametrize("other", ["a", "a/", "./a", "link"])
def test_one_checkpoint_under_two_names_is_refused(other, folder, make_study):
    (folder / "link").symlink_to("a")
    with pytest.raises(UserError, match="names one twice"):
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
