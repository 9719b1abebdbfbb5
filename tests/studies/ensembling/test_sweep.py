"""One table of many runs, over the settings in which they differ."""

import pytest
from unfinished import unfinished

from dfwe.errors import UserError
from dfwe.reporting.results import DfweResult, ModelScores
from dfwe.studies.ensembling.sweep import runs_in, show_sweep, tables


def write(folder, dev, test=None, seed=0, **settings):
    folder.mkdir(parents=True)
    dfwe = DfweResult(alpha=None, dev=dev, test=test, evaluations=9, iterations=1)
    known = {"settings": settings, "seed": seed, "models": []}
    unfinished(
        task="emory",
        model="tiny",
        corpus="sample",
        sources=["meld"],
        experts=[],
        baseline=ModelScores(dev=30.0, test=None if test is None else 35.0),
        uniform=ModelScores(dev=None, test=None),
        dfwe=dfwe,
        **known,
    ).write(folder / "results.json")


def test_a_row_per_run_with_the_keys_that_differ_and_the_best_on_dev(tmp_path):
    for job, rate in enumerate(("1e-4", "5e-4")):
        write(tmp_path / str(job), 40.0 + job, 41.0 - job, **{"training.learning_rate": rate})
    (table,) = tables(runs_in(tmp_path), "runs")
    assert table.columns == ["training.learning_rate", "dev", "test", "delta"]
    assert table.rows == [["1e-4", "40.00", "41.00", "+6.00"], ["5e-4", "41.00", "40.00", "+5.00"]]
    assert "Best on dev: training.learning_rate=5e-4." in table.note


def test_job_10_comes_after_job_9_and_a_key_left_out_is_a_dash(tmp_path):
    for job in (10, 9):
        settings = {"search": "line"} if job == 9 else {}
        write(tmp_path / str(job), 40.0 + job, **settings)
    (table,) = tables(runs_in(tmp_path), "runs")
    assert table.columns == ["search", "dev"]
    assert [row[0] for row in table.rows] == ["line", "–"]  # noqa: RUF001


def test_runs_of_several_seeds_have_means_too(tmp_path):
    for job, (rate, seed) in enumerate((r, s) for r in ("1e-4", "5e-4") for s in (0, 1)):
        write(tmp_path / str(job), 40.0 + 2 * seed, seed=seed, **{"training.learning_rate": rate})
    whole, means = tables(runs_in(tmp_path), "runs")
    assert whole.columns[:2] == ["seed", "training.learning_rate"]
    assert means.columns[:3] == ["training.learning_rate", "seeds", "dev"]
    assert means.rows[0][:3] == ["1e-4", "2", "41.00 ± 1.41"]  # the deviation of 40 and 42


def test_a_sweep_says_how_many_of_its_runs_there_are(tmp_path, capsys):
    write(tmp_path / "0", 40.0, search="line")
    write(tmp_path / "2", 42.0, search="cma_es")
    (tmp_path / "1").mkdir()
    show_sweep(tmp_path)
    text = capsys.readouterr().out
    assert "Sweep: 2 of 3 runs" in text
    assert (tmp_path / "sweep.csv").read_text() == "search,dev\nline,40.00\ncma_es,42.00\n"
    assert "sweep.csv" in text


def test_a_sweep_of_other_stages_shows_nothing(tmp_path, capsys):
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "results.json").write_text('{"grid": []}')
    show_sweep(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("name", "why"), [("nowhere", "is no folder"), (".", "has no run")])
def test_a_folder_without_runs_is_refused(name, why, tmp_path):
    with pytest.raises(UserError, match=why):
        runs_in(tmp_path / name)
