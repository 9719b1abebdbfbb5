"""A whole study on a tiny encoder, made once; resuming; a survey of one's own checkpoints."""

import json
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import load_file

from dfwe.data.table import TableCorpus
from dfwe.errors import UserError
from dfwe.models.encoder import SequenceClassifier
from dfwe.pipeline.context import Context, LightningTrainer
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.loggers import CSV, WandB
from dfwe.pipeline.store import Store
from dfwe.scoring.decoding import Classify
from dfwe.studies.experiment import Experiment
from dfwe.studies.region.backbones import backbone_space
from dfwe.studies.region.config import Settings, Start
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.points import hulls, singles
from dfwe.studies.region.results import region, results
from dfwe.studies.region.survey import survey_folders
from dfwe.training.config import TrainingConfig

pytestmark = [  # Lightning's own, not ours to mend
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
WORDS = "film was great poor plot actor of how who".split()
SETTINGS = Settings(
    seeds=(0, 1),
    families={"f": ("one", "two")},
    same_texts=(("one", "two"),),
    texts=12,
    inside=2,
    perturbed=2,
    pairs=1,
    points=3,
    outward=1,
    steps=2,
    centroid=Start(seeds=(0,), limits=(12,), fewer=1, epochs=1),
)
STAGE = Stage(
    "region",
    (
        "experts",
        "region/geometry",
        "region/paths",
        "region/centroid",
        "finetune",
        "region/transfer",
    ),
)


@pytest.fixture(scope="module")
def study(bert, make_task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("texts")
    for number, name in enumerate(("one", "two", "three")):
        (folder / name).mkdir()
        for split in ("train", "dev", "test"):
            rows = [
                {
                    "id": f"{split}{i}",
                    "label": ("bad", "good")[(i + number) % 2],
                    "text": " ".join(WORDS[(i * k + number) % 9] for k in range(1, 5)),
                }
                for i in range(24)
            ]
            (folder / name / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    one, two, three = map(make_task, ("one", "two", "three"))
    return Experiment(
        TableCorpus("texts", str(folder), ("one", "two", "three"), limit=16),
        one,
        (two, three),
        SequenceClassifier("bert", str(bert), max_input=12),
        Classify(),
        TrainingConfig(learning_rate=3e-3, epochs=1, monitor="own"),
        0,
    )


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    trainer = LightningTrainer("cpu")
    return Context(Store(folder / "store"), trainer, CSV(), folder / "out", lambda stage: stage)


@pytest.fixture(scope="module")
def plan(study, context):
    plan = RegionPlan(study, SETTINGS)
    region(lambda: study, STAGE, context, SETTINGS)
    return plan


def assert_page(folder, tables, pictures):
    """Its tables in three forms beside it, its pictures inside it, and nothing from elsewhere."""
    for ending in ("md", "csv", "tex"):
        assert {path.stem for path in folder.glob(f"*.{ending}")} == tables
    text = (folder / "report.html").read_text()
    assert text.count("<table>") == len(tables)
    assert text.count('src="data:image/png;base64,') == text.count("src=") == len(pictures)
    assert "href=" not in text


def test_a_study_ends_with_tables_pictures_and_results(plan, context):
    found = json.loads((context.output / "results.json").read_text())
    assert {len(found["grid"]), len(found["geometry"]["labels"])} == {6}
    assert set(found["geometry"]["clusters"]) == {"dataset", "family"}
    assert 0 <= found["geometry"]["clusters"]["dataset"]["accuracy"] <= 1
    assert {row["level"] for row in found["paths"]["odds"]} == {"dataset", "family", "general"}
    assert set(found["paths"]["curves"]["line"]) == {"same dataset", "same family", "across"}
    starts = {row["start"] for row in found["transfer"]}
    assert starts == {"pretrained", "centroid", "average of 1"}
    assert all(row["gain"] == 0 for row in found["transfer"] if row["start"] == "pretrained")
    assert found["sources"]["three"][0] in ("one", "two")
    assert "three" in found["sources"]["one"]
    pictures = {path.stem for path in context.output.glob("*.png")}
    assert pictures == {"cosine", "tree", "plane", "line", "outward"}
    assert_page(context.output, {"clusters", "similarity", "odds", "lines", "transfer"}, pictures)


def test_a_centroid_leaves_out_the_target_and_what_shares_its_texts(plan, context):
    parents = {step.monitor.name for step in plan.centroids["one"]["centroid"].parents}
    assert parents == {"three"}
    step = plan.centroids["one"]["centroid"]
    mean = load_file(context.store.weights(step.recipe) / "model.safetensors")
    parts = [
        load_file(context.store.weights(s.recipe) / "model.safetensors") for s in step.parents
    ]
    for name, held in mean.items():
        wanted = sum(part[f"bert.{name}"] for part in parts) / 2
        assert torch.allclose(held, wanted, atol=1e-6), name


def test_bitfit_runs_start_from_the_centroid_and_move_its_biases_and_pooler_alone(plan, context):
    run = next(s for s in plan.transfer.runs if s.label == "one from centroid, 0")
    start = load_file(context.store.weights(run.start.recipe) / "model.safetensors")
    tuned = load_file(context.store.weights(run.recipe) / "model.safetensors")
    moved = {n for n, held in start.items() if not torch.equal(held, tuned[f"bert.{n}"])}
    assert "pooler.dense.weight" in moved
    assert all(name.endswith("bias") for name in moved - {"pooler.dense.weight"})


def test_the_grid_is_dfwes_own_experts(plan, study):
    from dfwe.search import nelder_mead
    from dfwe.search.config import Search
    from dfwe.studies.ensembling.plan import EnsemblingStudy, Plan

    mine = {step.recipe.address for step in plan.grid.models}
    shared = {field.name: getattr(study, field.name) for field in fields(study)}
    ensembling = EnsemblingStudy(**shared, search=Search(nelder_mead))
    assert Plan(ensembling).experts[0].recipe.address in mine


def test_sets_of_same_texts_decide_what_a_stored_geometry_recommends(plan, study, context):
    free = RegionPlan(study, replace(SETTINGS, same_texts=()))
    execute([free.geometry], STAGE, context)
    recommended = results(free, STAGE, context.store)["sources"]
    assert set(recommended["one"]) == {"two", "three"}
    assert results(plan, STAGE, context.store)["sources"]["one"] == ["three"]
    elsewhere = RegionPlan(study, replace(SETTINGS, same_texts=(("one", "four"),)))
    assert elsewhere.geometry.recipe.address == free.geometry.recipe.address


def test_what_is_in_the_store_is_not_made_again(plan, study, context, caplog):
    caplog.set_level("INFO")
    execute(plan.steps(STAGE.makes), STAGE, context)
    assert caplog.messages == ["Everything stage=region makes is in the store; nothing to train."]


def test_killed_probing_goes_on_from_its_ledger(plan, context, tmp_path):
    whole = context.store.folder(plan.paths.recipe) / "losses.jsonl"
    lines = whole.read_text().splitlines(keepends=True)
    ledger = tmp_path / "losses.jsonl"
    ledger.write_text("".join(lines[:5]) + lines[5][:7])
    owners = plan.grid.owners
    points = [
        p for part in (singles, hulls) for p in part(owners, list(plan.paths.probed), SETTINGS)
    ]
    plan.paths._measure(context, points, ledger)
    again = [json.loads(line) for line in ledger.read_text().splitlines()]
    assert again == [json.loads(line) for line in lines[: len(again)]]


def test_a_body_is_in_one_piece_on_a_device_of_its_own(plan, context, tmp_path, device_apart):
    noise = next(p for p in singles(plan.grid.owners, ["one"], SETTINGS) if p.alpha is None)
    again = plan.paths._measure(context, [noise], tmp_path / "losses.jsonl")
    rows = (context.store.folder(plan.paths.recipe) / "losses.jsonl").read_text().splitlines()
    losses = {(name, dataset): loss for name, dataset, loss, _ in map(json.loads, rows)}
    assert again == {key: pytest.approx(losses[key], rel=1e-6) for key in again}
    assert again


def test_probing_killed_in_its_commit_keeps_its_ledger(plan, context, monkeypatch):
    def kill(path):
        raise KeyboardInterrupt

    whole = (context.store.folder(plan.paths.recipe) / "losses.jsonl").read_bytes()
    again = replace(
        context, store=Store(context.store.root.parent / "another"), output=context.output / "x"
    )
    ledger = again.store.work(plan.paths.recipe) / "losses.jsonl"
    ledger.write_bytes(whole)
    monkeypatch.setattr("dfwe.pipeline.store._sync", kill)
    with pytest.raises(KeyboardInterrupt):
        plan.paths.run(again)
    assert ledger.read_bytes() == whole


def test_bodies_are_the_checkpoints_without_their_heads(plan, context, bert):
    folder = context.store.weights(plan.grid.models[0].recipe)
    space, backbone, _ = backbone_space(bert, [folder], ["x"])
    space.write([1, 0], backbone)
    held = load_file(folder / "model.safetensors")
    for name, value in backbone.named_parameters():
        assert torch.equal(value, held[f"bert.{name}"]), name
    space.write([0, 1], backbone)
    assert torch.equal(
        backbone.pooler.dense.weight, load_file(bert / "model.safetensors")["pooler.dense.weight"]
    )


def test_the_pretrained_body_is_what_trainings_start_from(plan, context):
    grid = replace(plan.grid, model=replace(plan.study.model, pooler="identity"))
    space, backbone, _ = grid.space(context)
    space.write([0] * len(grid.models) + [1], backbone)
    assert torch.equal(backbone.pooler.dense.weight, torch.eye(len(backbone.pooler.dense.weight)))


def test_a_later_stage_says_nothing_of_what_it_did_not_make(plan, context):
    found = results(plan, replace(STAGE, makes=("experts", "region/geometry")), context.store)
    assert found["transfer"] is None


@pytest.fixture
def checkpoints(bert, tmp_path):
    """A folder of two regions and an outlier."""
    rng = torch.Generator().manual_seed(0)
    held = load_file(bert / "model.safetensors")
    drift = {
        name: [torch.randn(v.shape, generator=rng) for _ in range(3)] for name, v in held.items()
    }
    from safetensors.torch import save_file

    root = tmp_path / "checkpoints"
    for label, which in (("a1", 0), ("a2", 0), ("b1", 1), ("b2", 1), ("b3", 1), ("odd", 2)):
        folder = root / label
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
        moved = {
            n: v + 0.1 * drift[n][which] + 0.03 * torch.randn(v.shape, generator=rng)
            for n, v in held.items()
        }
        save_file(moved, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "a1" / name).write_bytes((bert / name).read_bytes())
    return root


def test_a_survey_finds_regions_outliers_and_sources(bert, checkpoints, tmp_path):
    found = survey_folders([str(checkpoints)], str(bert))
    assert found.regions == (("b1", "b2", "b3"), ("a1", "a2"))
    assert found.outliers == ("odd",)
    assert found.nearest["a1"][0] == "a2"
    assert {path.name for path in found.pictures(tmp_path)} == {
        "cosine.png",
        "tree.png",
        "plane.png",
    }
    without_base = survey_folders([str(checkpoints)])
    assert without_base.regions[0] == ("b1", "b2", "b3")
    with pytest.raises(UserError, match="three or more"):
        survey_folders([str(checkpoints / "a1")])
    with pytest.raises(UserError, match="holds none"):
        survey_folders([str(checkpoints / "b9")])


def test_a_survey_ends_with_a_page_and_its_tables_are_logged(study, checkpoints, bert, context):
    context = replace(context, output=context.output / "survey")
    settings = replace(SETTINGS, base=str(bert))
    region(lambda: study, STAGE, context, settings, [str(checkpoints)])
    found = json.loads((context.output / "results.json").read_text())
    assert found["sources"]["a1"][0] == "a2"
    assert_page(context.output, {"regions", "sources"}, {"cosine", "tree", "plane"})
    logged = {path.name for path in context.output.glob("csv/region*/**/*.csv")}
    assert logged >= {"region_regions.csv", "region_sources.csv"}


def test_a_survey_asks_for_a_login_before_its_work(study, bert, context, monkeypatch):
    def refuse(what):
        raise UserError(f"{what} needs a login")

    monkeypatch.setattr(WandB, "login", staticmethod(refuse))
    monkeypatch.setattr("dfwe.studies.region.survey.survey_folders", pytest.fail)
    online = replace(context, open_log=WandB(mode="online"))
    with pytest.raises(UserError, match="online needs a login"):
        region(lambda: study, STAGE, online, SETTINGS, ["models"])


@pytest.mark.parametrize(
    ("wrong", "found"),
    [({"seeds": (1,)}, "two or more different seeds"), ({"points": 2}, "at least 3")],
)
def test_settings_that_make_no_sense_are_refused(wrong, found):
    with pytest.raises(UserError, match=found):
        Settings(**wrong)
