"""Every file in conf/ composes, and every group's objects can be built."""

import re
import shlex
from pathlib import Path

import hydra
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dfwe.config import build, build_task, chosen_parts, search_of, training_of
from dfwe.data.table import TableCorpus
from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred, check_part
from dfwe.pipeline.trainer import shortening
from dfwe.schema import Sources
from dfwe.search.evaluation import Evaluations
from dfwe.studies.ensembling.plan import Plan
from dfwe.training.config import TrainingConfig

pytestmark = pytest.mark.slow  # composes every file

CONF = Path(__file__).parents[1] / "conf"
# Chosen beside their group; other folders hold more of its options.
SUBGROUPS = ("search/groups", "training/optimizer", "training/schedule")


def option(path: Path) -> str:
    """The override that chooses a file."""
    group, *place = path.relative_to(CONF).with_suffix("").parts
    if f"{group}/{place[0]}" in SUBGROUPS:
        group, place = f"{group}/{place[0]}", place[1:]
    return f"{group}={'/'.join(place)}"


ON_THEIR_OWN = {"k_fold", "whole_dev"}
CONTROLS = {path.stem for path in (CONF / "controls").glob("*.yaml")} - ON_THEIR_OWN
OPTIONS = sorted(
    option(path)
    for path in CONF.glob("*/**/*.yaml")
    if path != CONF / "search" / "base.yaml" and path.parent.name != "controls"
)
BUILT = (
    "corpus",
    "task",
    "model",
    "decoding",
    "search",
    "trainer",
    "stage",
)
PARTS = ("logger", "callbacks")


@pytest.fixture(autouse=True)
def _hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def test_every_control_is_in_the_experiment_and_takes_its_keywords():
    controls = compose("config", overrides=["experiment=controls"]).controls
    assert set(controls) == CONTROLS
    for name, node in controls.items():
        check_part(f"controls.{name}", build(f"controls.{name}", node, Deferred))


def test_controls_are_chosen_added_and_dropped():
    def chosen(*overrides):
        return [*compose("config", overrides=[*overrides]).controls]

    mine = "+controls.mine={_target_: my.control}"
    assert chosen() == []
    assert chosen("controls=[ties,dare]") == ["ties", "dare"]
    assert chosen("controls=ties", mine) == ["ties", "mine"]
    assert set(chosen("experiment=controls", "~controls.ties")) == CONTROLS - {"ties"}
    assert chosen("experiment=k_fold") == ["k_fold"]
    assert set(chosen("experiment=[controls,dev_size,k_fold]")) == CONTROLS | ON_THEIR_OWN


def source_names(cfg):
    return list(build("sources", cfg.sources, Sources).named(cfg.task.name))


CALLBACKS = "lightning.pytorch.callbacks"
TASKS = {path.stem for path in (CONF / "task").glob("*.yaml")}


def test_the_options_exist():
    assert {option.partition("=")[0] for option in OPTIONS} >= {
        *BUILT,
        *PARTS,
        "training",
        "sources",
        "experiment",
    }


@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_composes_and_instantiates(option):
    group = option.partition("=")[0].partition("/")[0]
    cfg = compose("config", overrides=[option])
    whole = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert {*BUILT, *PARTS} < set(whole)
    for name in [group] if group in BUILT else BUILT:
        assert hydra.utils.instantiate(cfg[name], _convert_="all") is not None
    assert isinstance(training_of(cfg), TrainingConfig)
    for name in PARTS:
        assert all(callable(part.resolve()) for part in chosen_parts(cfg, name))


@pytest.mark.parametrize("task", sorted(TASKS))
def test_every_target_has_a_source_triplet_of_other_tasks(task):
    sources = source_names(compose("config", overrides=[f"task={task}"]))
    assert len(set(sources)) == 3
    assert set(sources) <= TASKS - {task}


