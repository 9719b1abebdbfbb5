"""A survey of a person's own checkpoints: regions, outliers, sources, its page and its log."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from dfwe.errors import UserError
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.loggers import WANDB
from dfwe.studies.region.config import Settings
from dfwe.studies.region.results import region
from dfwe.studies.region.survey import survey, survey_folders
from dfwe.studies.region.tables import sources, survey_answer


@pytest.fixture
def checkpoints(bert, tmp_path):
    """A folder of two regions and an outlier."""
    rng = torch.Generator().manual_seed(0)
    base = load_file(bert / "model.safetensors")
    drift = {
        name: [torch.randn(v.shape, generator=rng) for _ in range(3)] for name, v in base.items()
    }
    root = tmp_path / "checkpoints"
    for label, which in (("a1", 0), ("a2", 0), ("b1", 1), ("b2", 1), ("b3", 1), ("odd", 2)):
        folder = root / label
        folder.mkdir(parents=True)
        (folder / "config.json").write_bytes((bert / "config.json").read_bytes())
        moved = {
            n: v + 0.1 * drift[n][which] + 0.03 * torch.randn(v.shape, generator=rng)
            for n, v in base.items()
        }
        save_file(moved, folder / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (root / "a1" / name).write_bytes((bert / name).read_bytes())
    return root


@pytest.fixture
def no_study():
    """A survey builds no study."""
    return lambda: pytest.fail("a study was built")


def test_a_survey_shows_regions_outliers_and_sources(bert, checkpoints, tmp_path):
    surveyed = survey_folders([str(checkpoints)], str(bert))
    assert surveyed.regions == (("b1", "b2", "b3"), ("a1", "a2"))
    assert surveyed.outliers == ("odd",)
    assert surveyed.nearest["a1"][0] == "a2"
    pictures = {path.name for path in surveyed.pictures(tmp_path)}
    assert pictures == {"cosine.png", "tree.png", "plane.png"}
    without_base = survey_folders([str(checkpoints)])
    assert without_base.regions[0] == ("b1", "b2", "b3")
    with pytest.raises(UserError, match="three or more"):
        survey_folders([str(checkpoints / "a1")])
    with pytest.raises(UserError, match="contains none"):
        survey_folders([str(checkpoints / "b9")])


@pytest.mark.parametrize(
    ("cosines", "regions", "outliers"),
    [
        ((0.77, 0.72, 0.71), (("a", "b", "c"),), ()),  # siblings: of one base, one data set
        ((0.77, 0.42, 0.41), (("a", "b"),), ("c",)),
    ],
)
def test_a_small_gap_makes_no_regions(cosines, regions, outliers):
    """Commit 60dbe5b: `c` is an outlier to leave out in both cases."""
    similar = np.eye(3)
    similar[[0, 0, 1], [1, 2, 2]] = similar[[1, 2, 2], [0, 0, 1]] = cosines
    surveyed = survey("abc", similar)
    assert (surveyed.regions, surveyed.outliers) == (regions, outliers)
    assert surveyed.clear == bool(outliers)
    shown = surveyed.results()
    said = (survey_answer(shown), sources(shown).note)
    assert all(("no clear regions" in text.lower()) == (not outliers) for text in said)


def test_a_survey_ends_with_a_page_and_its_tables_are_logged(
    no_study, stage, checkpoints, bert, context, check_page
):
    region(no_study, stage, context, Settings(base=str(bert)), [str(checkpoints)]).present()
    shown = json.loads((context.output / "results.json").read_text())
    assert shown["sources"]["a1"][0] == "a2"
    check_page(context.output, {"regions", "sources"}, {"cosine", "tree", "plane"})
    logged = {path.name for path in context.output.glob("csv/region-survey-*/*.csv")}
    assert logged == {"region_regions.csv", "region_sources.csv"}


def test_a_survey_asks_for_a_login_before_its_work(no_study, stage, context, monkeypatch):
    def refuse(what, instead):
        raise UserError(f"{what} needs a login; {instead}")

    monkeypatch.setattr("dfwe.pipeline.loggers.wandb_api", refuse)
    monkeypatch.setattr("dfwe.studies.region.survey.survey_folders", pytest.fail)
    online = replace(context, loggers=(Deferred(WANDB, {"mode": "online"}),))
    with pytest.raises(UserError, match="online needs a login"):
        region(no_study, stage, online, Settings(), ["models"]).present()
