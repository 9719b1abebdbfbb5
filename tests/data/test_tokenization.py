"""Token ids of examples: what survives shortening, what the cache gives back."""

from dataclasses import replace

import pytest

from dfwe.data import tokenization as module
from dfwe.data.dialogue import Example
from dfwe.data.id_rows import IdRows
from dfwe.data.tokenization import tokenize, tokenize_continued, tokenize_labels

LIMITS = {"max_input": 40, "max_target": 8}


def test_a_source_that_fits_is_the_tokenizers_own(tokenizer, label_examples):
    tokenized = tokenize(label_examples, tokenizer, max_input=10**6, max_target=8)
    for example, ids in zip(label_examples, tokenized.sources, strict=True):
        assert ids == tokenizer(f"{example.context} {example.prompt}")["input_ids"]


@pytest.mark.parametrize("keep", ["start", "end"])
def test_shortening_keeps_the_prompt_and_one_end_of_the_context(keep, tokenizer, label_examples):
    examples = tuple(replace(example, keep=keep) for example in label_examples)
    tokenized = tokenize(examples, tokenizer, **LIMITS)
    shortened = 0
    for example, ids in zip(examples, tokenized.sources, strict=True):
        prompt = tokenizer(example.prompt)["input_ids"]  # the end token included
        context = tokenizer(example.context, add_special_tokens=False)["input_ids"]
        assert ids[-len(prompt) :] == prompt
        kept = ids[: -len(prompt)]
        assert kept == (context[: len(kept)] if keep == "start" else context[-len(kept) :])
        if len(context) + len(prompt) > 40:
            shortened += 1
            assert len(ids) == 40
    assert shortened > 3


def test_a_prompt_longer_than_the_limit_survives_alone(tokenizer, label_examples):
    tokenized = tokenize(label_examples, tokenizer, max_input=2, max_target=8)
    for example, ids in zip(label_examples, tokenized.sources, strict=True):
        assert ids == tokenizer(example.prompt)["input_ids"]


def test_a_prompt_of_no_tokens_takes_no_room():
    class Letters:  # a tokenizer that adds no token of its own
        cls_token_id, bos_token_id = None, 7

        def __call__(self, text, **unused):
            return {"input_ids": list(range(len(text)))}

    example = Example("1", "1", "a long text", "", "yes", ("yes",))
    assert module._shorten(example, Letters(), 4) == [7, 8, 9, 10]


def test_targets_and_options_end_with_the_end_token(tokenizer, label_examples, text_examples):
    tokenized = tokenize(label_examples + text_examples, tokenizer, max_input=80, max_target=4)
    end = tokenizer.eos_token_id
    for example, target, options in zip(
        tokenized.examples, tokenized.targets, tokenized.options, strict=True
    ):
        whole = tokenizer(example.target)["input_ids"]
        assert target == (whole if len(whole) <= 4 else [*whole[:3], end])
        assert options == [tokenizer(text)["input_ids"] for text in example.options]


def test_a_cached_table_is_read_and_not_made_again(
    tmp_path, monkeypatch, tokenizer, label_examples, text_examples
):
    examples = label_examples + text_examples
    plain = tokenize(examples, tokenizer, **LIMITS)
    made = tokenize(examples, tokenizer, **LIMITS, cache=tmp_path / "tokens")
    monkeypatch.setattr(module, "_sources", None)  # would raise if it were called
    read = tokenize(examples, tokenizer, **LIMITS, cache=tmp_path / "tokens")
    for one in (made, read):
        for column in ("sources", "targets", "options"):
            assert list(getattr(one, column)) == list(getattr(plain, column))
    assert len(list((tmp_path / "tokens").iterdir())) == 1


