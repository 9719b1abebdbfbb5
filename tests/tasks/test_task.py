"""A task reads a corpus, scores texts in points, and names what decides its score."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dfwe.data import friends
from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.dialogue import Dialogue, Turn
from dfwe.errors import UserError
from dfwe.pipeline.recipe import digest
from dfwe.tasks.answers import Label, Labels
from dfwe.tasks.metrics import F1, Accuracy, MultilabelF1
from dfwe.tasks.task import Task

ROOT = Path(__file__).parents[2]
MINI = TLiDBCorpus("mini", str(ROOT / "tests/goldens"))
SAMPLE = TLiDBCorpus("s", "shipped:sample_corpus.zip")
FRIENDS = ("emory", "meld", "reading", "characters", "qa", "personality", "relations")


def emory(**changes) -> Task:
    fields = {"labels": None, "metrics": (F1("micro"), Accuracy()), **changes}
    read = partial(friends.emotion, prompt="emotion:")
    return Task("emory", "emory_emotion_recognition", read, Label(), max_new_tokens=5, **fields)


@pytest.fixture(scope="module")
def configured():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):

        def make(name, *overrides):
            cfg = compose("config", overrides=[f"task={name}", *overrides])
            return instantiate(cfg.task, _convert_="all")

        yield make


class Invented:
    """A corpus of one dialogue."""

    name = "invented"

    def __init__(self, note):
        turn = Turn(("Al",), "Hm.", {"emory_emotion_recognition": note})
        self.only = Dialogue("one", (turn,), {}, {"emory_emotion_recognition": {}})

    def dialogues(self, split, title=None):
        return (self.only,) if split == "train" else ()

    def labels(self, title):
        return ("sad", "mad")


def test_labels_come_from_the_corpus_unless_the_task_names_them():
    good = Invented({"instance_id": "i", "label": "mad"})
    assert emory().examples(good, "train")[0].options == ("sad", "mad")
    assert emory(labels=["mad"]).examples(good, "train")[0].options == ("mad",)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["mad", "sad", "mad"], "has the label 'mad' twice"),
        (["mad", "Mad"], r"The label 'Mad' of task=emory \(in i\) is not read as itself"),
        (["mad", " sad"], "The label ' sad' of task=emory"),
    ],
)
def test_labels_that_cannot_be_told_apart_are_refused(labels, words):
    """Commit 60dbe5b: an answer counts as the first of them, and the others as wrong."""
    good = Invented({"instance_id": "i", "label": "mad"})
    with pytest.raises(UserError, match=words):
        emory(labels=labels).examples(good, "train")


def related(names, compatibility=None):
    """The relations of two people, by these names of r1, r2, ..."""
    labels = {f"r{n}": name for n, name in enumerate(names, 1)}
    read = partial(friends.relation, prompt="{head} {tail}", names=labels)
    answer = Labels(names[0], compatibility)
    return Task("kin", "kin", read, answer, (MultilabelF1(),), 9, compatibility=compatibility)


class Related:
    """A corpus of one dialogue of two people who have all relations."""

    name = "related"

    def __init__(self, number):
        triple = {"instance_id": "i", "head": "Al", "tail": "Bo"}
        triple["relations"] = [f"r{n}" for n in range(1, number + 1)]
        note = [{"turns": [0], "relation_triples": [triple]}]
        self.only = Dialogue("one", (Turn(("Al",), "Hm.", {}),), {"kin": note}, {"kin": {}})

    def dialogues(self, split, title=None):
        return (self.only,)

    def labels(self, title):
        return ()


@pytest.mark.parametrize("name", ["friends and family", "friends and"])
@pytest.mark.parametrize("compatibility", [None, "tlidb"])
def test_a_relation_whose_name_has_and_in_it_is_refused(compatibility, name):
    """Commit 60dbe5b: the gold answer scores 0, and that of `friends and and boss` too."""
    with pytest.raises(UserError, match=f"The label '{name}' of task=kin"):
        related([name, "boss"], compatibility).examples(Related(2), "train")
    task = related(["friends & family", "boss"], compatibility)
    [example] = task.examples(Related(2), "train")
    assert task.score([example.target], [example])["score"] == 100


def test_an_empty_split_is_an_error_that_names_it():
    with pytest.raises(UserError, match="The dev split of corpus=invented has no example of task"):
        emory().examples(Invented({"instance_id": "i", "label": "mad"}), "dev")


def test_an_incomplete_annotation_is_an_error_that_names_the_dialogue():
    with pytest.raises(UserError, match=r"'one' cannot be read as task=emory.* has no 'label'"):
        emory().examples(Invented({"instance_id": "i"}), "train")


def test_an_annotation_of_another_type_is_an_error_that_names_the_field():
    with pytest.raises(UserError, match=r"annotation has a wrong 'label' \(input should be a"):
        emory().examples(Invented({"instance_id": "i", "label": 3}), "train")


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda dialogues, *_: [dialogues[0].annotations["mood"]], "its annotation has no 'mood'"),
        (lambda dialogues, *_: [dialogues[0].turns[7]], "its annotation refers to what is not"),
    ],
)
def test_what_a_reader_does_not_find_is_an_error_that_names_the_dialogue(read, message):
    task = Task("mood", "mood", read, Label(), [Accuracy()], 5)
    with pytest.raises(UserError, match=rf"Dialogue 'one' cannot be read as task=mood: {message}"):
        task.examples(Invented({}), "train")


def test_the_score_is_the_mean_of_the_metrics_in_points():
    examples = emory().examples(MINI, "train")  # sad, joyful
    scores = emory().score(["sad", "mad"], examples)
    assert scores == {"f1_micro": 50, "accuracy": 50, "score": 50}


@pytest.mark.parametrize("corpus", ["mini", "sample"])
@pytest.mark.parametrize("name", FRIENDS)
def test_the_gold_answers_score_full_points(name, corpus, configured):
    source = MINI if corpus == "mini" else SAMPLE
    for compatibility in ("null", "tlidb") if name != "qa" else ("null",):  # defective in qa
        task = configured(name, f"task.compatibility={compatibility}")
        examples = task.examples(source, "train")
        assert task.score([e.target for e in examples], examples)["score"] == pytest.approx(100)
        for example in examples:
            parts = example.target.split(" and ") if name == "relations" else [example.target]
            assert set(parts) <= set(example.options) or name == "qa"


@pytest.mark.parametrize("name", FRIENDS)
def test_settings_are_plain_and_know_the_compatibility(name, configured):
    plain, tlidb = (configured(name, f"task.compatibility={c}") for c in ("null", "tlidb"))
    assert digest(plain.settings()) == digest(configured(name).settings())
    differs = digest(plain.settings()) != digest(tlidb.settings())
    assert differs == (name != "reading")  # TLiDB reads and measures that one rightly
    assert "_target_" not in str(plain.settings())


class Long(Invented):
    """A dialogue of 60 turns of 10 words, and a question that turn 55 answers."""

    def __init__(self):
        turns = tuple(Turn(("Al",), f"{n} " + "x " * 8, {}) for n in range(60))
        span = {"text": "55", "answer_utterance_id": 55}
        item = {"instance_id": "q", "question": "Who?", "answers": [span]}
        notes = {"question_answering": [{"qas": [item]}]}
        self.only = Dialogue("one", turns, notes, {"question_answering": {}})


@pytest.mark.parametrize(
    ("overrides", "first", "last"),
    [
        ([], "0", "50"),
        (["task.compatibility=null"], "0", "50"),
        (["task.compatibility=tlidb"], "9", "59"),
    ],
)
def test_where_the_answer_is_in_a_long_dialogue_shows_with_tlidb_alone(
    overrides, first, last, configured
):
    """Commit 60dbe5b: the turns 9 to 59 in all three cases."""
    [example] = configured("qa", *overrides).examples(Long(), "train")
    words = example.context.split()
    assert (words[2], words[-9]) == (first, last)


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        ([True, False], r"task\.labels\.0=True should be a valid string; quote it, since YAML"),
        ([0, 1], r"task\.labels\.0=0 should be a valid string; quote it, since YAML"),
        (["sad", None], r"task\.labels\.1=None should be a valid string"),
        (True, r"task\.labels=True should be a list"),
        ("sad", r"task\.labels=sad should be a list"),
    ],
)
def test_labels_that_yaml_read_as_something_else_are_to_be_quoted(labels, sentence):
    with pytest.raises(UserError, match=sentence):
        emory(labels=labels)


@pytest.mark.parametrize("name", ["", " emory", "two\nlines", "a" * 101, "\x1b[31m"])
def test_a_name_is_something_to_be_read_on_one_line(name):
    with pytest.raises(UserError, match="should be 1 to 100 characters on one line"):
        replace(emory(), name=name)


def test_the_keys_of_a_reader_are_checked():
    with pytest.raises(UserError, match=r"task\.read\.prompt=5 should be a valid string"):
        replace(emory(), read=partial(friends.emotion, prompt=5))
    with pytest.raises(UserError, match=r"task\.read\.promt= is not known"):
        replace(emory(), read=partial(friends.emotion, promt="x"))
