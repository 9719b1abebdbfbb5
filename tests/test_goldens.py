"""What TLiDB itself renders and measures: inputs, targets and metrics of every golden file.

DFWE_GOLDENS names the folder (default: ../shared/goldens/feta_friends beside the checkout; where
that is absent, the small own set in tests/goldens), DFWE_DATA the corpus behind it.
"""

import gzip
import json
import os
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.dialogue import Example
from dfwe.tasks.decode import Label, Labels
from dfwe.tasks.metrics import F1, TokenF1

ROOT = Path(__file__).parents[1]
OWN = ROOT / "tests" / "goldens"
SHARED = ROOT.parent / "shared"
FOLDER = Path(
    os.environ.get("DFWE_GOLDENS")
    or (SHARED / "goldens/feta_friends" if (SHARED / "goldens/feta_friends").is_dir() else OWN)
)
DATA = OWN if FOLDER == OWN else os.environ.get("DFWE_DATA") or SHARED / "data/feta_friends"
NAMES = ("emory", "meld", "reading", "characters", "qa", "personality", "relations")
METRICS = {  # TLiDB's key -> ours
    "F1-micro_all": "f1_micro",
    "F1-weighted_all": "f1_weighted",
    "F1-macro_all": "f1_macro",
    "Exact_Match_all": "exact_match",
    "token_F1-macro_all": "token_f1_macro",
    "token_F1-micro_all": "token_f1_micro",
    "acc_avg": "accuracy",
}
SPLITS = {
    "fewshot_train": ("few", "train"),
    "fewshot_dev": ("few", "dev"),
    "test": ("few", "test"),
}


def files(metric: bool) -> list[Path]:
    return sorted(f for f in FOLDER.glob("*.jsonl.gz") if ("metric_goldens" in f.name) == metric)


def rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def tasks():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        made = [
            instantiate(compose("config", overrides=[f"task={name}"]).task, _convert_="all")
            for name in NAMES
        ]
    return {task.title: task for task in made}


@pytest.fixture(scope="module")
def corpora():
    return {"few": TLiDBCorpus("feta_friends", str(DATA))}


def test_the_golden_files_are_there():
    assert files(metric=False)
    assert files(metric=True)


@pytest.mark.parametrize("path", files(metric=False), ids=lambda path: path.name)
def test_inputs_and_targets_are_tlidbs(path, tasks, corpora):
    title, _, split = path.name.removesuffix(".jsonl.gz").rpartition(".")
    shots, split = SPLITS[split]
    examples = tasks[title].examples(corpora[shots], split)
    wanted = rows(path)
    assert [example.id for example in examples] == [row["instance_id"] for row in wanted]
    for example, row in zip(examples, wanted, strict=True):
        assert example.source == row["X"]
        golds = row["y"] if isinstance(row["y"], list) else [row["y"]]
        assert list(example.references) == golds
        assert example.target == golds[0]


def _compatible(task):
    """The task with every part in its TLiDB-compatible mode."""
    answer = task.answer
    if isinstance(answer, Label):
        answer = Label(exact=True)
    elif isinstance(answer, Labels):
        answer = Labels(answer.default, substring=True)
    metrics = [
        type(metric)(metric.average, compatibility="tlidb")
        if isinstance(metric, F1 | TokenF1)
        else metric
        for metric in task.metrics
    ]
    return answer, metrics


def _gold_example(task, gold) -> Example:
    golds = tuple(gold) if isinstance(gold, list) else (gold,)
    names = getattr(task.read, "keywords", {}).get("names")
    options = tuple(names.values()) if names else tuple(task.labels or CAST)
    return Example("", "", "", "", golds[0], golds, options)


CAST = ("chandler", "joey", "monica", "phoebe", "rachel", "ross", "other")


@pytest.mark.parametrize("path", files(metric=True), ids=lambda path: path.name)
def test_metrics_are_tlidbs_in_the_compatible_mode(path, tasks):
    task = tasks[path.name.removesuffix(".metric_goldens.jsonl.gz")]
    answer, metrics = _compatible(task)
    for row in rows(path):
        examples = [_gold_example(task, gold) for gold in row["y_true"]]
        answers = [
            answer(text, example)
            for text, example in zip(row["predictions"], examples, strict=True)
        ]
        if "y_pred_processed" in row:
            assert answers == [
                value if isinstance(value, list) else int(value)
                for value in row["y_pred_processed"]
            ]
        golds = [answer.gold(example) for example in examples]
        ours = {metric.name: metric(answers, golds) / 100 for metric in metrics}
        theirs = {METRICS[key]: value for key, value in row["metrics"].items()}
        assert ours == pytest.approx(theirs, abs=1e-6)
        mean = sum(ours.values()) / len(ours)
        assert mean == pytest.approx(row["mean_of_metrics"], abs=1e-6)
