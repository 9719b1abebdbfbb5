"""Which texts a probe sees: those no model was fine-tuned on, if it is asked to."""

import json

import pytest

from dfwe.data.table import TableCorpus
from dfwe.errors import UserError
from dfwe.studies.region.probe import ProbeTexts


@pytest.fixture
def corpus(tmp_path):
    """Two tables of twelve texts, of which the first four are the same ones."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for split in ("train", "dev", "test"):
            rows = [
                {
                    "id": f"{split}{i}",
                    "label": ("bad", "good")[i % 2],
                    "text": f"{split} both {i}" if i < 4 else f"{split} {name} {i}",
                }
                for i in range(12)
            ]
            (tmp_path / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return TableCorpus("texts", str(tmp_path), ("one", "two"), limit=5)


def contexts(examples):
    return {example.context for example in examples}


def test_unseen_texts_are_those_no_model_of_any_dataset_was_tuned_on(corpus, make_task):
    tasks = [make_task("one"), make_task("two")]
    trained_on = set().union(*(contexts(task.examples(corpus, "train")) for task in tasks))
    texts = ProbeTexts(tasks, corpus, None, unseen=True)
    for task in tasks:
        everything = contexts(task.examples(corpus.whole(), "train"))
        assert everything & trained_on
        assert contexts(texts.examples(task, "train")) == everything - trained_on
        assert texts.examples(task, "dev") == list(task.examples(corpus, "dev"))


def test_by_default_a_probe_sees_what_the_models_saw(corpus, make_task):
    task = make_task("one")
    texts = ProbeTexts([task], corpus, None, unseen=False)
    assert texts.examples(task, "train") == list(task.examples(corpus, "train"))


def test_a_sub_sample_has_its_size_and_is_drawn_once(corpus, make_task):
    task = make_task("one")
    drawn = [ProbeTexts([task], corpus, 3, unseen=True).examples(task, "train") for _ in range(2)]
    assert len(contexts(drawn[0])) == 3
    assert drawn[0] == drawn[1]


def test_too_few_unseen_texts_say_what_to_change(corpus, make_task):
    task = make_task("one")
    with pytest.raises(UserError, match=r"wants 8 .* of one .* 7 are left: lower corpus.limit"):
        ProbeTexts([task], corpus, 8, unseen=True).examples(task, "train")
    with pytest.raises(UserError, match=r"0 are left"):
        ProbeTexts([task], corpus.whole(), None, unseen=True).examples(task, "train")
