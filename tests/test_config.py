"""What a configuration may run."""

import pytest
from omegaconf import OmegaConf

from dfwe.config import build, check_targets
from dfwe.errors import UserError
from dfwe.tasks.task import Task

OWN = {"task": {"metrics": [{"_target_": "mine.metrics.Kappa", "weights": "linear"}]}}


def config(allow=None, **content):
    return OmegaConf.create({"allow": allow, **content})


def test_code_that_a_file_names_needs_consent(monkeypatch):
    monkeypatch.delenv("DFWE_ALLOW", raising=False)
    with pytest.raises(UserError, match=r"run mine\.metrics\.Kappa; .* allow=\[mine\.metrics\]"):
        check_targets(config(**OWN), [])
    with pytest.raises(UserError, match=r"run mine\.metrics\.Kappa"):
        check_targets(config(["mine.metric", "other"], **OWN), ["task=emory"])


def test_consent_is_a_module_in_allow_or_the_environment_or_what_is_typed(monkeypatch):
    monkeypatch.delenv("DFWE_ALLOW", raising=False)
    check_targets(config(["mine"], **OWN), [])
    check_targets(config("mine.metrics", **OWN), [])
    check_targets(config(**OWN), ["task.metrics=[{_target_: mine.metrics.Kappa}]"])
    monkeypatch.setenv("DFWE_ALLOW", "other,mine")
    check_targets(config(**OWN), [])


@pytest.mark.parametrize(
    "target", ["os.system", "subprocess.getoutput", "dfweb.run", "lightningrod.x", "builtins.eval"]
)
@pytest.mark.parametrize("place", ["trainer", "stage", "logger"])
def test_other_modules_are_refused_wherever_they_stand(target, place):
    with pytest.raises(UserError, match="would run"):
        check_targets(config(**{place: {"_target_": target}}), [])


def test_no_part_of_dfwe_runs_what_is_not_looked_at():
    hidden = {"_target_": "dfwe.pipeline.deferred.Deferred", "target": "os.system"}
    with pytest.raises(UserError, match="would run"):
        check_targets(config(trainer=hidden), [])


def test_a_part_without_a_path_is_refused():
    with pytest.raises(UserError, match="_partial_: true beside prompt, but no _target_"):
        build(
            "task",
            {"_target_": "dfwe.tasks.task.Task", "read": {"_partial_": True, "prompt": "x"}},
            Task,
        )
