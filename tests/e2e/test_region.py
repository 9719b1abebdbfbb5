"""`stage=region` on the sample corpus: what Weights & Biases has of each step."""

import json
import shutil

import pytest
from offline import logged_in

pytestmark = pytest.mark.slow  # a whole study by the command

SMALL = (
    "region.seeds=[0,1]",
    "region.texts=20",
    "region.interior=1",
    "region.perturbed=1",
    "region.pairs=1",
    "region.points=3",
    "region.extrapolation=1",
    "region.steps=2",
    "region.centroid.seeds=[0]",
    "region.centroid.epochs=1",
    "region.centroid.subset=1",
)
KINDS = {"geometry", "paths", "centroid", "transfer"}


@pytest.fixture(scope="module")
def region(experts, tmp_path_factory, dfwe):
    """The store, and by the name of each step that the stage computed recipe.json and artifact."""
    folder = tmp_path_factory.mktemp("region")
    trained, overrides = experts
    store = folder / "multirun" / "store"
    shutil.copytree(trained / "multirun" / "store", store)
    before = {path.parent for path in store.glob("*/recipe.json")}
    kept = [item for item in overrides if item.split("=")[0] not in ("stage", "logger")]
    process = dfwe(folder, "stage=region", "logger.wandb.mode=offline", *kept, *SMALL)
    assert process.returncode == 0, process.stderr
    computed = {path.parent for path in store.glob("*/recipe.json")} - before
    recipes = {path.name: json.loads((path / "recipe.json").read_text()) for path in computed}
    texts = map(logged_in, folder.rglob("run-*.wandb"))
    return store, recipes, dict(map(_result, texts))


def _result(records: str) -> tuple[str, dict]:
    """Name and content of the artifact of a step in its run's records, which end with it."""
    rows = map(json.loads, records.splitlines())
    artifacts = [row["artifact"] for row in rows if row["type"] == "artifact"]
    (artifact,) = (item for item in artifacts if item["type"] in ("model", "result"))
    return artifact["name"], artifact


def test_every_step_of_a_region_logs_an_artifact_with_digest_and_lineage(region):
    store, recipes, artifacts = region
    assert {name.split("-")[1] for name in recipes if name.startswith("region-")} == KINDS
    assert set(artifacts) == set(recipes)
    for name, recipe in recipes.items():
        metadata = json.loads(artifacts[name]["metadata"])
        weights = recipe["files"].get("model.safetensors")
        assert metadata["parents"] == recipe["parents"]
        assert metadata["settings"] == recipe["settings"]
        assert metadata["weights_sha256"] == (weights and weights["sha256"])
        assert artifacts[name]["type"] == ("model" if weights else "result")
        listed = {entry["path"]: entry["ref"] for entry in artifacts[name]["manifest"]["contents"]}
        assert set(listed) == {"recipe.json", *recipe["files"]}
        for file, reference in listed.items():
            assert reference == (store / name / file).as_uri()


def test_lineage_in_the_log_ends_at_models_that_the_store_has(region):
    store, recipes, artifacts = region
    parents = {name for artifact in artifacts.values() for name in _parents(artifact)}
    assert [name for name in parents if not (store / name / "recipe.json").exists()] == []
    (geometry,) = (name for name in recipes if name.startswith("region-geometry"))
    models = _parents(artifacts[geometry])
    assert len(models) == 4
    assert len(set(models) - set(recipes)) == 2  # seed 0's, which DFWE had trained


def _parents(artifact: dict) -> list[str]:
    return json.loads(artifact["metadata"])["parents"]