def test_other_examples_or_limits_make_another_table(tmp_path, tokenizer, label_examples):
    tokenize(label_examples, tokenizer, **LIMITS, cache=tmp_path)
    tokenize(label_examples[1:], tokenizer, **LIMITS, cache=tmp_path)
    tokenize(label_examples, tokenizer, max_input=41, max_target=8, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


def test_others_may_read_a_table_as_they_may_read_any_new_folder(
    tmp_path, tokenizer, label_examples
):
    (tmp_path / "new").mkdir()
    tokenize(label_examples, tokenizer, **LIMITS, cache=tmp_path / "tokens")
    (table,) = (tmp_path / "tokens").iterdir()
    assert table.stat().st_mode == (tmp_path / "new").stat().st_mode


@pytest.mark.parametrize("file", ["source.ids.npy", "target.ends.npy"])
def test_a_damaged_table_is_made_anew(tmp_path, tokenizer, label_examples, file):
    made = tokenize(label_examples, tokenizer, **LIMITS, cache=tmp_path)
    (data,) = tmp_path.glob(f"*/{file}")
    whole = data.read_bytes()
    for damaged in (b"damaged", whole[:-4] + b"\0\0\0\1", None):
        data.unlink()
        if damaged is not None:
            data.write_bytes(damaged)
        again = tokenize(label_examples, tokenizer, **LIMITS, cache=tmp_path)
        assert list(again.sources) == list(made.sources)
        assert data.read_bytes() == whole


@pytest.mark.parametrize("chunk", [1, 7, 37, 1000])
def test_it_does_not_matter_how_many_examples_are_tokenised_at_a_time(
    monkeypatch, tokenizer, label_examples, chunk
):
    monkeypatch.setattr(module, "CHUNK", chunk)
    split = tokenize(label_examples, tokenizer, max_input=10**6, max_target=8)
    whole = tokenizer([example.source for example in label_examples])["input_ids"]
    assert list(split.sources) == whole
    assert split.tokens == sum(map(len, whole)) + sum(map(len, split.targets))


def test_rows_of_ids_are_a_sequence(tmp_path):
    lists = [[1, 2], [], [2**31 - 1], [0, 7, 7]]
    rows = IdRows.of(lists)
    rows.save(tmp_path, "ids")
    for read in (rows, IdRows.load(tmp_path, "ids")):
        assert list(read) == lists
        assert (read[-1], read[1:3]) == (lists[-1], lists[1:3])
        assert len(read) == 4
        with pytest.raises(IndexError):
            read[4]
    IdRows.of([]).save(tmp_path, "none")
    assert list(IdRows.load(tmp_path, "none")) == []


@pytest.fixture(scope="module")
def byte_level():
    """kind -> a byte-level tokenizer as that family's, trained on a few words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    def build(kind):
        backend = Tokenizer(models.BPE())
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        special = ["<s>", "</s>", "<pad>"]
        letters = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(special_tokens=special, initial_alphabet=letters)
        backend.train_from_iterator([f"{word} emotion: joy" for word in LINES], trainer)
        if kind == "roberta":
            ends = [("</s>", special.index("</s>")), ("<s>", special.index("<s>"))]
            backend.post_processor = processors.RobertaProcessing(*ends, add_prefix_space=False)
        return PreTrainedTokenizerFast(
            tokenizer_object=backend,
            bos_token="<s>",
            cls_token="<s>",
            sep_token="</s>",
            eos_token="</s>",
            pad_token="<pad>",
        )

    return {kind: build(kind) for kind in ("gpt2", "roberta")}


LINES = ["Ross: I am so happy", "Monica: what is it", "Joey: how are you doing today"]


@pytest.mark.parametrize("keep", ["start", "end"])
@pytest.mark.parametrize("kind", ["gpt2", "roberta", "t5"])
def test_a_shortened_input_ends_as_the_whole_one(kind, keep, byte_level, tokenizer):
    """Byte-level tokenizers write the space before a word into its token.

    Commit 60dbe5b: the prompt is tokenised as if nothing preceded it, `e`, `motion` or the like
    in place of `Ġemotion`, so that the two inputs of one split ask by different tokens.
    """
    tokenizer = {**byte_level, "t5": tokenizer}[kind]
    example = Example("1", "1", " ".join(LINES), "emotion:", "joy", ("joy",), keep=keep)
    whole = tokenizer(example.source)["input_ids"]
    with_prompt = tokenizer("emotion:", add_special_tokens=False)["input_ids"]
    room = len(whole) - len(with_prompt) - 4
    end = len(whole) - len(tokenizer(example.context)["input_ids"])  # the prompt's tokens
    end += whole[-1] in tokenizer.all_special_ids  # and </s>
    for splits in (
        tokenize((example,), tokenizer, max_input=room, max_target=8),
        tokenize_labels((example,), [[0]], tokenizer, max_input=room),
    ):
        (shortened,) = splits.sources
        assert len(shortened) == room < len(whole)
        assert shortened[-end:] == whole[-end:]
        assert "emotion:" in tokenizer.decode(shortened[-end:])
        if kind == "roberta":
            assert shortened[0] == whole[0]
        if kind != "t5":
            assert " emotion" in tokenizer.decode(shortened[-end:])


def test_a_shortened_input_of_a_causal_model_ends_as_the_whole_one(byte_level):
    """Commit 60dbe5b: as above."""
    tokenizer = byte_level["gpt2"]
    example = Example("1", "1", " ".join(LINES), "emotion:", "joy", ("joy",))
    whole = tokenizer(example.source)["input_ids"]
    split = tokenize_continued((example,), tokenizer, max_input=len(whole) - 3, max_target=8)
    assert split.sources[0] == whole[3:]
    assert tokenizer.decode(split.targets[0]) == " joy</s>"
