"""A user's mistake: one clear sentence with the way out, exit code 1, no traceback, in time."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # a hundred commands

ASSETS = Path(__file__).parents[2] / "src" / "dfwe" / "assets"
MISTAKES = {
    "unknown task": (["task=emori"], "task=emori is unknown; did you mean emory?"),
    "unknown stage": (["stage=expert"], "did you mean experts?"),
    "unknown key": (["training.lerning_rate=1"], "did you mean training.learning_rate?"),
    "unknown source": (["task=emory", "sources.list=[mold]"], "known: "),
    "source equal to target": (["task=emory", "sources.list=[emory]"], "is the target task"),
    "source named twice": (["task=emory", "sources.list=[qa,qa]"], "name each once"),
    "no source": (["task=emory", "sources.list=[]"], "name at least one: sources.list"),
    "no such survey": (["sources.survey=nowhere"], "is no results.json of stage=region"),
    "missing data": (["corpus=feta_friends", "corpus.path=nowhere"], "point DFWE_DATA"),
    "batch that does not divide": (["training.batch=7"], "not a multiple"),
    "a base of no checkpoints": (["base=a"], "base=a is what checkpoints=[...] were fine-tuned"),
    "a score of no checkpoints": (
        ["score={_target_: math.isclose}", "allow=[math]"],
        "score=math.isclose is searched over models that exist; name them: checkpoints=[a,b]",
    ),
    "nothing to report": (["stage=report"], "has no finished run of emory, reading"),
    "nothing asked of a report": (["stage=report", "report.tasks=[]"], "report.tasks is empty"),
    "a report of one seed": (
        ["stage=report", "report.tasks=emory", "report.seeds=0"],
        "has no finished run of emory with",
    ),
    "what searches share": (
        ["search=base"],
        "search=base is what others share and leaves search.strategy open; choose one of cma_es,",
    ),
    "a search's setting": (["search.strategy.evaluations=many"], "should be a valid integer"),
    "a search that cannot start": (
        ["search.strategy.start=middle"],
        "should be 'best', 'centroid' or",
    ),
    "groups of a line": (["search=line", "search/groups=part"], "one alpha"),
    "checkpoints that are not there": (["checkpoints=[nowhere,nothere]"], "PROBLEM  nothere"),
    "one fold": (["search.folds=1"], "search.folds=1 should be greater than or equal to 2"),
    "a screen that is no number": (["search.screen=few"], "few should be a valid integer"),
    "one checkpoint": (["checkpoints=[nowhere]"], "mixing needs at least two"),
    "a stage that trains, with checkpoints": (
        ["stage=experts", "checkpoints=[a,b]"],
        "mixed as they are",
    ),
    "unknown sources": (["sources=nope"], "sources=nope is unknown; known: default, labels"),
    "unknown task of a report": (
        ["stage=report", "report.tasks=[emori]"],
        "report.tasks has the unknown task 'emori'",
    ),
    "more folds than dialogues": (["search.folds=99"], "dialogues of this dev split"),
    "unknown setting": (["+search.strategy.foo=1"], "search.strategy.foo= is not known"),
    "what no recipe would see": (["trainer.max_epochs=2"], "set here: set training.epochs."),
    "a seed that is no number": (["seed=abc"], "seed=abc should be a valid integer"),
    "a key at the top that nothing reads": (["+optimizer=sgd"], "optimizer= is not known"),
    "a key of a group that nothing reads": (["+report.taks=[qa]"], "did you mean report.tasks?"),
    "a key of a list's part": (
        ["task.metrics=[{_target_: dfwe.tasks.metrics.F1, avrage: micro}]"],
        "task.metrics.avrage= is not known; did you mean task.metrics.average?",
    ),
    "a test score to optimize": (["optimized=test/score"], "choose settings by the test split"),
    "a search without evaluations": (
        ["search.strategy.evaluations=0"],
        "search.strategy.evaluations=0 should be greater than or equal to 1",
    ),
    "several stages missing": (["stage=evaluate"], "compute them with: dfwe stage=all corpus="),
    "controls without names": (["controls=x"], "controls=x is unknown; known: best_expert, "),
    "a run's folder": (["hydra.run.dir=/dev/null/x"], "is needed; set hydra.run.dir= to"),
    "a sweep's folder": (["hydra.sweep.dir=/dev/null/x", "-m"], "needed; set hydra.sweep.dir="),
    "unknown monitor": (["training.monitor=mine"], "should be 'target' or 'own'"),
    "a report of a task twice": (
        ["stage=report", "report.tasks=[emory,emory]"],
        "report.tasks=['emory', 'emory'] contains a duplicate",
    ),
    "no sources known": (["task.name=another"], "no source task for another; name at least one"),
    "checkpoints with numbers for names": (
        ["checkpoints=[1,2]"],
        "1 is not a folder; give one",
    ),
    "a report to push": (["stage=report", "push=true"], "stage=report computes none"),
    "a project that W&B refuses": (
        [
            "stage=experts",
            "task=relations",
            "corpus=sample",
            "model=tiny",
            "logger.wandb.project=a/b",
        ],
        "change logger.wandb.project=",
    ),
}


def check(process, sentence):
    output = process.stdout + process.stderr
    assert process.returncode in (1, 2), output
    assert sentence in output
    assert "Traceback" not in output


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_gets_one_sentence(name, tmp_path, dfwe):
    arguments, sentence = MISTAKES[name]
    check(dfwe(tmp_path, "corpus=sample", "model=tiny", *arguments), sentence)


def test_sources_come_from_a_survey_and_are_checked_like_others(tmp_path, dfwe):
    place = tmp_path / "results.json"
    for source, sentence in (("emory", "is the target task"), ("a1", "the unknown task 'a1'")):
        place.write_text(json.dumps({"sources": {"emory": [source]}}))
        process = dfwe(tmp_path, "corpus=sample", "model=tiny", f"sources.survey={place}")
        check(process, sentence)


def test_the_other_jobs_of_a_sweep_run(tmp_path, dfwe):
    process = dfwe(
        tmp_path,
        "-m",
        "stage=evaluate",
        "corpus=sample",
        "model=tiny",
        "task=meld,emory",
        "sources.list=[meld]",
    )
    check(process, "Error: The source 'meld' is the target task itself")
    both = process.stdout + process.stderr
    assert "Error: evaluate of 'emory' needs results of stage=experts" in both


def test_a_damaged_zip_is_named(tmp_path, dfwe):
    content = (ASSETS / "sample_corpus.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(content[: len(content) // 2])
    check(dfwe(tmp_path, "corpus=sample", "corpus.path=cut.zip", "model=tiny"), "cut.zip")


def test_an_empty_split_is_named(tmp_path, dfwe):
    with (
        zipfile.ZipFile(ASSETS / "sample_corpus.zip") as old,
        zipfile.ZipFile(tmp_path / "new.zip", "w") as new,
    ):
        for name in old.namelist():
            empty = name.endswith("few_shot_dev_ids.txt")
            new.writestr(name, "" if empty else old.read(name))
    process = dfwe(tmp_path, "corpus=sample", "corpus.path=new.zip", "model=tiny")
    check(process, "dev split")


def test_a_hub_model_without_network_or_cache_fails_at_once(tmp_path, dfwe):
    process = dfwe(tmp_path, "corpus=sample", "model=flan_t5_base")
    check(process, "model=tiny")


@pytest.mark.parametrize("asked", ["logger.wandb.mode=online", "stage=dashboard"])
def test_weights_and_biases_without_a_login(asked, tmp_path, dfwe):
    place = {"WANDB_API_KEY": "", "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(tmp_path)}
    process = dfwe(tmp_path, "task=meld", "corpus=sample", "model=tiny", asked, **place)
    check(process, f"{asked} needs a Weights & Biases login")


def test_a_missing_parent_names_the_command_that_computes_it(tmp_path, dfwe):
    process = dfwe(tmp_path, "stage=finetune", "task=emory", "corpus=sample", "model=tiny")
    check(process, "with: dfwe stage=experts task=emory corpus=sample model=tiny")


def test_a_suggested_command_has_the_place_of_ones_own_configuration(tmp_path, dfwe):
    (tmp_path / "mine").mkdir()
    process = dfwe(
        tmp_path,
        "--config-dir",
        "mine",
        "stage=finetune",
        "task=emory",
        "corpus=sample",
        "model=tiny",
    )
    check(
        process,
        f"with: dfwe --config-dir {tmp_path / 'mine'} stage=experts task=emory "
        "corpus=sample model=tiny",
    )


def test_a_push_of_what_is_not_computed_is_refused_before_any_work(tmp_path, dfwe):
    process = dfwe(
        tmp_path,
        "stage=experts",
        "push=true",
        "corpus=sample",
        "model=tiny",
        HF_TOKEN="hf_x",
        HF_HUB_OFFLINE="0",
    )
    check(process, "which is not computed yet")
    assert "experts:" not in process.stdout


def test_a_configuration_of_ones_own_name_decides_everything(tmp_path, dfwe):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.yaml").write_text(
        "defaults: [config, {override corpus: sample}, {override model: tiny}, _self_]\n"
    )
    mine = ("--config-dir", "mine", "--config-name", "mine")
    place = f"--config-dir {tmp_path / 'mine'} --config-name mine"
    process = dfwe(tmp_path, *mine, "stage=finetune", "task=emory")
    check(process, f"with: dfwe {place} stage=experts task=emory")
    process = dfwe(tmp_path, *mine, "stage=report", "report.tasks=[emory]", "report.seeds=[0]")
    check(process, "has no finished run of emory")


def test_paths_are_those_of_the_command_whatever_folder_a_job_has(tmp_path, dfwe):
    process = dfwe(
        tmp_path,
        "stage=finetune",
        "task=emory",
        "corpus=sample",
        "model=tiny",
        "hydra.job.chdir=true",
    )
    check(process, f"not in the store {tmp_path / 'multirun' / 'store'};")


def test_a_loss_that_is_no_number_stops_with_the_way_out(tmp_path, dfwe):
    process = dfwe(
        tmp_path,
        "stage=experts",
        "task=relations",
        "corpus=sample",
        "model=tiny",
        "training.learning_rate=1e30",
        "logger=csv",
    )
    check(process, "lower training.learning_rate")


def test_a_place_without_permission_is_named(tmp_path, dfwe):
    (tmp_path / "store").write_text("a file where the folder should be")
    process = dfwe(
        tmp_path,
        "stage=experts",
        "task=relations",
        "corpus=sample",
        "model=tiny",
        "logger=csv",
        "store=store",
    )
    check(process, "store")


@pytest.mark.parametrize("arguments", [["--help"], ["--cfg", "job"], ["task=emori"]], ids=str)
def test_help_and_mistakes_import_nothing_heavy(arguments, tmp_path):
    code = (
        "import sys; from dfwe.run import main\n"
        "try:\n main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'lightning', 'wandb', 'datasets'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    process = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 0, process.stderr
