"""`dfwe --help`, and the sentence for what is typed wrong."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from dfwe.cli import COMMANDS, main
from dfwe.config import config_folder, groups
from dfwe.errors import did_you_mean
from dfwe.help import CHOSEN, overview
from dfwe.schema import RunSettings, keys_of
from dfwe.settings import in_words, parameters
from dfwe.training.config import TrainingConfig

CONF = Path(config_folder())
SUBGROUPS = {"search/groups", "training/optimizer", "training/schedule"}


@pytest.fixture
def dfwe(monkeypatch, capsys):
    """The command in this process: words -> exit code, standard output, standard error."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["dfwe", *words])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = ended.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_help_has_a_line_for_every_stage_group_key_and_command(dfwe):
    code, text, _ = dfwe("--help")
    assert code == 0
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    named = {line.split()[0]: line.split(maxsplit=1)[1:] for line in lines if line[:2] == "  "}
    stages = [path.relative_to(CONF / "stage") for path in (CONF / "stage").rglob("*.yaml")]
    wanted = {path.with_suffix("").as_posix() for path in stages}
    wanted |= {group for group in groups() if group != "stage"} | SUBGROUPS
    wanted |= {*keys_of(RunSettings), *COMMANDS}
    assert wanted <= {*named}
    assert all(named[name] for name in wanted)
    assert "..." not in text.replace("[...]", "").replace("...]", "")  # nothing is cut
    assert sum(line.startswith("  dfwe ") for line in lines) == 3


def test_every_option_and_group_says_what_it_is():
    for path in CONF.glob("*/**/*.yaml"):
        lines = [line for line in path.read_text().splitlines() if "# @package" not in line]
        assert lines[0].startswith("# "), path
    described = {group for group, *_ in CHOSEN.findall((CONF / "config.yaml").read_text())}
    assert described == {*groups(), *SUBGROUPS}


def test_a_key_has_its_type_range_default_and_meaning(dfwe):
    code, text, _ = dfwe("--help", "search.strategy.sigma", "search=cma_es")
    assert code == 0
    assert text.splitlines()[:2] == ["search.strategy.sigma=1.0 by default", "  number above 0"]
    assert "training.learning_rate=0.0005" in dfwe("--help", "training", "model=tiny")[1]
    assert "one, or its number" in dfwe("--help", "trainer.devices")[1]  # the file's comment
    _, text, _ = dfwe("--help", "search=line")
    assert "search.strategy.points=" in text
    assert max(map(len, text.splitlines())) <= 80


def test_types_are_in_words():
    kinds = {name: in_words(kind) for name, kind in parameters(TrainingConfig).items()}
    assert kinds["learning_rate"] == "number above 0"
    assert kinds["patience"] == "whole number of at least 1, or null"
    assert kinds["accumulation"] == "tlidb or mean"
    assert in_words(list[int] | None) == "list: whole number, or null"
    assert in_words(dict[str, bool]) == "true or false by name"


def test_the_version_is_ours(dfwe):
    assert dfwe("--version") == (0, f"dfwe {version('dfwe')}\n", "")


@pytest.mark.parametrize(
    ("word", "known", "meant"),
    [
        ("training.lr", ["training.learning_rate", "training.clip"], "training.learning_rate"),
        ("learning_rate", ["seed", "training.learning_rate"], "training.learning_rate"),
        ("emori", ["emory", "meld"], "emory"),
        ("search.eval", ["search.evaluations"], "search.evaluations"),
        ("--verison", ["--version", "--verbose"], "--version"),
        ("model.pooler", ["trainer.profiler"], None),
        ("seed", ["seed"], None),
    ],
)
def test_what_was_meant(word, known, meant):
    assert did_you_mean(word, known) == (f" did you mean {meant}?" if meant else "")


MISTAKES = {
    ("--verison",): "--verison is no option; did you mean --version?",
    ("stor",): "'stor' is neither a command nor KEY=VALUE; did you mean store?",
    ("store", "verfy"): "invalid choice: 'verfy'; did you mean verify? `dfwe store --help`",
    ("store", "prune", "--keeep", "x"): "--keeep is not known; did you mean --keep?",
    ("task=emori",): "task=emori is unknown; did you mean emory? known: boolq, cb,",
    ("training.lr=1",): "training.lr= is not known; did you mean training.learning_rate?",
    ("fit.lr=1",): "did you mean training.learning_rate? `dfwe --help` shows",
    ("seed=[1",): "seed=[1 cannot be read (no viable alternative at input '[1')",
    ("+seed=3",): "'seed' is there already; leave out the +.",
    ("~foo",): "'foo' does not exist.",
    ("+=1",): "'+=1' is neither a command nor KEY=VALUE; `dfwe --help` shows what there is.",
    ("task=}",): "task=} cannot be read (",
    ("task=emory,null",): "null is no name; `dfwe --help task` shows what there is.",
    ("--help", "training.lr"): "did you mean training.learning_rate?",
    ("--config-dir", "/nowhere", "seed=1"): "directory '/nowhere' not found",
}


@pytest.mark.parametrize("words", MISTAKES, ids=" ".join)
def test_a_typo_is_one_sentence_with_what_was_meant(words, dfwe):
    code, out, err = dfwe(*words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("Error: ")
    assert MISTAKES[words] in err


def test_help_into_a_closed_pipe_is_no_traceback():
    command = f"{sys.executable} -m dfwe.run --help | head -1; echo ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=True
    )
    assert process.stderr == ""
    assert process.stdout.startswith(overview(COMMANDS).splitlines()[0])


@pytest.mark.parametrize("shell", ["bash", "fish"])
def test_the_installed_command_completes(shell):
    """As a shell asks that has Hydra's function (docs/command_line.md); zsh asks as bash does."""
    command = Path(sys.executable).with_name("dfwe")
    line = "dfwe training.lea"
    process = subprocess.run(
        [command, "-sc", f"query={shell}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
        env={"COMP_LINE": line, "PATH": "/bin"},
    )
    assert process.stdout.split() == ["training.learning_rate="]
