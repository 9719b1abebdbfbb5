"""What a study shows: tables, pictures, results.json; which of it comes from where."""

import json
from dataclasses import fields, replace

import browser
import pytest

from dfwe.pipeline.executor import execute
from dfwe.search.config import Search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.studies.ensembling.plan import EnsemblingStudy, Plan
from dfwe.studies.region.plan import RegionPlan
from dfwe.studies.region.results import results

pytestmark = pytest.mark.slow  # a whole study


def test_a_study_ends_with_tables_pictures_and_results(plan, region_context, check_page):
    output = region_context.output
    shown = json.loads((output / "results.json").read_text())
    assert {len(shown["grid"]), len(shown["geometry"]["labels"])} == {6}
    assert set(shown["geometry"]["clusters"]) == {"dataset", "family"}
    assert 0 <= shown["geometry"]["clusters"]["dataset"]["accuracy"] <= 1
    assert [part["readout"] for part in shown["paths"]] == ["mean", "first"]
    for part in shown["paths"]:
        assert {row["level"] for row in part["odds"]} == {"dataset", "family", "general"}
        assert set(part["curves"]["line"]) == {"same dataset", "same family", "across"}
    starts = {row["start"] for row in shown["transfer"]}
    assert starts == {"pretrained", "centroid", "average of 1"}
    assert all(row["gain"] == 0 for row in shown["transfer"] if row["start"] == "pretrained")
    assert shown["sources"]["three"][0] in ("one", "two")
    assert "three" in shown["sources"]["one"]
    pictures = {path.stem for path in output.glob("*.png")}
    assert pictures == {"cosine", "tree", "plane", "line", "extrapolation"}
    check_page(output, {"clusters", "similarity", "odds", "gains", "lines", "transfer"}, pictures)


@pytest.mark.browser
def test_the_page_opens_in_a_browser(plan, region_context):
    with browser.chromium() as opened:
        assert browser.faults(opened, region_context.output / "report.html", "dark") == []


def test_the_grid_is_dfwes_own_experts(plan, study):
    grid = {step.recipe.address for step in plan.grid.models}
    shared = {field.name: getattr(study, field.name) for field in fields(study)}
    ensembling = EnsemblingStudy(**shared, search=Search(nelder_mead))
    assert Plan(ensembling).experts[0].recipe.address in grid


def test_sets_of_same_texts_decide_what_a_stored_geometry_recommends(
    plan, study, stage, settings, region_context
):
    store = region_context.store
    free = RegionPlan(study, replace(settings, same_texts=()))
    execute([free.geometry], stage, region_context)
    recommended = results(free, stage, store)["sources"]
    assert set(recommended["one"]) == {"two", "three"}
    assert results(plan, stage, store)["sources"]["one"] == ["three"]
    elsewhere = RegionPlan(study, replace(settings, same_texts=(("one", "four"),)))
    assert elsewhere.geometry.recipe.address == free.geometry.recipe.address


def test_a_stage_shows_no_results_of_steps_that_it_does_not_compute(plan, stage, region_context):
    geometry = replace(stage, computes=("experts", "region/geometry"))
    assert results(plan, geometry, region_context.store)["transfer"] is None
    assert results(plan, stage, region_context.store)["transfer"] is not None
