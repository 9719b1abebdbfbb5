"""Encoders with a head: heads from one seed, losses and answers against transformers' own."""

import json
import shutil
from dataclasses import replace
from functools import partial

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    RobertaConfig,
    RobertaModel,
)

from dfwe.data.batches import collate
from dfwe.data.dialogue import Dialogue, Example
from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.models.family import Seq2SeqLM
from dfwe.scoring.decoding import Classify, Greedy
from dfwe.scoring.scorer import Scorer
from dfwe.stages.merge import Base
from dfwe.tasks.answers import FreeText, Label, Labels
from dfwe.tasks.metrics import Accuracy, MultilabelF1
from dfwe.tasks.task import Task
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TaskDataModule
from dfwe.weights.checkpoint import Checkpoint
from dfwe.weights.loading import config_of, load, save
from dfwe.weights.readout import POOLING, readout_of, reads_mean, write_pooling

WORDS = "the film was good bad great poor plot actor and a of it how who".split()
TRAINING = TrainingConfig(batch=4, effective_batch=12, learning_rate=3e-3, epochs=2, monitor="own")


class Texts:
    """A corpus of one split; the tasks' readers make up their examples."""

    name = "texts"

    def dialogues(self, split, title=None):
        return (Dialogue("d", (), {}, {}),)

    def labels(self, title):
        return ()

    def whole(self):
        return self


CORPUS = Texts()


def make_task(name, options, answer=None, metric=None, prompt=lambda i: "feeling:"):
    def read(dialogues, title, labels):
        texts = [
            " ".join(WORDS[(i * k) % len(WORDS)] for k in range(1, 3 + i % 9)) for i in range(30)
        ]
        golds = [options[(i * i) % len(options)] for i in range(30)]
        if isinstance(answer, Labels):
            golds = [
                " and ".join(o for j, o in enumerate(options) if i % (j + 2) == 0) or options[0]
                for i in range(30)
            ]
        return [
            Example(f"e{i}", f"e{i}", text, prompt(i), gold, (gold,), tuple(options))
            for i, (text, gold) in enumerate(zip(texts, golds, strict=True))
        ]

    return Task(name, name, read, answer or Label(), (metric or Accuracy(),), 1, labels=options)


MOOD = make_task("mood", ("good", "bad", "so so"))
KIND = make_task("kind", ("film", "book"))
MANY = make_task("many", ("x", "y", "z", "w"), Labels("x"), MultilabelF1())


@pytest.fixture(scope="module")
def fitted(build_trainer):
    """Encoder, start, task, tasks, folder -> the trained module and the dev split."""
    return partial(fit, build_trainer)


@pytest.fixture(scope="module")
def encoder(bert):
    return SequenceClassifier("bert", str(bert), max_input=12)


def fit(build_trainer, encoder, start, task, tasks, tmp_path, seed=3):
    """The network that training gives."""
    network, tokenizer = encoder.start(start, task, CORPUS, seed)
    train = {t.name: encoder.tokenize(t, CORPUS, "train", tokenizer) for t in tasks}
    dev = encoder.tokenize(task, CORPUS, "dev", tokenizer)
    module = encoder.module(
        network, task, Classify(), dev, train=train, training=TRAINING, seed=seed
    )
    trainer = build_trainer(tmp_path, max_epochs=2, reload_dataloaders_every_n_epochs=1)
    trainer.fit(module, TaskDataModule(train, dev, TRAINING, seed=seed))
    save(module.network, tokenizer, tmp_path)
    return module, dev


def test_the_head_is_decided_by_task_and_seed_alone(encoder, bert, tmp_path):
    one, tokenizer = encoder.start(bert, MOOD, CORPUS, 0)
    torch.manual_seed(99)
    save(one, tokenizer, tmp_path)
    other, _ = encoder.start(tmp_path, KIND, CORPUS, 0)  # another task's checkpoint
    save(other, tokenizer, tmp_path / "kind")
    back, _ = encoder.start(tmp_path / "kind", MOOD, CORPUS, 0)
    assert torch.equal(one.classifier.weight, back.classifier.weight)
    assert float(one.classifier.weight.detach().std()) == pytest.approx(0.02, rel=0.3)
    assert not torch.equal(
        one.classifier.weight, encoder.start(bert, MOOD, CORPUS, 1)[0].classifier.weight
    )
    assert other.config.num_labels == 2


