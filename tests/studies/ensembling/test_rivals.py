"""Controls that train against plain loops, those that choose against plain choices."""

from copy import deepcopy
from dataclasses import replace
from functools import partial

import pytest
import torch
from plain_training import distance, tlidb, without_dropout

from dfwe.data.tokenization import tokenize
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.executor import Stage, execute
from dfwe.scoring.decoding import Greedy, Likelihood
from dfwe.scoring.scorer import Scorer
from dfwe.search.baselines import greedy_soup, single_experts, uniform
from dfwe.search.config import Search
from dfwe.stages.evaluate import Test
from dfwe.stages.train import TrainRecord
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import load, save

pytestmark = pytest.mark.slow  # trains every control
BEFORE = Stage("interpolate", ("experts", "finetune", "interpolate"))
NAMES = ("mood", "tone", "air", "voice")
RIVALS = {
    "longer": controls.longer,
    "joint": controls.joint,
    "joint_finetuned": controls.joint_finetuned,
    "pooled": controls.pooled,
    "fusing": controls.fusing,
    "seeds_best": partial(controls.seeds, strategy=single_experts),
    "seeds_greedy": partial(controls.seeds, strategy=greedy_soup),
    "best_of_k": partial(controls.best_of, at_most=3),
    "best_source": controls.best_source,
}


@pytest.fixture(scope="module")
def plan(make_study, make_network, tokenizer, tmp_path_factory):
    """A study whose model has no dropout."""
    folder = tmp_path_factory.mktemp("plain") / "model"
    network = without_dropout(make_network())
    network.config.dropout_rate = 0.0
    save(network, tokenizer, folder)
    model = Seq2SeqLM("plain", str(folder), max_input=32, max_target=6)
    training = TrainingConfig(learning_rate=3e-3, batch=4, effective_batch=8, epochs=2)
    return Plan(
        make_study(model=model, training=training, search=Search(uniform), controls=RIVALS)
    )


@pytest.fixture(scope="module")
def context(plan, module_context):
    execute(plan.steps, BEFORE, module_context)
    return module_context


@pytest.fixture(scope="module")
def weights(context):
    """Step -> its network."""
    return lambda step: load(context.store.weights(step.recipe))[0]


def control(plan, name):
    return next(method.step for method in plan.methods if method.name == name)


def split(plan, tokenizer, *names, prompt=None):
    """The training examples of some tasks as one split, with their own prompts or another."""
    tasks = {task.name: task for task in (plan.study.task, *plan.study.sources)}
    examples = [
        replace(example, prompt=prompt or example.prompt)
        for name in names
        for example in tasks[name].examples(plan.study.corpus, "train")
    ]
    return tokenize(examples, tokenizer, max_input=32, max_target=6)


@pytest.mark.parametrize("name", ["longer", "joint", "joint_finetuned", "pooled", "fusing"])
def test_a_control_that_trains_is_a_plain_loop(name, plan, context, weights, tokenizer):
    """Commit 60dbe5b: no `joint_finetuned`, no `pooled`; gradients are not clipped."""
    mood = {"mood": split(plan, tokenizer, "mood")}
    every = {task: split(plan, tokenizer, task) for task in NAMES}
    together = {"mood": split(plan, tokenizer, *NAMES, prompt="mood:")}
    stages = {
        "longer": [mood],
        "joint": [every],
        "joint_finetuned": [every, mood],
        "pooled": [together, mood],
        "fusing": [mood],
    }[name]
    last = control(plan, name)
    trained = [last] if len(stages) == 1 else [last.start, last]
    plain, _ = load(plan.study.model.folder)
    if name == "fusing":
        plain = mean([weights(expert) for expert in plan.experts])
    for splits, step in zip(stages, trained, strict=True):
        record = context.store.record(step.recipe, TrainRecord)
        assert len(record.epochs) == (4 if name == "longer" else 2)
        tlidb(plain.train(), splits, step.training, seed=0, epochs=record.best_epoch)
        assert distance(weights(step), plain) < 2e-6
    assert distance(plain, load(plan.study.model.folder)[0]) > 1e-3


