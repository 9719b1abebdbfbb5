"""What a target and its sources read of a corpus, and that a recipe has it."""

from dataclasses import replace
from functools import partial
from itertools import cycle

import pytest

from dfwe.data import friends
from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.dialogue import Example, fingerprint
from dfwe.errors import UserError
from dfwe.scoring.decoding import Greedy
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.tasks.answers import Label, Labels
from dfwe.tasks.metrics import Accuracy, MultilabelF1
from dfwe.tasks.task import Task

SAMPLE = TLiDBCorpus("s", "shipped:sample_corpus.zip")
FULL = SAMPLE.whole()


def emotions(name, title):
    read = partial(friends.emotion, prompt="emotion:")
    return Task(name, title, read, Label(), (Accuracy(),), 5)


EMORY = emotions("emory", "emory_emotion_recognition")
MELD = emotions("meld", "MELD_emotion_recognition")


@pytest.fixture
def make_plan(make_study):
    """Corpus settings -> the plan for emory from meld."""
    study = make_study()

    def make(monitor="target", **settings):
        corpus, training = replace(SAMPLE, **settings), replace(study.training, monitor=monitor)
        return Plan(replace(study, task=EMORY, sources=(MELD,), corpus=corpus, training=training))

    return make


def read(task, corpus, split):
    return fingerprint(task.examples(corpus, split))


def test_the_target_has_few_shots_and_its_sources_all(make_plan):
    """Commit 60dbe5b: the sources read what the target does, the few-shot lists."""
    plan = make_plan(source_shots="full")
    alone, joint, source = (expert.settings() for expert in plan.experts)
    emory, meld = read(EMORY, SAMPLE, "train"), read(MELD, FULL, "train")
    assert alone["train"] == {"emory": emory}
    assert joint["train"] == {"emory": emory, "meld": meld}
    assert source["train"] == {"meld": meld}
    dev = read(EMORY, SAMPLE, "dev")
    assert {expert.settings()["dev"] for expert in (*plan.experts, *plan.finetuned)} == {dev}
    assert {tuned.settings()["train"]["emory"] for tuned in plan.finetuned} == {emory}
    assert plan.interpolation.settings()["dev"] == dev
    assert plan.evaluation.settings()["test"] == read(EMORY, SAMPLE, "test")


def test_a_source_that_is_monitored_by_itself_has_its_own_dev_whole(make_plan):
    plan = make_plan("own", source_shots="full")
    assert plan.experts[2].settings()["dev"] == read(MELD, FULL, "dev")
    assert plan.experts[1].settings()["dev"] == read(EMORY, SAMPLE, "dev")


def test_equal_examples_have_equal_addresses(make_plan):
    usual, same, other, drawn = (
        [step.recipe.name for step in make_plan(**settings).experts]
        for settings in ({}, {"source_shots": "few"}, {"source_shots": "full"}, {"seed": 0})
    )
    assert same == usual
    assert other[0] == usual[0]
    assert not {other[1], other[2]} & set(usual)
    assert not set(drawn) & set(usual)


def test_roles_follow_another_target(make_plan):
    study = make_plan(source_shots="full").study
    turned = Plan(replace(study, task=MELD, sources=(EMORY,)))
    settings = turned.experts[1].settings()
    assert settings["train"] == {
        "meld": read(MELD, SAMPLE, "train"),
        "emory": read(EMORY, FULL, "train"),
    }


def test_the_whole_dev_split_stays_that_of_the_target(make_plan):
    for settings in ({}, {"source_shots": "full"}, {"seed": 0}):
        whole = controls.whole_dev(make_plan(**settings))
        assert whole.settings()["dev"] == read(EMORY, FULL, "dev")


def relations():
    """A task whose examples may have several labels."""
    names = ("friends", "siblings")

    def read(dialogues, title, labels):
        golds = cycle((*names, "friends and siblings"))
        return [
            Example(d.id, d.id, "context: x", "they are", gold, (gold,), names)
            for d, gold in zip(dialogues, golds, strict=False)
        ]

    metric = MultilabelF1()
    return Task("relations", "relation_extraction", read, Labels("friends"), (metric,), 5)


@pytest.mark.parametrize("monitor", ["target", "own"])
def test_likelihood_of_several_labels_is_refused_before_any_work(monitor, make_plan, context):
    """Commit 60dbe5b: is answered, with one of the labels."""
    study = make_plan(monitor).study
    plans = [
        Plan(replace(study, task=relations())),
        Plan(replace(study, sources=(relations(),))),
    ]
    sentence = "names one option, but .* task=relations may have several .* set decoding=greedy"
    for plan in plans if monitor == "own" else plans[:1]:
        with pytest.raises(UserError, match=sentence):
            plan.check(context.store)
        Plan(replace(plan.study, decoding=Greedy())).check(context.store)
    if monitor == "target":  # no answer of the source is read
        plans[1].check(context.store)
