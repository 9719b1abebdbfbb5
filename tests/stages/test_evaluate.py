"""The test split's scores: Lightning's `trainer.test` gives what the step stores."""

from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from dfwe.errors import UserError
from dfwe.models.causal import CausalLM
from dfwe.models.encoder import SequenceClassifier
from dfwe.models.family import Seq2SeqLM
from dfwe.pipeline.executor import Stage, compute, execute
from dfwe.scoring.decoding import Classify, Greedy, Likelihood
from dfwe.stages.evaluate import Test, TestRecord
from dfwe.stages.merge import Base
from dfwe.studies.ensembling.plan import Plan
from dfwe.training.config import TrainingConfig
from dfwe.training.datamodule import TaskDataModule
from dfwe.weights.loading import load, save


@pytest.fixture(scope="module")
def families(tokenizer, make_network, bert, tmp_path_factory):
    """Family -> a tiny random model of it and how its answers are read."""
    folder = tmp_path_factory.mktemp("families")
    save(make_network(2), tokenizer, folder / "t5")
    torch.manual_seed(0)
    gpt = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=64,
        n_embd=16,
        n_layer=2,
        n_head=2,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.eos_token_id,
    )
    save(GPT2LMHeadModel(gpt), tokenizer, folder / "gpt")
    limits = {"max_input": 32, "max_target": 6}
    return {
        "seq2seq": (Seq2SeqLM("t5", str(folder / "t5"), **limits), Greedy()),
        "causal": (CausalLM("gpt", str(folder / "gpt"), **limits), Likelihood()),
        "encoder": (SequenceClassifier("bert", str(bert), **limits), Classify()),
    }


def logged(stored):
    """What Lightning logs of the stored scores, to the last digit."""
    metrics = {f"test/{name}": value for name, value in stored.metrics.items()}
    return {"test/score": stored.score, "test/log_likelihood": stored.log_likelihood, **metrics}


@pytest.mark.parametrize("family", ["seq2seq", "causal", "encoder"])
def test_lightnings_test_and_predict_give_the_steps_scores(
    family, families, make_study, context, build_trainer, tmp_path
):
    model, decoding = families[family]
    study = make_study()
    task, corpus = study.task, study.corpus
    base = Base("toy", task, corpus, model, 0)
    step = Test("toy", "toy", base, task, corpus, model, decoding)
    for each in (base, step):
        compute(each, context)
    stored = context.store.record(step.recipe, TestRecord).scores("model")

    network, tokenizer = load(context.store.weights(base.recipe))
    dev, test = (model.tokenize(task, corpus, split, tokenizer) for split in ("dev", "test"))
    module = model.module(network, task, decoding, dev, test=test)
    data = TaskDataModule({}, dev, TrainingConfig(), 0, test=test)
    trainer = build_trainer(tmp_path)
    (shown,) = trainer.test(module, data, verbose=False)
    assert module.scores.score == stored.score
    assert module.scores.log_likelihood == stored.log_likelihood
    assert module.scores.metrics == stored.metrics
    assert shown == logged(stored)

    answers = step.answers(context.store)["model"]
    assert module.scores.answers == answers
    assert module.test_scorer.reduce(trainer.predict(module, data)).answers == answers
    trainer.validate(module, data, verbose=False)
    assert module.scores.answers != answers


def test_lightnings_test_of_each_model_gives_the_evaluations_scores(
    make_study, make_network, tokenizer, context, build_trainer, tmp_path
):
    names = [str(tmp_path / f"own{seed}") for seed in (0, 1)]
    for seed, name in enumerate(names):
        save(make_network(seed), tokenizer, Path(name))
    study = make_study(sources=(), checkpoints=names)
    plan = Plan(study)
    stage = Stage("all", ("import", "interpolate", "evaluate"))
    execute(plan.steps, stage, context)
    record = context.store.record(plan.evaluation.recipe, TestRecord)
    answers = plan.evaluation.answers(context.store)
    mixture = plan.evaluation.mixture
    models = {
        "baseline": plan.evaluation.baseline,
        "mixture": mixture,
        **dict(enumerate(mixture.experts)),
    }
    for key, step in models.items():
        network, tokens = load(context.store.weights(step.recipe))
        dev, test = (
            study.model.tokenize(study.task, study.corpus, split, tokens)
            for split in ("dev", "test")
        )
        module = study.model.module(network, study.task, study.decoding, dev, test=test)
        data = TaskDataModule({}, dev, TrainingConfig(), 0, test=test)
        (shown,) = build_trainer(tmp_path).test(module, data, verbose=False)
        assert shown == logged(record.scores(key))
        assert module.scores.answers == answers[key]
    assert len({answers[key].log_likelihoods for key in models}) == 3


def test_a_module_or_data_without_a_test_split_says_so(
    families, make_study, build_trainer, tmp_path
):
    (model, decoding), study = families["seq2seq"], make_study()
    network, tokenizer = load(model.folder)
    dev = model.tokenize(study.task, study.corpus, "dev", tokenizer)
    module = model.module(network, study.task, decoding, dev)
    data = TaskDataModule({}, dev, TrainingConfig(), 0)
    with_test = TaskDataModule({}, dev, TrainingConfig(), 0, test=dev)
    for work in ("test", "predict"):
        for given, said in ((data, "data has no test split"), (with_test, "without a test split")):
            with pytest.raises(UserError, match=rf"{said}; pass one as test="):
                getattr(build_trainer(tmp_path), work)(module, given)
