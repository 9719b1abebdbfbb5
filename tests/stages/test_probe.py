"""A linear probe against scikit-learn on what transformers' classifier reads."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_training import distance, tlidb
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.executor import Stage, execute
from dfwe.scoring.decoding import Classify
from dfwe.search.baselines import uniform
from dfwe.search.config import Search
from dfwe.stages.probe import ProbeRecord
from dfwe.stages.train import TrainRecord
from dfwe.statistics.logistic_regression import PENALTIES
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.plan import Plan
from dfwe.tasks.answers import Labels
from dfwe.training.config import TrainingConfig
from dfwe.weights.loading import load

ALL = Stage("all", ("experts", "finetune", "interpolate", "evaluate"))


@pytest.fixture(scope="module")
def plan(make_study, bert, tmp_path_factory):
    """A study whose encoder has no dropout."""
    folder = tmp_path_factory.mktemp("plain") / "bert"
    shutil.copytree(bert, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (folder / "config.json").write_text(json.dumps(config))
    return Plan(
        make_study(
            model=SequenceClassifier("bert", str(folder), max_input=12),
            decoding=Classify(),
            training=TrainingConfig(
                learning_rate=3e-3, effective_batch=8, epochs=1, monitor="own"
            ),
            search=Search(uniform),
        )
    )


def pooled_outputs(network, split):
    """What transformers' BERT classifier reads of each example, one at a time."""
    rows = []
    with torch.no_grad():
        for ids in split.sources:
            rows.append(network.bert(input_ids=torch.tensor([ids])).pooler_output[0])
    return torch.stack(rows).double().numpy()


@pytest.mark.parametrize("with_dev", [False, True])
def test_a_probe_is_scikit_learns_on_the_frozen_readout(with_dev, plan, module_context):
    step = controls.probe(plan, with_dev)
    execute((step.base, step), ALL, module_context)
    store, study = module_context.store, plan.study
    network, tokenizer = load(store.weights(step.base.recipe))
    splits = [
        study.model.tokenize(study.task, study.corpus, name, tokenizer) for name in step.splits
    ]
    x = np.concatenate([pooled_outputs(network, split) for split in splits])
    gold = np.array([target[0] for split in splits for target in split.targets])
    scaler = StandardScaler().fit(x)
    (chosen,) = {store.record(step.recipe, ProbeRecord).penalty} & set(PENALTIES)
    reference = LogisticRegression(C=1 / (chosen * len(gold)), max_iter=5000)
    reference.fit(scaler.transform(x), gold)
    probed, _ = load(store.weights(step.recipe))
    test = study.model.tokenize(study.task, study.corpus, "test", tokenizer)
    expected = reference.predict_log_proba(scaler.transform(pooled_outputs(network, test)))
    with torch.no_grad():
        logits = [probed(input_ids=torch.tensor([ids])).logits[0] for ids in test.sources]
    logs = torch.stack(logits).log_softmax(-1)
    np.testing.assert_allclose(logs.numpy(), expected, atol=2e-3)
    record = store.record(step.recipe, ProbeRecord)
    assert record.examples == len(gold)


def test_a_probe_that_is_fine_tuned_is_a_plain_loop_from_its_weights(plan, module_context):
    step = controls.probe_then_finetune(plan)
    assert step.parents == (controls.probe(plan),)
    assert step.tasks == (plan.study.task,)
    execute((controls.probe(plan).base, *step.parents, step), ALL, module_context)
    store, study = module_context.store, plan.study
    plain, tokenizer = load(store.weights(step.start.recipe))
    tuned, _ = load(store.weights(step.recipe))
    assert distance(tuned, plain) > 1e-4
    split = study.model.tokenize(study.task, study.corpus, "train", tokenizer)
    best = store.record(step.recipe, TrainRecord).best_epoch
    tlidb(plain.train(), {"mood": split}, step.training, study.seed, epochs=best)
    assert distance(tuned, plain) < 2e-6


def test_a_probe_does_not_apply_to_text_or_to_several_labels(plan, make_study):
    assert controls.probe(Plan(make_study())) is None
    assert controls.probe_then_finetune(Plan(make_study())) is None
    several = replace(plan.study.task, answer=Labels("glad"))
    assert controls.probe(Plan(replace(plan.study, task=several))) is None