@pytest.mark.parametrize("task", sorted(TASKS - {"reading", "qa"}))
def test_an_encoder_gets_a_triplet_of_label_tasks(task):
    cfg = compose("config", overrides=[f"task={task}", "model=minilm"])
    sources = source_names(cfg)
    assert len(set(sources)) == 3
    assert set(sources) <= TASKS - {"reading", "qa", task}
    assert cfg.training.monitor == "own"


FRIENDS = ("emory", "meld", "reading", "characters", "qa", "personality", "relations")


def test_all_seven_friends_tasks_are_configured():
    assert set(FRIENDS) <= {path.stem for path in (CONF / "task").glob("*.yaml")}


def test_a_small_model_brings_its_own_fit_and_the_command_line_wins():
    assert (
        compose("config", overrides=["model=tiny"]).training
        == compose("config", overrides=["training=tiny"]).training
    )
    assert (
        compose("config", overrides=["model=tiny", "training=table1"]).training
        == compose("config", overrides=["training=table1"]).training
    )


@pytest.mark.parametrize(
    ("overrides", "targets"),
    [
        (["logger=[csv,tensorboard]"], ["CSVLogger", "TensorBoardLogger"]),
        (["logger=none"], []),
        (["++logger._target_=mine.Logger", "++logger.colour=red"], ["Logger"]),
        (["logger=csv", "++logger.mine._target_=mine.Logger"], ["CSVLogger", "Logger"]),
    ],
    ids=str,
)
def test_loggers_are_one_several_none_or_any_by_dotted_path(overrides, targets):
    chosen = chosen_parts(compose("config", overrides=overrides), "logger")
    assert [part.target.rpartition(".")[2] for part in chosen] == targets
    assert all(part.arguments == {"colour": "red"} for part in chosen[:1] if "mine" in part.target)


def test_a_loggers_key_stands_under_its_name():
    cfg = compose("config", overrides=["++logger.mode=online"])
    with pytest.raises(
        UserError, match=r"^logger\.mode= is not known; .*: logger\.wandb\.mode=\.$"
    ):
        chosen_parts(cfg, "logger")


def test_callbacks_are_none_or_several():
    assert chosen_parts(compose("config"), "callbacks") == ()
    cfg = compose("config", overrides=["callbacks=[timer,model_summary]"])
    timer, summary = chosen_parts(cfg, "callbacks")
    assert (timer.target, summary.target) == (f"{CALLBACKS}.Timer", f"{CALLBACKS}.ModelSummary")


def test_an_optimizer_a_schedule_and_callbacks_of_training_are_parts():
    cfg = compose(
        "config",
        overrides=[
            "model=tiny",
            "training/optimizer=adamw",
            "training/schedule=cosine",
            "++training.optimizer.weight_decay=0.1",
            f"++training.callbacks.ema._target_={CALLBACKS}.EMAWeightAveraging",
        ],
    )
    training = training_of(cfg)
    assert training.learning_rate == 5e-4
    assert training.optimizer.arguments == {"weight_decay": 0.1}
    assert training.schedule.target == "dfwe.training.optimizers.cosine"
    assert [part.target for part in training.callbacks] == [f"{CALLBACKS}.EMAWeightAveraging"]
    assert training_of(compose("config")) == TrainingConfig()


@pytest.mark.parametrize("name", sorted(path.stem for path in (CONF / "debug").glob("*.yaml")))
def test_a_debug_run_is_shortened_whatever_else_is_set(name):
    cfg = compose("config", overrides=["experiment=quickstart", f"debug={name}"])
    assert shortening(cfg.trainer)
    assert search_of(cfg).is_uniform == (name == "fast")


