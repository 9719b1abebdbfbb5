"""What TLiDB itself renders and measures: inputs, targets and metrics of every golden file.

DFWE_GOLDENS names the folder of TLiDB's own files and DFWE_DATA the corpus; without them the small
set in tests/goldens is checked, which was worked out by hand.
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

ROOT = Path(__file__).parents[1]
SMALL = ROOT / "tests/goldens"
FOLDER = Path(os.environ.get("DFWE_GOLDENS") or SMALL)
DATA = SMALL if FOLDER == SMALL else Path(os.environ["DFWE_DATA"])
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
SPLITS = {"fewshot_train": "train", "fewshot_dev": "dev", "test": "test"}


def files(metric: bool) -> list[Path]:
    found = sorted([*FOLDER.glob("*.jsonl.gz"), *FOLDER.glob("*.jsonl")])
    return [path for path in found if ("metric_goldens" in path.name) == metric]


def rows(path: Path) -> list[dict]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def tasks():
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        chosen = [
            compose("config", overrides=[f"task={name}", "task.compatibility=tlidb"]).task
            for name in NAMES
        ]
        made = [instantiate(task, _convert_="all") for task in chosen]
    return {task.title: task for task in made}


@pytest.fixture(scope="module")
def corpus():
    return TLiDBCorpus("feta_friends", str(DATA))


def test_the_golden_files_are_there():
    assert files(metric=False)
    assert files(metric=True)


@pytest.mark.parametrize("path", files(metric=False), ids=lambda path: path.name)
def test_inputs_and_targets_are_tlidbs(path, tasks, corpus):
    title, split, *_ = path.name.split(".")
    examples = tasks[title].examples(corpus, SPLITS[split])
    wanted = rows(path)
    assert [example.id for example in examples] == [row["instance_id"] for row in wanted]
    for example, row in zip(examples, wanted, strict=True):
        assert example.source == row["X"]
        golds = row["y"] if isinstance(row["y"], list) else [row["y"]]
        assert list(example.references) == golds
        assert example.target == golds[0]


def _gold_example(task, corpus, gold) -> Example:
    golds = tuple(gold) if isinstance(gold, list) else (gold,)
    names = getattr(task.read, "keywords", {}).get("names")
    options = names.values() if names else task.labels or corpus.labels(task.title)
    return Example("", "", "", "", golds[0], golds, tuple(options))


@pytest.mark.parametrize("path", files(metric=True), ids=lambda path: path.name)
def test_metrics_are_tlidbs_in_the_compatible_mode(path, tasks, corpus):
    task = tasks[path.name.split(".")[0]]
    for row in rows(path):
        examples = [_gold_example(task, corpus, gold) for gold in row["y_true"]]
        answers = [
            task.answer(text, example)
            for text, example in zip(row["predictions"], examples, strict=True)
        ]
        for answer, theirs in zip(answers, row.get("y_pred_processed", answers), strict=True):
            assert answer == (int(theirs) if isinstance(answer, int) else theirs)
        ours = task.score(row["predictions"], examples)
        assert ours.pop("score") / 100 == pytest.approx(row["mean_of_metrics"], abs=1e-6)
        theirs = {METRICS[key]: value for key, value in row["metrics"].items()}
        assert {key: value / 100 for key, value in ours.items()} == pytest.approx(theirs, abs=1e-6)
