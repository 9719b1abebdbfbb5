"""Every file in conf/ composes, and every group's objects can be built."""

import re
import shlex
from pathlib import Path

import hydra
import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from dfwe.config import build
from dfwe.schema import Sources

pytestmark = pytest.mark.slow  # composes every file

CONF = Path(__file__).parents[1] / "conf"
SUBGROUPS = ("search/groups",)  # chosen beside their group; other folders hold more of its options


def option(path: Path) -> str:
    """The override that chooses a file."""
    group, *place = path.relative_to(CONF).with_suffix("").parts
    if f"{group}/{place[0]}" in SUBGROUPS:
        group, place = f"{group}/{place[0]}", place[1:]
    return f"{group}={'/'.join(place)}"


OPTIONS = sorted(
    option(path) for path in CONF.glob("*/**/*.yaml") if path != CONF / "search" / "base.yaml"
)
BUILT = ("corpus", "task", "model", "decoding", "training", "search", "trainer", "logger", "stage")


@pytest.fixture(autouse=True)
def _hydra():
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def source_names(cfg):
    return list(build("sources", cfg.sources, Sources).named(cfg.task.name))


TASKS = {path.stem for path in (CONF / "task").glob("*.yaml")}


def test_the_options_exist():
    assert {option.partition("=")[0] for option in OPTIONS} >= {*BUILT, "sources", "experiment"}


@pytest.mark.parametrize("option", OPTIONS)
def test_a_file_composes_and_instantiates(option):
    group = option.partition("=")[0].partition("/")[0]
    cfg = compose("config", overrides=[option])
    whole = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    assert set(BUILT) < set(whole)
    for name in [group] if group in BUILT else BUILT:
        assert hydra.utils.instantiate(cfg[name], _convert_="all") is not None


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


def test_a_task_may_come_without_sources(tmp_path):
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text((CONF / "task" / "emory.yaml").read_text())
    place = [f"hydra.searchpath=[{tmp_path}]", "task=mine"]
    unknown = compose("config", overrides=[*place, "task.name=mine"])
    assert source_names(unknown) == []
    named = compose("config", overrides=[*place, "sources.list=[meld]"])
    assert source_names(named) == ["meld"]


def overrides(command):
    """The settings of a command line."""
    words = [word for word in shlex.split(command, comments=True) if "=" in word]
    return OverridesParser.create().parse_overrides(words)


DOCUMENTED = [
    pytest.param(command, id=f"{path.name}: {command[:50]}")
    for path in (CONF.parent / "README.md", *sorted((CONF.parent / "docs").glob("*.md")))
    for command in re.findall(r"(?:^|`)dfwe ([^`\n]*=[^`\n]*)", path.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("command", DOCUMENTED)
def test_a_command_in_the_documents_can_be_read_and_names_what_exists(command):
    for given in overrides(command):
        group = CONF / given.key_or_group
        if group.is_dir() and given.key_or_group != "task":
            assert (group / f"{given.value()}.yaml").is_file(), given.input_line


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