def test_a_task_may_come_without_sources(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text((CONF / "task" / "emory.yaml").read_text())
    place = [f"hydra.searchpath=[{tmp_path}]", "task=mine"]
    unknown = compose("config", overrides=[*place, "task.name=mine"])
    assert source_names(unknown) == []
    named = compose("config", overrides=[*place, "sources.list=[meld]"])
    assert source_names(named) == ["meld"]


def test_the_corpus_and_the_task_of_the_page_on_data_are_read(tmp_path):
    page = (CONF.parent / "docs/data.md").read_text()
    for name, text in re.findall(r"```yaml\n# my/conf/(.*?)\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    folder = tmp_path / "data" / "capitals"
    folder.mkdir(parents=True)
    (row,) = re.findall(r"`(\{\"question\".*?\})`", page)
    (folder / "dev.jsonl").write_text(row)
    chosen = ["corpus=own", f"corpus.path={folder.parent}", "task=capitals"]
    cfg = compose("config", overrides=[f"hydra.searchpath=[{tmp_path}]", *chosen])
    task, corpus = build_task(cfg.task), build("corpus", cfg.corpus, TableCorpus)
    (example,) = task.examples(corpus, "dev")
    assert example.source == "question: Capital of Japan? answer:"
    assert task.score(["Tokio"], [example])["score"] == 100
    task.check_metrics(corpus)


def overrides(command):
    """The settings of a command line."""
    words = [word for word in shlex.split(command, comments=True) if "=" in word]
    return OverridesParser.create().parse_overrides(words)


TEXTS = {
    path.name: path.read_text()
    for path in (CONF.parent / "README.md", *sorted((CONF.parent / "docs").glob("*.md")))
}
PAGES = "\n".join(TEXTS.values())
DOCUMENTED = [
    pytest.param(command, id=f"{name}: {command[:50]}")
    for name, text in TEXTS.items()
    for command in re.findall(r"(?:^|`)dfwe ([^`\n]*=[^`\n]*)", text, re.MULTILINE)
]


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_command_in_the_documents_can_be_read_and_names_what_exists(command):
    for given in overrides(command):
        group = CONF / given.key_or_group
        if group.is_dir() and given.key_or_group != "task":
            chosen = given.value()
            for name in chosen if isinstance(chosen, list) else [chosen]:
                own = f"# my/conf/{given.key_or_group}/{name}.yaml"
                shipped = (group / f"{name}.yaml").is_file()
                assert shipped or ("--config-dir my/conf" in command and own in PAGES)


@pytest.mark.parametrize(
    "command", [command for command in DOCUMENTED if "task=" in command.values[0]]
)
def test_no_target_of_a_documented_command_is_a_source_of_its_own(command):
    *kept, task = sorted(overrides(command), key=lambda given: given.key_or_group == "task")
    words = [
        given.input_line
        for given in kept
        if not given.is_sweep_override() and not given.is_hydra_override()
    ]
    targets = task.sweep_string_iterator() if task.is_sweep_override() else [task.value()]
    for target in targets:
        if (CONF / "task" / f"{target}.yaml").is_file():  # else it stands for the reader's own
            cfg = compose("config", overrides=[*words, f"task={target}"])
            assert cfg.task.name not in source_names(cfg)


def test_ties_is_searched_on_its_authors_scales_and_densities(make_study):
    """Commit 60dbe5b: the scales 0, 0.1, ..., 1 of the density 0.2."""
    cfg = compose("config", overrides=["experiment=controls"])
    build_ties = hydra.utils.instantiate(cfg.controls.ties, _convert_="all")
    step = build_ties(Plan(make_study()))
    rules = [merge.rule.keywords for merge in step.experts[1:]]
    assert rules == [{"density": density, "scale": 1.0} for density in (0.1, 0.2, 0.3)]
    strategy = step.search.strategy(4)  # the base and the three merges
    next(strategy)
    alphas = strategy.send(Evaluations((), np.zeros(5)))
    tenths = np.arange(1, 26) / 10
    np.testing.assert_allclose(1 - alphas[:, 0], [0, *tenths, *tenths, *tenths])
    np.testing.assert_allclose(alphas[:, 1:].sum(1), 1 - alphas[:, 0])
