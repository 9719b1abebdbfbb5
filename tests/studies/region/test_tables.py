"""A study's tables on figures that can be checked by hand; a survey that names the sources."""

import json

import pytest
from rich.console import Console

from dfwe.errors import UserError
from dfwe.reporting.terminal import sheet
from dfwe.studies.region.results import transfer_results
from dfwe.studies.region.stages import TransferRow
from dfwe.studies.region.survey import recommended
from dfwe.studies.region.tables import (
    between,
    odds,
    regions,
    similarity,
    sources,
    tables,
    transfer,
)

SETS = ("sst2", "cr", "subjectivity")
STARTS = {"pretrained": 70.0, "centroid": 74.0, "average of 3": 71.0}
GEOMETRY = {
    "labels": [f"{name} {seed}" for name in SETS for seed in range(2)],
    "clusters": {"dataset": {"accuracy": 1.0, "f1": 0.98, "ari": 0.5}, "family": {}},
    "cosine": {a: {b: 0.8 if a == b else 0.1 + 0.1 * k for k, b in enumerate(SETS)} for a in SETS},
    "norm": dict.fromkeys(SETS, 12.5),
    "variance": dict.fromkeys(SETS, 3.25),
    "nearest": {"sst2": ["subjectivity", "cr"], "cr": ["subjectivity"], "subjectivity": []},
}
PAIRS = (("In'", "In"), ("In'", "Ex"), ("In", "Ex"), ("In", "pretrained"), ("In'", "pretrained"))
ODDS = [
    {"level": level, "group": group, "a": a, "b": b, "p": 0.875, "low": 0.7, "high": 1.0}
    for level, group in (("dataset", "sst2"), ("family", "sentiment"), ("general", "all"))
    for a, b in PAIRS[: 4 if level == "family" else 5]
]
CURVES = {
    "line": {
        "across": {
            "points": [{"t": 0.0, "mean": 0.5}, {"t": 0.5, "mean": 0.25}, {"t": 1.0, "mean": 0.75}]
        },
        "same family": {"points": []},
    },
    "extrapolation": {"across": {"points": [], "breaks": [4.641588, None]}},
}
TESTED = [
    TransferRow(dataset=name, start=start, size=size, seed=seed, dev=0.0, test=score + seed)
    for size in (None, 500)
    for name in SETS
    for start, score in STARTS.items()
    for seed in (0, 2)
]
RESULTS = {
    "geometry": GEOMETRY,
    "paths": {"odds": ODDS, "curves": CURVES},
    "transfer": transfer_results(TESTED),
}
SURVEY = {
    "regions": [{"average": ["c", "a", "b"], "variance": 2.5}],
    "outliers": ["d"],
    "labels": ["a", "b", "c", "d"],
    "sources": {"a": ["c", "b"], "b": ["c", "a"], "c": ["a", "b"], "d": ["a", "b"]},
    "cosine": [[1, 0.3, 0.6, 0], [0.3, 1, 0.6, 0], [0.6, 0.6, 1, 0], [0, 0, 0, 1]],
}


def test_a_dataset_has_the_similarity_of_its_models_to_each_other_to_others_and_its_nearest():
    rows = similarity(GEOMETRY).rows
    assert rows[0] == ["sst2", "0.80", "0.25", "12.50", "3.25", "subjectivity 0.30, cr 0.20"]
    assert rows[2][-1] == "–"  # noqa: RUF001


def test_odds_have_a_row_a_group_and_general_stands_apart():
    table = odds(ODDS)
    assert table.columns[1] == "In' over In"
    assert [row[0] for row in table.rows] == ["sst2", "family sentiment", "all"]
    assert table.rows[0][1] == "0.88 (0.70-1.00)"
    assert table.rows[1][-1] == "–"  # noqa: RUF001
    assert table.last == 1


def test_a_line_has_the_losses_of_its_ends_and_middle_and_where_it_breaks():
    assert between(CURVES).rows == [
        ["across", "0.62", "0.25", "4.64, > 32"],
        ["same family", "–", "–", "–"],  # noqa: RUF001
    ]


def test_starts_are_compared_by_dataset_and_the_means_stand_apart():
    table = transfer(RESULTS["transfer"])
    assert table.columns[2:6] == ["pretrained", "centroid", "centroid: gain", "average of 3"]
    assert [row[:2] for row in table.rows][-3:] == [
        ["subjectivity", "500"],
        ["all", "all"],
        ["all", "500"],
    ]
    assert table.rows[0][2:5] == ["71.00 ± 1.41", "75.00 ± 1.41", "+4.00 (+4.00 to +4.00)"]
    assert table.last == 2


def test_a_survey_names_regions_outliers_and_sources():
    assert regions(SURVEY).rows == [["1", "3", "0.50", "2.5"]]
    rows = sources(SURVEY).rows
    assert rows[0] == ["c", "1", "a 0.60", "b 0.60", "–"]  # noqa: RUF001
    assert [row[:2] for row in rows[1:]] == [["a", "1"], ["b", "1"], ["d", "outlier"]]


def test_the_tables_fit_eighty_columns():
    console = Console(width=80, color_system=None)
    for table in (*tables(RESULTS), regions(SURVEY), sources(SURVEY)):
        with console.capture() as output:
            console.print(sheet(table, console))
        printed = {" ".join(line.split()) for line in output.get().splitlines()}
        shown = [k for k, name in enumerate(table.columns) if name in table.brief]
        for cells in (table.columns, *table.rows):
            whole, brief = " ".join(cells).strip(), " ".join(cells[k] for k in shown)
            assert printed & {whole, brief}, output.get()


def test_a_survey_recommends_sources(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"sources": {"emory": ["qa", "meld"]}}))
    assert recommended(str(path), "emory") == ["qa", "meld"]
    with pytest.raises(UserError, match="knows nothing of 'meld', only of emory"):
        recommended(str(path), "meld")
    for other in ("{}", '{"sources": ["emory"]}', "no json"):
        path.write_text(other)
        with pytest.raises(UserError, match=r"is no results\.json of stage=region"):
            recommended(str(path), "emory")
