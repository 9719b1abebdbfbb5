"""The log of a run: what a sentence hides is in its folder; -v shows it, -q shows less."""

import pytest

pytestmark = pytest.mark.slow  # trains by the command

MISTAKE = ("task=emory", "sources.list=[emory]", "corpus=sample", "model=tiny", "logger=csv")


@pytest.fixture
def mistaken(tmp_path, dfwe):
    """Options of the command -> what it printed, and the log of its folder."""

    def run(*options):
        process = dfwe(tmp_path, *MISTAKE, f"hydra.run.dir={tmp_path}/run", *options)
        assert process.returncode == 1
        assert "is the target task" in process.stderr
        return process.stdout + process.stderr, (tmp_path / "run" / "run.log").read_text()

    return run


def test_the_log_has_versions_command_configuration_and_the_hidden_traceback(mistaken):
    shown, logged = mistaken()
    assert "Traceback" not in shown
    for text in ("Versions: python=", " torch=", "Command: ", "sources.list=[emory]"):
        assert text in logged
    assert "learning_rate: 0.0005" in logged  # the composed configuration
    assert "Traceback (most recent call last)" in logged
    assert "UserError: The source 'emory' is the target task itself" in logged


def test_verbose_shows_what_the_log_has(mistaken):
    shown, _ = mistaken("-v")
    assert "Versions: python=" in shown
    assert "Traceback (most recent call last)" in shown


def test_the_log_of_a_finished_run_has_each_steps_seconds(experts):
    folder, _ = experts
    logs = sorted(folder.glob("multirun/*/*/run.log"))  # other tests run the command again
    lines = logs[0].read_text().splitlines()
    taken = [line for line in lines if " took " in line]
    assert len(taken) == 3  # meld, meld with its source, the source
    assert all("earlier attempts included" in line for line in taken)
    assert any("Finished after" in line for line in lines)


def test_quiet_shows_no_progress(experts, dfwe):
    folder, overrides = experts
    loud, quiet = (dfwe(folder, *overrides, *option) for option in ((), ("-q",)))
    assert "Everything stage=experts computes is in the store" in loud.stdout + loud.stderr
    assert "Everything stage=experts computes" not in quiet.stdout + quiet.stderr
    assert quiet.stdout.splitlines()[-1].endswith("results.json")
