"""The W&B workspace as code: what it holds, where it goes; the server's part is a stand-in."""

from types import SimpleNamespace

import pytest
from wandb.errors import AuthenticationError, CommError

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import CSV, WANDB, wandb_api
from dfwe.studies.ensembling.dashboard import PANELS, dashboard, workspace

# The package's own, at its import.
pytestmark = pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20")
SAVE = "wandb_workspaces.workspaces.Workspace.save"


@pytest.fixture
def context(monkeypatch):
    api = SimpleNamespace(default_entity="me")
    monkeypatch.setattr("dfwe.studies.ensembling.dashboard.wandb_api", lambda *what: api)
    return SimpleNamespace(loggers=(Deferred(WANDB, {"project": "p"}),))


def test_every_section_has_panels_that_wandb_can_serialise():
    space = workspace("me", "p")
    assert [section.name for section in space.sections] == ["Results", "Search", "Training"]
    assert all(len(section.panels) >= 3 for section in space.sections)
    assert sum(len(section.panels) for section in space.sections) == len(PANELS)
    text = space._to_model().model_dump_json()
    for key in ("test/delta", "search/best", "search/alpha", "train/loss_epoch", "test/scores"):
        assert f'"{key}"' in text


def test_it_is_saved_to_the_loggers_project(context, monkeypatch, capsys):
    place = "https://wandb.ai/{0.entity}/{0.project}"
    monkeypatch.setattr(SAVE, lambda w: SimpleNamespace(url=place.format(w)))
    dashboard(None, None, context).present()
    assert capsys.readouterr().out == "dashboard  https://wandb.ai/me/p\n"


def test_a_server_that_refuses_is_quoted(context, monkeypatch):
    def refuse(space):
        raise CommError("project not found")

    monkeypatch.setattr(SAVE, refuse)
    with pytest.raises(UserError, match=r"me/p could not be saved \(project not found\)"):
        dashboard(None, None, context).present()


def test_another_logger_is_refused():
    with pytest.raises(UserError, match="needs logger=wandb"):
        dashboard(None, None, SimpleNamespace(loggers=(Deferred(CSV),))).present()


def test_a_key_that_the_server_does_not_take_is_a_missing_login(monkeypatch):
    def refuse():
        raise AuthenticationError("Failed to verify credentials.\nDetails")

    monkeypatch.setattr("wandb.login", lambda **settings: True)
    monkeypatch.setattr("wandb.Api", refuse)
    with pytest.raises(UserError, match=r"login \(Failed to verify credentials\): run `wandb"):
        wandb_api("stage=dashboard", "look elsewhere")


def test_without_a_key_nobody_is_asked_for_one(monkeypatch, tmp_path):
    monkeypatch.setenv("WANDB_API_KEY", "")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setattr("builtins.input", lambda *asked: pytest.fail("asked for a key"))
    with pytest.raises(UserError, match=r"\(no API key is configured\): .* or stay offline\.$"):
        wandb_api("logger.wandb.mode=online", "stay offline")