@pytest.mark.parametrize(
    "other", [{"task": KIND}, {"seed": 1}, {"task": make_task("mood", ("bad", "good", "so so"))}]
)
def test_a_base_is_another_for_another_head(other, encoder):
    base = Base("", MOOD, CORPUS, encoder, 0)
    assert replace(base, **other).recipe.address != base.recipe.address
    same = replace(base, task=replace(MOOD, max_new_tokens=9), model=replace(encoder, max_input=9))
    assert same.recipe.address == base.recipe.address


def test_a_checkpoint_of_the_task_keeps_its_head_and_loads_with_transformers(
    fitted, encoder, bert, tmp_path
):
    module, _ = fitted(encoder, bert, MOOD, [MOOD], tmp_path)
    trained = module.network.classifier.weight
    again, _ = encoder.start(tmp_path, MOOD, CORPUS, 7)
    assert torch.equal(again.classifier.weight, trained)
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert torch.equal(plain.classifier.weight, trained)
    assert plain.config.id2label == {0: "good", 1: "bad", 2: "so so"}


@pytest.mark.parametrize(
    ("task", "kind"), [(MOOD, "single_label_classification"), (MANY, "multi_label_classification")]
)
def test_the_loss_is_transformers_own(task, kind, encoder, bert):
    network, tokenizer = encoder.start(bert, task, CORPUS, 0)
    split = encoder.tokenize(task, CORPUS, "train", tokenizer)
    module = encoder.module(network, task, Classify(), split)
    index = list(range(len(split)))
    wide = len(split.targets[0])
    batch = collate(split, index, [1.0 / (len(index) * wide)] * len(index), task.name)
    ours = (module.losses(batch) * batch.weight).sum()
    network.config.problem_type = kind
    labels = batch.target[:, 0] if wide == 1 else batch.target.float()
    theirs = network(input_ids=batch.source, attention_mask=batch.mask, labels=labels).loss
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5)


def test_answers_are_the_heads(encoder, bert):
    network, tokenizer = encoder.start(bert, MANY, CORPUS, 0)
    torch.nn.init.normal_(network.classifier.weight)
    split = encoder.tokenize(MANY, CORPUS, "test", tokenizer)
    scores = Scorer(network, split, MANY, Classify())()
    several = 0
    for ids, text in zip(split.sources, scores.texts, strict=True):
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0]
        wanted = {o for o, value in zip("xyzw", logits, strict=True) if value > 0}
        assert set(text.split(" and ")) == (wanted or {"xyzw"[int(logits.argmax())]})
        several += len(wanted) > 1
    assert several


@pytest.mark.parametrize("task", [MOOD, MANY], ids=["one label", "several labels"])
def test_every_labels_likelihood_is_kept(task, encoder, bert):
    network, tokenizer = encoder.start(bert, task, CORPUS, 0)
    torch.nn.init.normal_(network.classifier.weight)
    split = encoder.tokenize(task, CORPUS, "test", tokenizer)
    answers = Scorer(network, split, task, Classify())().answers
    for row, (ids, target) in enumerate(zip(split.sources, split.targets, strict=True)):
        with torch.no_grad():
            logits = network(torch.tensor([ids])).logits[0]
        p = logits.softmax(0) if task is MOOD else logits.sigmoid()
        assert answers.options[row] == pytest.approx(p.log().tolist(), abs=1e-4)
        right = [p[target[0]]] if task is MOOD else p.where(torch.tensor(target) == 1, 1 - p)
        gold = sum(float(value.log()) for value in right)
        assert answers.log_likelihoods[row] == pytest.approx(gold, abs=1e-4)


def test_training_on_several_tasks_leaves_the_scored_ones_head_in_the_network(
    fitted, encoder, bert, tmp_path
):
    module, dev = fitted(encoder, bert, MOOD, [MOOD, KIND, MANY], tmp_path)
    fresh = encoder.module(
        *encoder.start(bert, MOOD, CORPUS, 3)[:1],
        MOOD,
        Classify(),
        dev,
        train={"kind": dev},
        seed=3,
    )
    assert {name: len(held) for name, held in module.heads.items()} == {"kind": 2, "many": 2}
    assert module.heads["kind"][1].shape == (2, 16)
    assert module.network.classifier.weight.shape == (3, 16)
    assert set(fresh.heads) == {"kind"}
    network, _ = load(tmp_path)
    assert Scorer(network, dev, MOOD, Classify())() == module.scores


