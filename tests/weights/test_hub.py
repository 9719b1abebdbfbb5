"""Hub ids and pushes, without a Hub."""

import huggingface_hub
import pytest

from dfwe.errors import UserError
from dfwe.weights import hub


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "../a/model", "model", "a/b/c"])
def test_what_is_no_hub_id_stays_a_path(name):
    assert str(hub.local_folder(name)) in (name, name.removeprefix("./"))


def test_a_folder_is_taken_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "google" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert str(hub.local_folder("google/model")) == "google/model"


def test_a_hub_id_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="neither a folder here nor in the local cache"):
        hub.local_folder("nobody/no-such-model")


def test_a_push_makes_a_private_repository_and_leaves_local_paths_out(tmp_path, monkeypatch):
    calls = {}

    class Api:
        def create_repo(self, name, **options):
            calls["create"] = (name, options)
            return huggingface_hub.RepoUrl(f"https://huggingface.co/me/{name}")

        def upload_folder(self, **options):
            calls["upload"] = options

    monkeypatch.setattr(huggingface_hub, "HfApi", Api)
    assert hub.push(tmp_path, "mixture").endswith("/me/mixture")
    assert calls["create"] == ("mixture", {"private": True, "exist_ok": True})
    assert calls["upload"]["repo_id"] == "me/mixture"
    assert "mergekit.yml" in calls["upload"]["ignore_patterns"]


def test_a_push_without_a_login_is_refused_before_the_work(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UserError, match="hf auth login"):
        hub.check_login()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE"):
        hub.check_login()
