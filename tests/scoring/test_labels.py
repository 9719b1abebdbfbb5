"""Labels that a tokenizer cannot write are told before a model is asked for them."""

import pytest

from dfwe.data.dialogue import Example
from dfwe.data.tokenization import tokenize, tokenize_continued
from dfwe.errors import UserError
from dfwe.scoring.labels import check_labels
from dfwe.tasks.answers import FreeText, Label, Labels
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task


@pytest.fixture(scope="module")
def words():
    """A tokenizer of a few words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    known = ["<pad>", "</s>", "<unk>", "mood", ":", "glad", "grim", "and", "not"]
    made = Tokenizer(models.WordLevel(dict(zip(known, range(9), strict=True)), unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def check(words, *labels, answer=None, generated=True, read=tokenize):
    task = Task("mood", "mood", lambda *a: [], answer or Label(), (Accuracy(),), 8)
    example = Example("1", "1", "glad", "mood:", labels[0], labels[:1], labels)
    check_labels(task, read((example,), words, max_input=8, max_target=8), generated=generated)


@pytest.mark.parametrize("read", [tokenize, tokenize_continued])
@pytest.mark.parametrize("generated", [True, False])
def test_labels_that_are_read_as_themselves_are_taken(words, generated, read, caplog):
    check(words, "glad", "not glad", "Glad and grim"[9:], generated=generated, read=read)
    check(words, "glad", "grim", answer=Labels("glad"), generated=generated, read=read)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("label", "becomes"), [("sad", ""), ("not sad", "not"), ("Grim", ""), ("grim </s>", "grim")]
)
def test_a_label_that_cannot_be_generated_is_refused(words, label, becomes, caplog):
    sentence = f"cannot write the label '{label}' of task=mood: it becomes '{becomes}', so that"
    with pytest.raises(UserError, match=sentence):
        check(words, "glad", label)
    check(words, "glad", label, generated=False)
    assert f"'{label}' of task=mood: its likelihood is that of '{becomes}'" in caplog.text


@pytest.mark.parametrize("generated", [True, False])
def test_labels_that_are_the_same_tokens_are_refused(words, generated):
    with pytest.raises(UserError, match=r"the labels 'sad' and 'bad' of task=mood alike, as ''"):
        check(words, "sad", "bad", generated=False)
    with pytest.raises(UserError, match="of task=mood"):
        check(words, "glad", "sad", "bad", generated=generated)


def test_an_answer_in_free_text_has_no_labels(words):
    task = Task("said", "said", lambda *a: [], FreeText(), (Accuracy(),), 8)
    example = Example("1", "1", "glad", "mood:", "sad", ("sad", "bad"))
    check_labels(task, tokenize((example,), words, max_input=8, max_target=8), generated=True)