def test_fine_tunings_of_different_experts_interpolate(fitted, encoder, bert, tmp_path):
    from dfwe.weights.space import WeightSpace

    places = []
    for name, task in (("mood", MOOD), ("kind", KIND)):
        expert, tuned = tmp_path / name, tmp_path / f"{name}-tuned"
        fitted(encoder, bert, task, [task], expert)
        fitted(encoder, expert, MOOD, [MOOD], tuned)
        places.append(tuned)
    space = WeightSpace.from_pretrained(places)
    network, _ = load(places[0])
    space.write([0.5, 0.5], network)
    one, two = (load(place)[0].classifier.weight for place in places)
    assert torch.allclose(network.classifier.weight, (one + two) / 2)


def test_a_roberta_has_its_whole_head_made_anew(tmp_path, bert):
    from dfwe.training.classifier import fresh_head, head_names

    config = RobertaConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    save(RobertaModel(config), AutoTokenizer.from_pretrained(bert), tmp_path)
    network, _ = SequenceClassifier("roberta", str(tmp_path)).start(tmp_path, MOOD, CORPUS, 0)
    head = fresh_head(network, 3, "mood", 0)
    assert (
        sorted(head)
        == sorted(head_names(network))
        == [
            "classifier.dense.bias",
            "classifier.dense.weight",
            "classifier.out_proj.bias",
            "classifier.out_proj.weight",
        ]
    )
    assert all(torch.equal(network.get_parameter(name), held) for name, held in head.items())


@pytest.fixture
def by_mean(encoder, bert, tmp_path):
    """The encoder from a folder that says that it is read at the mean of its tokens."""
    folder = tmp_path / "sentences"
    shutil.copytree(bert, folder)
    write_pooling(folder, 16)
    return replace(encoder, path=str(folder))


def mean_logits(network, batch):
    """A BERT's logits (m, k), in plain torch from the states of its body."""
    states = network.bert(input_ids=batch.source, attention_mask=batch.mask).last_hidden_state
    rows = [
        state[: int(mask.sum())].mean(0) for state, mask in zip(states, batch.mask, strict=True)
    ]
    pooler = network.bert.pooler.dense
    return network.classifier(torch.tanh(pooler(torch.stack(rows))))


@pytest.mark.parametrize("scored", [MOOD, KIND], ids=["the network's head", "another task's"])
def test_the_loss_is_that_of_the_mean_of_the_tokens(scored, by_mean, encoder):
    """Commit 60dbe5b trains on the loss at the first token, whatever the folder says.

    That is 1.09071 where 1.09762 is right for `mood`, 0.69315 where 0.69317 is for `kind`.
    """
    plain, tokenizer = encoder.start(encoder.folder, scored, CORPUS, 0)
    split = encoder.tokenize(scored, CORPUS, "train", tokenizer)
    batch = collate(split, list(range(30)), [1 / 30] * 30, scored.name)
    wanted = torch.nn.functional.cross_entropy(mean_logits(plain, batch), batch.target[:, 0])
    trained, _ = by_mean.start(by_mean.folder, MOOD, CORPUS, 0)
    module = by_mean.module(trained, MOOD, Classify(), split, train={scored.name: split})
    loss = (module.losses(batch) * batch.weight).sum()
    assert float(loss.detach()) == pytest.approx(float(wanted.detach()), abs=1e-6)


def test_answers_are_those_of_the_mean_of_the_tokens(by_mean, encoder, bert):
    """Commit 60dbe5b gives the first example's gold answer -1.0974, not -1.0964."""
    network, tokenizer = by_mean.start(by_mean.folder, MOOD, CORPUS, 0)
    split = by_mean.tokenize(MOOD, CORPUS, "test", tokenizer)
    batch = collate(split, list(range(30)), [1.0] * 30, "mood")
    with torch.no_grad():
        wanted = mean_logits(encoder.start(bert, MOOD, CORPUS, 0)[0], batch).log_softmax(1)
    answers = Scorer(network, split, MOOD, Classify())().answers
    gold = wanted.gather(1, batch.target)[:, 0]
    assert answers.log_likelihoods == pytest.approx(gold.tolist(), abs=1e-5)
    assert torch.allclose(torch.tensor(answers.options), wanted, atol=1e-5)


