"""What a person's checkpoints were fine-tuned from: merges of task vectors, their scale on dev."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.executor import Stage, execute
from dfwe.scoring.decoding import Classify
from dfwe.search.config import Search
from dfwe.search.ledger import read_trials
from dfwe.search.nelder_mead import cone
from dfwe.stages.import_checkpoint import BaseRecord
from dfwe.stages.interpolate import TRIALS, SearchRecord
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import results
from dfwe.training.config import TrainingConfig
from dfwe.weights import merge
from dfwe.weights.loading import save

ALL = Stage("all", ("import", "interpolate", "evaluate"))
MERGES = {
    "task_arithmetic": partial(
        controls.merged, rules=partial(merge.task_arithmetic, scale=1.0), points=3
    ),
    "ties": partial(controls.merged, rules=partial(merge.ties, density=0.5), points=3),
    "wise_ft": partial(controls.wise_ft, points=3),
}
HEAD = {"classifier.weight", "classifier.bias"}


@pytest.fixture
def folder(tmp_path, make_network, tokenizer, monkeypatch):
    """A working directory with a base and two checkpoints near it."""
    monkeypatch.chdir(tmp_path)
    base = make_network(2)
    save(base, tokenizer, tmp_path / "base")
    for seed, name in enumerate("ab"):
        network = make_network(seed)
        with torch.no_grad():
            for parameter, start in zip(network.parameters(), base.parameters(), strict=True):
                parameter.mul_(0.1).add_(start)
        save(network, tokenizer, tmp_path / name)
    return tmp_path


def weights(context, step):
    return load_file(context.store.weights(step.recipe) / "model.safetensors")


def step_of(plan, name):
    return next(method.step for method in plan.methods if method.name == name)


def test_merges_of_ones_own_checkpoints_are_searched_over_their_scale(folder, make_study, context):
    study = make_study(sources=(), checkpoints=("a", "b"), base="base", controls=MERGES)
    plan = Plan(study)
    plan.check(context.store)
    execute(plan.steps, ALL, context)
    base, *tuned = (load_file(folder / name / "model.safetensors") for name in ("base", "a", "b"))
    search = step_of(plan, "task_arithmetic")
    assert [expert.label for expert in search.experts] == ["base", "task_arithmetic"]
    merged = weights(context, search.experts[1])
    for name, tensor in base.items():
        wanted = tensor + sum(state[name] - tensor for state in tuned)
        assert torch.allclose(merged[name], wanted, atol=1e-6)
        assert weights(context, search.experts[0])[name].equal(tensor)
    record = context.store.record(search.recipe, SearchRecord)
    ledger = read_trials(context.store.folder(search.recipe) / TRIALS)
    assert {float(trial.alpha[1]) for trial in ledger} == {0.0, 0.5, 1.0}
    assert record.dev.score == max(trial.value for trial in ledger)
    line = step_of(plan, "wise_ft").experts
    assert [expert.label for expert in line] == ["base", "a"]
    shown = results(plan, ALL, context.store)
    assert {row.name for row in shown.methods} >= {*MERGES, "baseline", "dfwe"}


def test_controls_that_train_do_not_apply_to_checkpoints(folder, make_study, caplog):
    caplog.set_level("INFO")
    trained = {
        "longer": controls.longer,
        "seeds": controls.seeds,
        "joint": controls.joint,
        "ratatouille": controls.ratatouille,
    }
    kept = {"random": controls.random, "vote": controls.vote}
    plan = Plan(make_study(sources=(), checkpoints=("a", "b"), controls=trained | kept))
    assert [method.name for method in plan.methods if method.name in trained | kept] == [*kept]
    for name in trained:
        assert f"{name} does not apply to mood here" in caplog.text


def test_a_cone_starts_from_the_base(folder, make_study):
    search = Search(partial(cone, evaluations=9), experts=["theta_0"])
    plan = Plan(make_study(sources=(), checkpoints=("a", "b"), base="base", search=search))
    assert [member.label for member in plan.members] == ["a", "b", "base"]


def test_a_base_is_named_and_fits(folder, make_study, make_network, tokenizer, context):
    lacking = Plan(make_study(sources=(), checkpoints=("a", "b"), controls=MERGES))
    with pytest.raises(UserError, match=r"checkpoints were fine-tuned from; name it: base=FOLDER"):
        lacking.check(context.store)
    with pytest.raises(UserError, match=r"base=base is what checkpoints=\[...\] were fine-tuned"):
        make_study(base="base")
    for name, words in (
        ("nowhere", "nowhere"),
        ("other", "other is of another architecture or s"),
    ):
        network = make_network()
        network.resize_token_embeddings(600)
        save(network, tokenizer, folder / "other")
        plan = Plan(make_study(sources=(), checkpoints=("a", "b"), base=name))
        with pytest.raises(UserError, match=words):
            plan.check(context.store)


def test_a_head_that_the_base_lacks_is_the_checkpoints_average(
    bert, tmp_path, make_study, context, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    study = make_study(
        sources=(),
        checkpoints=("x", "y"),
        base=str(bert),
        controls={"ties": partial(MERGES["ties"], end=2.0)},
        model=SequenceClassifier("encoder"),
        decoding=Classify(),
        training=TrainingConfig(monitor="own"),
    )
    labels = dict(enumerate(study.corpus.labels("mood")))
    states = []
    for name in study.checkpoints:
        network = AutoModelForSequenceClassification.from_pretrained(bert, id2label=labels)
        with torch.no_grad():
            network.bert.embeddings.word_embeddings.weight[len(states)] += 1.0
        save(network, AutoTokenizer.from_pretrained(bert), tmp_path / name)
        states.append(network.state_dict())
    plan = Plan(replace(study))
    assert plan.study.model.max_input == 512  # as many as the checkpoints have
    plan.check(context.store)
    execute(plan.steps, ALL, context)
    record = context.store.record(plan.theta_0.recipe, BaseRecord)
    assert set(record.averaged) == HEAD
    start = load_file(bert / "model.safetensors")
    base, merged = (weights(context, step) for step in step_of(plan, "ties").experts)
    for name in HEAD:
        assert torch.allclose(base[name], (states[0][name] + states[1][name]) / 2)
        assert merged[name].equal(base[name])
    embedding = "embeddings.word_embeddings.weight"
    assert base[f"bert.{embedding}"].equal(start[embedding])
    moved = merged[f"bert.{embedding}"] - start[embedding]
    assert torch.allclose(moved[:2], torch.ones(2, 16))
    assert not moved[2:].any()
