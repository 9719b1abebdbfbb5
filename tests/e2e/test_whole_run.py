"""One whole run on the sample corpus: what a person finds afterwards."""

import csv
import json
from pathlib import Path

import pytest
import yaml
from offline import logged_in

from dfwe.data.corpus import TLiDBCorpus
from dfwe.studies.ensembling.dashboard import PANELS

pytestmark = pytest.mark.slow  # whole runs of the command

HELPERS = Path(__file__).parents[1] / "helpers"
QUICK = (
    "corpus=sample",
    "model=tiny",
    "model.max_input=64",
    "training.epochs=1",
    "search.strategy.evaluations=12",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, started):
    """(folder, process) of one whole run on the sample corpus, a process of its own."""
    folder = tmp_path_factory.mktemp("finished")
    process = started(folder, "stage=all", "task=relations", *QUICK)
    assert process.returncode == 0, process.stderr
    return folder, process


@pytest.fixture(scope="module")
def results(finished):
    _, process = finished
    return json.loads(Path(process.stdout.splitlines()[-1]).read_text())


def test_results_have_every_key(results):
    assert set(results) == {
        "task",
        "seed",
        "model",
        "corpus",
        "sources",
        "settings",
        "models",
        "experts",
        "baseline",
        "uniform",
        "dfwe",
        "one_standard_error",
        "likeliest",
        "selection",
        "cross_fitted",
        "optimism",
        "delta",
        "interval",
        "no_interval",
        "methods",
        "parts",
        "k_fold",
        "seconds",
        "model_dir",
    }
    assert [row["stage"] for row in results["models"]] == [
        *["experts"] * 5,
        *["finetune"] * 5,
        "interpolate",
    ]
    assert results["settings"]["training.epochs"] == "1"
    assert [set(row) for row in results["experts"]] == [{"label", "address", "dev", "test"}] * 5
    mixture, counts = {"alpha", "dev", "test"}, {"evaluations", "iterations", "failed"}
    metrics = {"dev_metrics", "test_metrics"}
    assert set(results["dfwe"]) == {*mixture, *counts, *metrics, "remeasured", "remark"}
    assert set(results["seconds"]) == {"experts", "finetune", "interpolate", "evaluate"}
    assert sum(results["dfwe"]["alpha"].values()) == pytest.approx(1)
    assert results["delta"] == results["dfwe"]["test"] - results["baseline"]["test"]
    assert results["optimism"] == results["dfwe"]["dev"] - results["dfwe"]["test"]
    assert results["interval"][0] <= results["delta"] <= results["interval"][1]
    assert results["one_standard_error"]["dev"] <= results["dfwe"]["dev"]


def test_the_mixture_is_never_worse_on_dev_than_an_expert(results):
    assert results["dfwe"]["dev"] >= max(row["dev"] for row in results["experts"])
    assert results["dfwe"]["dev"] >= results["uniform"]["dev"]


def test_what_dev_can_resolve_is_said_before_the_search_moves(finished):
    (line,) = [line for line in finished[1].stdout.splitlines() if "is within noise" in line]
    assert line.startswith("Dev has ")


def test_trials_hold_every_evaluated_alpha(finished, results):
    folder = Path(finished[1].stdout.splitlines()[-1]).parent
    rows = [json.loads(line) for line in (folder / "trials.jsonl").read_text().splitlines()]
    assert len(rows) == results["dfwe"]["evaluations"]
    assert 6 < len(rows) <= 12  # beyond the opening, within the cap
    assert [row["alpha"] for row in rows[:5]] == [
        [float(i == j) for j in range(5)] for i in range(5)
    ]
    assert max(row["score"] for row in rows) == results["dfwe"]["dev"]


def test_pictures_are_in_the_run_folder(finished):
    folder = Path(finished[1].stdout.splitlines()[-1]).parent
    for name in ("learning_curves.png", "search.png", "alpha.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")