def test_a_training_at_the_mean_is_scored_and_continued_at_the_mean(fitted, by_mean, tmp_path):
    module, dev = fitted(by_mean, by_mean.folder, MOOD, [MOOD, KIND], tmp_path / "one")
    assert readout_of(tmp_path / "one") == "mean"
    network, _ = load(tmp_path / "one")
    with Scorer(network, dev, MOOD, Classify(), workers=2) as scorer:
        assert scorer() == module.scores
    again, _ = by_mean.start(tmp_path / "one", MOOD, CORPUS, 0)
    assert Scorer(again, dev, MOOD, Classify())() == module.scores
    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path / "one")
    assert Scorer(plain, dev, MOOD, Classify())() != module.scores


def test_recipes_have_the_readout_as_resolved(by_mean, encoder):
    def base(model):
        return Base("", MOOD, CORPUS, model, 0).recipe

    set_so = [replace(by_mean, readout=readout) for readout in ("mean", "first")]
    assert by_mean.settings()["readout"] == "mean"
    assert encoder.settings()["readout"] == "first"
    assert (set_so[0].settings(), base(set_so[0])) == (by_mean.settings(), base(by_mean))
    assert (set_so[1].settings(), base(set_so[1])) == (encoder.settings(), base(encoder))
    assert base(by_mean) != base(encoder)


def test_a_probe_reads_the_first_token_beside_the_mean(by_mean, encoder):
    assert by_mean.readouts == ("mean", "first")
    assert encoder.readouts == ("first",)
    assert Seq2SeqLM("t5").readouts == ("mean",)


def test_a_readout_that_is_set_goes_before_the_folders(by_mean, bert):
    network, _ = replace(by_mean, readout="first").start(by_mean.folder, MOOD, CORPUS, 0)
    assert not reads_mean(network)
    other = SequenceClassifier("bert", str(bert), readout="mean")
    assert reads_mean(other.start(bert, MOOD, CORPUS, 0)[0])
    (by_mean.folder / POOLING).write_text('{"pooling_mode": "max"}')
    assert replace(by_mean, readout="first").settings()["readout"] == "first"
    with pytest.raises(UserError, match=r"the pooling 'max', .* set model\.readout=first or mean"):
        replace(by_mean).settings()


def test_a_readout_that_a_brought_checkpoint_contradicts_is_refused(fitted, by_mean, tmp_path):
    folder = tmp_path / "one"
    fitted(by_mean, by_mean.folder, MOOD, [MOOD], folder)
    checkpoint = Checkpoint.read(folder)
    read = config_of(checkpoint).to_dict()
    by_mean.fits(checkpoint, read, MOOD, CORPUS)
    replace(by_mean, readout="mean").fits(checkpoint, read, MOOD, CORPUS)
    with pytest.raises(UserError, match=r"reads the mean .* but model\.readout=first"):
        replace(by_mean, readout="first").fits(checkpoint, read, MOOD, CORPUS)
    shutil.rmtree(folder / POOLING.parent)
    by_mean.fits(checkpoint, read, MOOD, CORPUS)
    with pytest.raises(UserError, match=r"reads the first token .* but model\.readout=mean"):
        replace(by_mean, readout="mean").fits(checkpoint, read, MOOD, CORPUS)


def test_an_idle_pooler_starts_as_the_identity_and_is_kept_once_trained(encoder, bert, tmp_path):
    opened = replace(encoder, pooler="identity")
    network, tokenizer = opened.start(bert, MOOD, CORPUS, 0)
    pooler = network.bert.pooler.dense
    assert torch.equal(pooler.weight, torch.eye(16))
    assert not pooler.bias.any()
    own, _ = encoder.start(bert, MOOD, CORPUS, 0)
    for name, held in own.named_parameters():
        if "pooler" not in name:
            assert torch.equal(held, network.get_parameter(name)), name
    with torch.no_grad():
        pooler.weight[0, 1] = 3.0
    save(network, tokenizer, tmp_path)
    kept, _ = opened.start(tmp_path, KIND, CORPUS, 0)
    assert torch.equal(kept.bert.pooler.dense.weight, pooler.weight)
    assert opened.settings() != encoder.settings()
    assert Base("", MOOD, CORPUS, opened, 0).recipe != Base("", MOOD, CORPUS, encoder, 0).recipe


