"""A study's tables on figures that can be checked by hand; a survey that names the sources."""

import json

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from dfwe.errors import UserError
from dfwe.reporting.terminal import sheet
from dfwe.studies.region.results import transfer_results
from dfwe.studies.region.stages import TransferRow
from dfwe.studies.region.survey import recommended
from dfwe.studies.region.tables import (
    between,
    gains,
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
LOSSES = {"In'": 0.3, "In": 0.4, "Ex": 0.45, "pretrained": 0.5}
ODDS = [
    {
        "level": level,
        "group": group,
        "a": a,
        "b": b,
        "p": 0.875,
        "low": 0.7,
        "high": 1.0,
        "loss_a": LOSSES[a],
        "loss_b": LOSSES[b],
    }
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
PATHS = [{"readout": "mean", "odds": ODDS, "curves": CURVES}]
BY_FIRST = {
    "readout": "first",
    "odds": [row | {"p": 0.5, "loss_a": 0.25, "loss_b": 0.75} for row in ODDS[:4]],
    "curves": {"line": {}, "extrapolation": {"across": {"points": [], "breaks": [None]}}},
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
    "paths": [*PATHS, BY_FIRST],
    "transfer": transfer_results(TESTED),
}
SURVEY = {
    "regions": [{"average": ["c", "a", "b"], "variance": 2.5}],
    "outliers": ["d"],
    "clear": True,
    "labels": ["a", "b", "c", "d"],
    "sources": {"a": ["c", "b"], "b": ["c", "a"], "c": ["a", "b"], "d": ["a", "b"]},
    "cosine": [[1, 0.3, 0.6, 0], [0.3, 1, 0.6, 0], [0.6, 0.6, 1, 0], [0, 0, 0, 1]],
}


def test_a_dataset_has_the_similarity_of_its_models_to_each_other_to_others_and_its_nearest():
    rows = similarity(GEOMETRY).rows
    assert rows[0] == ["sst2", "0.80", "0.25", "12.50", "3.25", "subjectivity 0.30, cr 0.20"]
    assert rows[2][-1] == "–"  # noqa: RUF001


def test_odds_have_a_row_a_group_and_general_stands_apart():
    table = odds(PATHS)
    assert table.columns[1] == "In' over In"
    assert [row[0] for row in table.rows] == ["sst2", "family sentiment", "all"]
    assert table.rows[0][1] == "0.88 (0.70-1.00)"
    assert table.rows[1][-1] == "–"  # noqa: RUF001
    assert table.last == 1


def test_a_line_has_the_losses_of_its_ends_and_middle_and_where_it_breaks():
    assert between(PATHS).rows == [
        ["across", "0.62", "0.25", "4.64, > 32"],
        ["same family", "–", "–", "–"],  # noqa: RUF001
    ]


def test_a_second_readout_has_columns_beside_the_models():
    both = [*PATHS, BY_FIRST]
    table = odds(both)
    assert table.columns[1:3] == ["In' over In", "In' over In, first token"]
    assert [row[1:3] for row in table.rows] == [
        ["0.88 (0.70-1.00)", "0.50 (0.70-1.00)"],
        ["0.88 (0.70-1.00)", "–"],  # noqa: RUF001
        ["0.88 (0.70-1.00)", "–"],  # noqa: RUF001
    ]
    assert between(both).rows == [
        ["across", "0.62", "0.25", "4.64, > 32", "–", "–", "> 32"],  # noqa: RUF001
        ["same family", "–", "–", "–", "–", "–", "–"],  # noqa: RUF001
    ]
    assert between(both).columns[4] == "ends, first token"
    for shown in (table, between(both), gains(both)):
        assert "Probes read the mean of the tokens, or the first token." in shown.note


def test_gains_are_by_dataset_and_their_mean_has_an_interval_over_datasets():
    others = [row | {"group": "cr", "loss_b": 0.7} for row in ODDS[:5] if row["b"] == "pretrained"]
    table = gains([{"readout": "mean", "odds": [*ODDS, *others], "curves": CURVES}])
    assert table.columns == ["dataset", "In", "In'", "Ex", "pretrained"]
    low, high = stats.t.interval(0.95, 1, loc=0.2, scale=0.1)  # of 0.1 and 0.3
    assert table.rows[0] == ("sst2", "+0.100", "+0.200", "+0.050", "0.500")
    assert table.rows[1] == ("cr", "+0.300", "+0.400", "–", "0.700")  # noqa: RUF001
    assert table.rows[2][:2] == ("all", f"+0.200 ({low:+.3f} to {high:+.3f})")
    assert table.rows[2][3:] == ("+0.050", "0.600")
    assert table.last == 1


def test_the_gain_over_all_datasets_has_an_interval_over_datasets():
    """Commit 60dbe5b gives +0.36 to +1.49, as of twelve independent gains."""
    gained = {  # of a centroid on six datasets, two seeds
        "sst2": (1.37, 1.81),
        "cr": (1.85, 2.39),
        "mpqa": (0.0, 1.42),
        "subj": (0.73, 1.45),
        "trec": (-0.6, -0.4),
        "mrpc": (0.41, 0.69),
    }
    rows = [
        TransferRow(
            dataset=name, start=start, size=None, seed=seed, dev=0.0, test=80.0 + gain * factor
        )
        for name, pair in gained.items()
        for start, factor in (("pretrained", 0), ("centroid", 1))
        for seed, gain in enumerate(pair)
    ]
    (row,) = (
        r for r in transfer_results(rows) if (r["dataset"], r["start"]) == ("all", "centroid")
    )
    means = [np.mean(pair) for pair in gained.values()]
    wanted = stats.t.interval(0.95, 5, loc=np.mean(means), scale=stats.sem(means))
    assert (row["low"], row["high"]) == pytest.approx(wanted)
    assert row["gain"] == pytest.approx(np.mean(means))


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


def test_a_gain_of_one_run_stands_without_an_interval():
    starts = (("pretrained", 70.0), ("centroid", 72.5))
    one = [
        TransferRow(dataset="cr", start=start, size=None, seed=0, dev=0.0, test=test)
        for start, test in starts
    ]
    known = transfer_results(one)
    assert [(row["low"], row["high"]) for row in known] == [(None, None)] * 4
    assert transfer(known).rows[0][2:] == ["70.00", "72.50", "+2.50"]
    odd = [ODDS[0] | {"low": None, "high": None}]
    table = odds([{"readout": "mean", "odds": odd, "curves": CURVES}])
    assert table.rows[0][1] == "0.88"


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
