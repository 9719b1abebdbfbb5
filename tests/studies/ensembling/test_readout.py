"""A study of encoders that are read at the mean: its results, their export, their card."""

import shutil
from functools import partial

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import dfwe
from dfwe.data.batches import collate
from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.store import WEIGHTS
from dfwe.scoring.decoding import Classify
from dfwe.search.baselines import uniform
from dfwe.search.config import Search
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.results import present
from dfwe.training.config import TrainingConfig
from dfwe.weights.merge import ties
from dfwe.weights.readout import POOLING, write_pooling

pytestmark = pytest.mark.slow  # a whole study
ALL = Stage("all", ("experts", "finetune", "import", "interpolate", "evaluate"))


@pytest.fixture(scope="module")
def make_plan(make_study, bert, tmp_path_factory):
    """Settings -> the plan of a study of encoders that are read at the mean."""
    folder = tmp_path_factory.mktemp("sentences") / "model"
    shutil.copytree(bert, folder)
    write_pooling(folder, 16)
    usual = {
        "model": SequenceClassifier("sentences", str(folder), max_input=12),
        "decoding": Classify(),
        "training": TrainingConfig(learning_rate=3e-2, epochs=1, effective_batch=8, monitor="own"),
        "search": Search(uniform),
    }
    return lambda **settings: Plan(make_study(**usual | settings))


@pytest.fixture(scope="module")
def plan(make_plan, module_context):
    """A computed plan with merges of both kinds."""
    chosen = {
        "fusing": controls.fusing,
        "ties": partial(controls.merged, rules=ties, points=2),
    }
    plan = make_plan(sources=("tone",), controls=chosen)
    execute(plan.steps, ALL, module_context)
    present(plan, ALL, module_context)
    return plan


@pytest.fixture
def mixture(plan, module_context):
    """The folder of the final model."""
    return module_context.store.weights(plan.interpolation.recipe)


def likelihoods(network, tokenizer, plan):
    """Of each gold answer of the test split, by the logits of the network."""
    study = plan.study
    split = study.model.tokenize(study.task, study.corpus, "test", tokenizer)
    batch = collate(split, list(range(len(split))), [1.0] * len(split), study.task.name)
    with torch.no_grad():
        logits = network(input_ids=batch.source, attention_mask=batch.mask).logits
    return logits.log_softmax(1).gather(1, batch.target)[:, 0].numpy()


def test_every_stored_model_has_the_file_that_says_how_it_is_read(plan, module_context):
    """Commit 60dbe5b stores none with it."""
    store = module_context.store
    steps = {step.recipe.name: step for step in plan.steps if step.has_weights}
    kinds = {step.kind for step in steps.values()}
    assert kinds == {"train", "interpolate", "base", "merge"}
    for step in steps.values():
        assert POOLING.as_posix() in store.stored(step.recipe).files
        assert store.weights(step.recipe).joinpath(WEIGHTS).is_file()


def test_the_two_lines_of_the_card_load_what_was_scored(plan, mixture, module_context):
    """The card of commit 60dbe5b loads transformers' own classifier, which is what it scores."""
    card = (module_context.output / "model_card.md").read_text()
    assert "transformers' own classifier would read the first token" in card
    assert "AutoModelForSequenceClassification" not in card
    lines = card.split("```python\n")[1].split("```")[0]
    assert len(lines.split("\n\n")) == lines.strip().count("\n") == 2
    names = {}
    exec(lines.replace("this folder", str(mixture)), names)
    ours = likelihoods(names["model"], names["tokenizer"], plan)
    scored = plan.evaluation.answers(module_context.store)["mixture"].log_likelihoods
    assert ours == pytest.approx(np.array(scored), abs=1e-5)
    plain = AutoModelForSequenceClassification.from_pretrained(mixture)
    assert abs(likelihoods(plain, names["tokenizer"], plan) - ours).max() > 1e-3


def test_an_export_is_read_as_its_experts_are(plan, module_context, tmp_path):
    """Commit 60dbe5b exports weights, configuration and tokenizer alone."""
    folders = [module_context.store.weights(step.recipe) for step in plan.finetuned]
    space = dfwe.WeightSpace.from_pretrained(folders)
    alpha = [1.0] + [0.0] * (space.n - 1)
    model, tokenizer = dfwe.load_model(space.export(alpha, tmp_path / "first"))
    expert, _ = dfwe.load_model(folders[0])
    assert (likelihoods(model, tokenizer, plan) == likelihoods(expert, tokenizer, plan)).all()


def test_brought_checkpoints_are_read_as_their_folders_say(
    plan, make_plan, module_context, tmp_path
):
    store = module_context.store
    names = []
    for number, step in enumerate(plan.finetuned[:2]):
        names.append(str(tmp_path / f"at_mean{number}"))
        shutil.copytree(store.weights(step.recipe), names[-1])
    brought = make_plan(sources=(), checkpoints=tuple(names))
    brought.check(store)
    execute(brought.steps, ALL, module_context)
    ours, theirs = (p.evaluation.answers(store) for p in (brought, plan))
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]
    addresses = {step.recipe.address for step in brought.finetuned}
    for name in names:
        shutil.rmtree(tmp_path / name / POOLING.parent)
    first = make_plan(sources=(), checkpoints=tuple(names))
    assert addresses.isdisjoint(step.recipe.address for step in first.finetuned)


def test_a_preflight_notes_the_mean_and_refuses_a_mixture_of_readouts(
    plan, module_context, tmp_path
):
    """Commit 60dbe5b says of all three pairs that the checkpoints can be mixed."""
    store = module_context.store
    folders = [store.weights(step.recipe) for step in plan.finetuned[:2]]
    report = dfwe.preflight(folders)
    (line,) = (line for line in str(report).splitlines() if line.startswith("note "))
    assert "transformers' own classifier would read the first token" in line
    assert line.endswith("from dfwe import load_model; model, tokenizer = load_model(FOLDER)")
    assert report.problems == report.warnings == ()
    other = tmp_path / "first"
    shutil.copytree(folders[1], other)
    shutil.rmtree(other / POOLING.parent)
    assert dfwe.preflight([other]).notes == ()
    with pytest.raises(UserError, match=rf"^The head of {folders[0]} reads the mean .* {other} "):
        dfwe.WeightSpace.from_pretrained([folders[0], other])
    write_pooling(other, 16)
    (other / POOLING).write_text('{"pooling_mode": "max"}')
    with pytest.raises(UserError, match="names the pooling 'max'"):
        dfwe.WeightSpace.from_pretrained([folders[0], other])