def test_predictions_are_in_fetas_submission_format(finished):
    folder = Path(finished[1].stdout.splitlines()[-1]).parent
    tables = []
    for name in ("predictions.csv", "baseline_predictions.csv"):
        with (folder / name).open(newline="") as file:
            tables.append(list(csv.reader(file)))
    ids = [[row[0] for row in table] for table in tables]
    assert ids[0] == ids[1]
    samples = [
        sample
        for dialogue in TLiDBCorpus("sample", "shipped:sample_corpus.zip").dialogues("test")
        for sample in dialogue.annotations.get("relation_extraction", ())
    ]
    assert ids[0] == [t["instance_id"] for sample in samples for t in sample["relation_triples"]]
    assert all(len(row) == 2 for table in tables for row in table)


def test_the_final_model_loads_without_us_and_is_the_mixture_of_the_experts(results, finished):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    network = AutoModelForSeq2SeqLM.from_pretrained(results["model_dir"])
    tokenizer = AutoTokenizer.from_pretrained(results["model_dir"])
    ids = tokenizer("context: Nora Quill: Hooray! emotion:", return_tensors="pt").input_ids
    assert network.generate(ids, max_new_tokens=3).shape[0] == 1
    store = Path(results["model_dir"]).parent
    experts = [
        load_file(store / f"train-{row['address']}" / "model.safetensors")
        for row in results["experts"]
    ]
    for name, parameter in network.named_parameters():
        wanted = sum(
            weight * expert[name]
            for weight, expert in zip(results["dfwe"]["alpha"].values(), experts, strict=True)
        )
        torch.testing.assert_close(parameter.data, wanted, atol=1e-6, rtol=1e-5)


def test_the_run_folder_has_a_model_card_and_a_mergekit_file(finished, results):
    folder = Path(finished[1].stdout.splitlines()[-1]).parent
    card = (folder / "model_card.md").read_text()
    alpha = results["dfwe"]["alpha"]
    assert all(f"| {label} | {weight:.6f} |" in card for label, weight in alpha.items())
    assert f"| {results['dfwe']['test']:.2f} |" in card
    merge = yaml.safe_load((folder / "mergekit.yml").read_text())
    weights = [model["parameters"]["weight"] for model in merge["models"]]
    assert weights == list(alpha.values())
    parents = [Path(model["model"]["model"]["path"]) for model in merge["models"]]
    assert all((parent / "config.json").is_file() for parent in parents)


def test_the_table_fits_eighty_columns(finished):
    lines = finished[1].stdout.splitlines()
    lines = lines[lines.index("relations from characters, reading, personality") :]
    assert any("DFWE" in line for line in lines)
    assert all(len(line) <= 80 for line in lines if not line.startswith(("final", "plots", "/")))


def test_the_report_finds_the_run_and_says_what_it_said(finished, results, dfwe):
    folder, _ = finished
    place = folder / "report"
    process = dfwe(
        folder,
        "stage=report",
        "report.tasks=relations",
        "report.seeds=0",
        *QUICK,
        f"hydra.run.dir={place}",
    )
    assert process.returncode == 0, process.stderr
    (run,) = json.loads((place / "report.json").read_text())["relations"]
    methods = {row["name"]: row for row in run["methods"]}
    assert methods["dfwe"]["delta"] == results["delta"]
    assert methods["one_standard_error"]["test"] == results["one_standard_error"]["test"]
    assert "<svg" in (place / "report.html").read_text()


def test_a_second_call_trains_nothing_and_prints_the_same_table(finished, dfwe):
    folder, first = finished
    store = folder / "multirun/store"

    def files():  # folders too: what writes nothing runs on a disk that is read-only
        return {path: path.stat().st_mtime_ns for path in (store, *store.rglob("*"))}

    before = files()
    second = dfwe(folder, "stage=all", "task=relations", *QUICK)
    assert second.returncode == 0, second.stderr
    assert files() == before
    shown = first.stdout.partition("scores in points")[2]  # after the plan, which has less to do
    table = [line for line in shown.splitlines() if "  " in line and "multirun" not in line]
    assert table
    assert [line for line in table if line in second.stdout] == table


def predictions(finished):
    folder = Path(finished[1].stdout.splitlines()[-1]).parent
    return (folder / "predictions.csv").read_text().splitlines()