@pytest.fixture(scope="module")
def dev_score(plan, tokenizer):
    """Network -> its dev score, equal scores by likelihood."""
    study = plan.study
    dev = study.model.tokenize(study.task, study.corpus, "dev", tokenizer)

    def score(network):
        scores = Scorer(network, dev, study.task, Likelihood())()
        return round(scores.score, 9), scores.log_likelihood

    return score


def runs_by_hand(plan, tokenizer, name):
    """The stages of each run that a control chooses among: splits, settings, seeds."""
    mood = {"mood": split(plan, tokenizer, "mood")}
    short, long = plan.study.training, replace(plan.study.training, epochs=4, patience=None)
    if name == "best_of_k":
        return [[(mood, long, seed)] for seed in (0, 1000, 2000)]
    if name == "best_source":
        sources = [{task: split(plan, tokenizer, task)} for task in NAMES[1:]]
        return [[(source, short, 0), (mood, short, 0)] for source in sources]
    return [[(mood, short, seed), (mood, short, seed)] for seed in range(0, 5000, 1000)]


@pytest.mark.parametrize("name", ["seeds_best", "seeds_greedy", "best_of_k", "best_source"])
def test_a_control_that_chooses_has_the_plain_choice(
    name, plan, context, weights, dev_score, tokenizer
):
    """Commit 60dbe5b: `best_of_k` counts short runs, and there are none of the others."""
    step = control(plan, name)
    networks = []
    runs = runs_by_hand(plan, tokenizer, name)
    for end, stages in zip(step.experts, runs, strict=True):
        plain, _ = load(plan.study.model.folder)
        steps = [end] if len(stages) == 1 else [end.start, end]
        for (splits, training, seed), part in zip(stages, steps, strict=True):
            best = context.store.record(part.recipe, TrainRecord).best_epoch
            tlidb(plain.train(), splits, training, seed, epochs=best)
        assert distance(weights(end), plain) < 2e-6
        networks.append(weights(end))
    order = sorted(networks, key=dev_score, reverse=True)
    chosen = order[:1]
    for network in order[1:] if name == "seeds_greedy" else ():
        if dev_score(mean([*chosen, network]))[0] >= dev_score(mean(chosen))[0]:
            chosen.append(network)
    assert distance(weights(step), mean(chosen)) < 1e-7


def mean(networks):
    """A network with the mean of the weights."""
    averaged = deepcopy(networks[0])
    with torch.no_grad():
        for into, *values in zip(*(m.parameters() for m in (averaged, *networks)), strict=True):
            into.copy_(torch.stack(values).mean(0))
    return averaged


def test_joint_training_answers_among_the_targets_options(make_study, context):
    """Commit 60dbe5b: the study's decoding, so that other answers count as wrong ones."""
    plan = Plan(make_study(sources=("tone",), decoding=Greedy()))
    step = controls.joint(plan)
    assert isinstance(step, Test)
    execute((plan.experts[1], step), Stage("all", ("experts", "evaluate")), context)
    options = set(plan.study.task.examples(plan.study.corpus, "test")[0].options)
    assert set(step.answers(context.store)["model"].texts) <= options
    greedily = replace(step, decoding=Greedy())
    execute((plan.experts[1], greedily), Stage("all", ("experts", "evaluate")), context)
    assert not set(greedily.answers(context.store)["model"].texts) <= options


@pytest.mark.parametrize(("noise", "apart"), [("common", 0), ("own", 1000)])
def test_each_expert_may_have_its_own_order_and_dropout(noise, apart, make_study):
    """Their heads stay of one seed, or they could not be mixed."""
    training = TrainingConfig(noise=noise)
    plan = Plan(make_study(seed=3, training=training))
    for number, (expert, tuned) in enumerate(zip(plan.experts, plan.finetuned, strict=True)):
        assert expert.seed == tuned.seed == 3 + apart * number
        assert [3 if s.head is None else s.head for s in (expert, tuned)] == [3, 3]
    assert len({expert.recipe.address for expert in plan.experts}) == 5