def test_a_pooler_is_one_of_two_and_has_to_be_there(tmp_path, bert):
    with pytest.raises(UserError, match=r"^model\.pooler=mean should be 'own' or 'identity'"):
        SequenceClassifier("bert", pooler="mean")
    config = RobertaConfig(
        vocab_size=30,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
    )
    save(
        RobertaModel(config, add_pooling_layer=False),
        AutoTokenizer.from_pretrained(bert),
        tmp_path,
    )
    with pytest.raises(UserError, match=r"has no pooler .* set model\.pooler=own"):
        SequenceClassifier("roberta", str(tmp_path), pooler="identity").start(
            tmp_path, MOOD, CORPUS, 0
        )


def test_a_tokenizer_is_saved_as_it_was_whatever_it_read_before(encoder, bert, tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(bert)
    tokenizer(["the film"], padding="max_length", truncation=True, max_length=7)
    other = tmp_path / "other"
    shutil.copytree(bert, other)
    tokenizer.save_pretrained(other)
    assert json.loads((other / "tokenizer.json").read_text())["truncation"]["max_length"] == 7
    _, loaded = encoder.start(other, MOOD, CORPUS, 0)
    loaded.save_pretrained(tmp_path / "saved")
    found = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert found["truncation"] is found["padding"] is None


def test_the_input_starts_with_cls_and_ends_with_sep_however_long(encoder, bert):
    asked = make_task("asked", ("x", "y"), prompt=lambda i: f"how {'who ' * (i % 20)}it")
    _, tokenizer = encoder.start(bert, asked, CORPUS, 0)
    split = encoder.tokenize(asked, CORPUS, "dev", tokenizer)
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all(ids[0] == cls and ids[-1] == sep for ids in split.sources)
    assert max(map(len, split.sources)) == 12
    assert split.sources[1] == tokenizer(split.examples[1].source)["input_ids"]


def test_a_prompt_that_never_varies_is_left_out(encoder, bert):
    _, tokenizer = encoder.start(bert, MOOD, CORPUS, 0)
    split = encoder.tokenize(MOOD, CORPUS, "dev", tokenizer)
    assert split.sources[3] == tokenizer(split.examples[3].context)["input_ids"]


def test_what_a_head_cannot_answer_is_refused(encoder, bert):
    _, tokenizer = encoder.start(bert, MOOD, CORPUS, 0)
    free = make_task("free", (), FreeText())
    free = replace(free, read=lambda *a: [Example("e", "e", "the film", "", "x", ("x",))])
    with pytest.raises(UserError, match="task=free is answered in free text"):
        encoder.tokenize(free, CORPUS, "dev", tokenizer)
    varied = replace(
        MOOD,
        read=lambda *a: [
            Example(f"e{o}", "e", "the film", "", o, (o,), (o, "bad")) for o in ("good", "poor")
        ],
    )
    with pytest.raises(UserError, match="offers other answers in each example"):
        encoder.tokenize(varied, CORPUS, "dev", tokenizer)


def test_the_wrong_decoding_and_the_wrong_monitor_are_refused(encoder):
    with pytest.raises(UserError, match="leave decoding= out"):
        encoder.check(Greedy(), TRAINING)
    with pytest.raises(UserError, match=r"set training\.monitor=own"):
        encoder.check(Classify(), replace(TRAINING, monitor="target"))
    encoder.check(Classify(), TRAINING)


def test_a_package_that_is_not_installed_is_named():
    with pytest.raises(UserError, match="pip install --no-deps no-such-weights"):
        _ = SequenceClassifier("none", "package:no_such_weights/model").folder


def test_a_weight_file_with_another_digest_is_refused(bert):
    with pytest.raises(UserError, match="sha256 differs"):
        SequenceClassifier("bert", str(bert), sha256="0" * 64).start(bert, MOOD, CORPUS, 0)
