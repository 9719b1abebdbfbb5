"""Hub ids and pushes, without a Hub."""

import json
from pathlib import Path

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


def test_what_is_shipped_or_installed_is_a_folder():
    assert (hub.local_folder("shipped:tiny") / "config.json").is_file()
    package = Path(huggingface_hub.__file__).parent
    assert hub.local_folder("package:huggingface_hub/utils") == package / "utils"
    with pytest.raises(UserError, match="pip install --no-deps not-there"):
        hub.local_folder("package:not_there/model")


def test_a_hub_id_that_is_not_there_says_how_to_get_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"not a local folder and not \(completely\) in"):
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


@pytest.fixture
def cached(tmp_path, monkeypatch):
    """Puts files into the Hub's cache as a repository's snapshot; the Hub is out of reach."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def put(files, listed=()):
        place, commit = tmp_path / "models--someone--model", "0" * 40
        snapshot = place / "snapshots" / commit
        for folder in (snapshot, place / "refs", place / "trees"):
            folder.mkdir(parents=True)
        (place / "refs" / "main").write_text(commit)
        for name, content in files.items():
            (snapshot / name).write_text(content)
        if listed:  # what the Hub said it has, as huggingface_hub notes it
            entries = {name: {"size": 1, "blob_id": name} for name in listed}
            tree = {"format_version": 1, "files": entries}
            (place / "trees" / f"{commit}.json").write_text(json.dumps(tree))
        return snapshot

    return put


BOTH = ("config.json", "model.safetensors", "pytorch_model.bin", "flax_model.msgpack")
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        ({"config.json": "{}", "model.safetensors": ""}, BOTH),
        ({"config.json": "{}", "model.safetensors": ""}, ()),
        ({"config.json": "{}", "pytorch_model.bin": ""}, ("config.json", "pytorch_model.bin")),
        ({"adapter_config.json": "{}", "adapter_model.safetensors": ""}, ()),
        ({"adapter_config.json": "{}", "adapter_model.bin": ""}, ()),
        (
            {
                "model.safetensors.index.json": INDEX,
                "model-1.safetensors": "",
                "model-2.safetensors": "",
            },
            (),
        ),
        (
            {
                "pytorch_model.bin.index.json": '{"weight_map": {"a": "pytorch_model-1.bin"}}',
                "model.safetensors": "",
            },
            (),
        ),
    ],
)
def test_a_download_of_one_format_is_found_again_without_a_network(cached, files, listed):
    snapshot = cached(files, listed)
    assert hub.local_folder("someone/model") == snapshot


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        ({"config.json": "{}"}, ()),
        ({"config.json": "{}"}, BOTH),
        ({"model.safetensors.index.json": INDEX, "model-1.safetensors": ""}, ()),
        ({"model.safetensors.index.json": "{", "model-1.safetensors": ""}, ()),
        ({"model.safetensors.index.json": "{}", "model-1.safetensors": ""}, ()),
        ({"model.safetensors.index.json": "[]", "model-1.safetensors": ""}, ()),
    ],
)
def test_a_broken_off_download_is_not_taken_for_the_model(cached, files, listed):
    cached(files, listed)
    with pytest.raises(UserError, match=r"not a local folder and not \(completely\) in"):
        hub.local_folder("someone/model")