def test_wandb_offline_runs_hold_a_run_for_each_recipe(finished, results):
    folder, _ = finished
    files = list(folder.rglob("run-*.wandb"))
    store = Path(results["model_dir"]).parent
    names = {path.name for path in store.iterdir() if (path / "recipe.json").exists()}
    addresses = {name.rpartition("-")[2] for name in names}
    runs = {file.stem.removeprefix("run-"): file for file in files}
    assert len(runs.keys() & addresses) == 2 * len(results["experts"]) + 2
    (study,) = runs.keys() - addresses
    records = [json.loads(line) for line in logged_in(runs[study]).splitlines()]
    updates = [record["summary"]["update"] for record in records if record["type"] == "summary"]
    summary = {key: value for update in updates for key, value in update.items()}
    assert summary["test/delta"] == pytest.approx(results["delta"])
    low, high = results["interval"]
    assert (summary["test/delta_low"], summary["test/delta_high"]) == pytest.approx((low, high))
    for label, weight in results["dfwe"]["alpha"].items():
        assert summary[f"alpha/{label}"] == pytest.approx(weight)
    assert summary["test/predictions.nrows"] == len(predictions(finished))
    address = Path(results["model_dir"]).name.rpartition("-")[2]
    shown = logged_in(next(file for file in files if file.stem.endswith(address)))
    for wanted in (
        "search/score",
        "search/best",
        "search/trials",
        "interpolate",
        "relations-seed0",
        "learning_rate",
        "task=relations",
        "alpha/characters",
    ):
        assert wanted in shown


def test_the_dashboard_shows_what_runs_log(finished):
    folder, _ = finished
    recipes = [json.loads(p.read_text()) for p in folder.glob("multirun/store/*/recipe.json")]
    kinds = {recipe["address"]: recipe["kind"] for recipe in recipes}
    # Other tests add steps that log elsewhere: the runs choose the steps.
    files = {run.stem.removeprefix("run-"): run for run in folder.rglob("run-*.wandb")}
    runs = {kinds[address]: run for address, run in files.items() if address in kinds}
    shown = "".join(logged_in(runs[kind]) for kind in ("train", "interpolate", "evaluate"))
    keys = [key for *_, shows in PANELS for key in shows]
    assert len(keys) == 13
    assert [key for key in keys if key not in shown] == []


def test_a_sweep_shares_what_its_jobs_have_in_common(finished, dfwe):
    folder, _ = finished
    store = folder / "multirun/store"
    before = set(store.glob("*/recipe.json"))
    process = dfwe(
        folder,
        "-m",
        "hydra/launcher=joblib",
        "stage=interpolate",
        "task=relations",
        "search/groups=none,part",
        "logger=csv",
        *QUICK,
    )
    assert process.returncode == 0, process.stderr
    # A row for each job, over what was swept.
    assert "Sweep: 2 runs" in process.stdout
    table = folder / process.stdout.splitlines()[-1]
    header, *rows = table.read_text().splitlines()
    assert header == "search/groups,dev"
    assert [row.split(",")[0] for row in rows] == ["none", "part"]
    # One alpha was there, and no expert is trained again.
    (recipe,) = set(store.glob("*/recipe.json")) - before
    alpha = json.loads((recipe.parent / "record.json").read_text())["alpha"]
    assert len(alpha) == 4  # embedding, encoder, decoder, head
    assert all(abs(sum(weights) - 1) < 1e-9 for weights in alpha)


SWEEPER = {  # as Optuna's
    "hydra.sweeper._target_": "hydra_plugins.scores_sweeper.ScoresSweeper",
    "+hydra.sweeper.tries": "['search/groups=none','search.strategy.evaluations=9']",
}


def test_a_sweeper_gets_the_score_that_it_is_to_maximise(finished, results, dfwe):
    folder, _ = finished
    words = [f"{key}={value}" for key, value in SWEEPER.items()]
    process = dfwe(
        folder,
        "-m",
        *words,
        "stage=interpolate",
        "task=relations",
        "optimized=dev/delta",
        "logger=csv",
        *QUICK,
        PYTHONPATH=str(HELPERS),
    )
    assert process.returncode == 0, process.stderr
    first, second = json.loads((folder / "scores.json").read_text())
    assert first == results["dfwe"]["dev"] - results["baseline"]["dev"]
    place = Path(process.stdout.splitlines()[-1]).parent / "1" / "results.json"  # beside sweep.csv
    other = json.loads(place.read_text())
    assert second == other["dfwe"]["dev"] - other["baseline"]["dev"]
