"""Pictures of a run: valid, complete, an expert's colour the same everywhere."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imread

from dfwe.reporting import plots
from dfwe.reporting.plots import (
    LearningCurve,
    alpha_bars,
    learning_curves,
    search_trajectory,
)
from dfwe.search.evaluation import Trial

LABELS = ["emory", "emory+sources", "meld", "qa", "reading"]
UNIFORM = np.full(len(LABELS), 1 / len(LABELS))


def trial(index: int, score: float | None, alpha=(0.3, 0.7), **values) -> Trial:
    return Trial(index=index, alpha=np.array(alpha), score=score, **values)


def trials(n: int, count: int) -> list[Trial]:
    """The opening, then random mixtures; one of them failed."""
    rng = np.random.default_rng(0)
    alphas = [*np.eye(n), np.full(n, 1 / n), *rng.dirichlet(np.ones(n), count)][:count]
    rows = [
        trial(k, 40 - 9 * float(a @ a), a, log_likelihood=-1 - k / 99)
        for k, a in enumerate(alphas)
    ]
    rows[-2] = replace(rows[-2], score=None, log_likelihood=None, error="diverged")
    return rows


def curve(stage: str, label: str, epochs: int = 4) -> LearningCurve:
    scores = [30.0 + epoch for epoch in range(epochs)]
    losses = [2 / (epoch + 1) for epoch in range(epochs)]
    return LearningCurve(stage, label, "emory", epochs, scores, losses)


def shows(path: Path, colour: str) -> bool:
    """Whether a picture has pixels of just this colour."""
    pixels = imread(path)[..., :3]
    return bool((np.abs(pixels - to_rgb(colour)).max(axis=-1) < 0.01).any())


def assert_picture(path: Path) -> None:
    height, width, _ = imread(path).shape  # reads the whole file: it is a valid PNG
    assert 150 <= height <= 1500
    assert 600 <= width <= 2000
    assert list(path.parent.iterdir()) == [path]  # nothing is left of writing aside


@pytest.mark.parametrize(("n", "count"), [(1, 2), (2, 3), (8, 120)])
def test_trajectory_of_any_length_is_drawn(tmp_path: Path, n: int, count: int) -> None:
    labels = [f"expert-{k}" for k in range(n)]
    path = search_trajectory(trials(n, count), labels, 0, tmp_path / "search.png")
    assert path == tmp_path / "search.png"
    assert_picture(path)


def test_trajectory_survives_failed_first_evaluations_and_no_likelihood(tmp_path: Path) -> None:
    rows = [replace(row, log_likelihood=None) for row in trials(5, 20)]
    rows[:2] = [replace(row, score=None, error="diverged") for row in rows[:2]]
    with_likelihood = search_trajectory(trials(5, 20), LABELS, 5, tmp_path / "with.png")
    without = search_trajectory(rows, LABELS, 5, tmp_path / "without.png")
    assert imread(without).shape[0] < imread(with_likelihood).shape[0]  # a panel less


def test_trajectory_shows_groups_of_parameters_by_their_mean(tmp_path: Path) -> None:
    plain = trials(5, 20)
    grouped = [replace(row, alpha=np.stack([row.alpha, row.alpha])) for row in plain]
    a = search_trajectory(plain, LABELS, 5, tmp_path / "plain.png")
    b = search_trajectory(grouped, LABELS, 5, tmp_path / "grouped.png")
    assert a.read_bytes() == b.read_bytes()


def test_what_the_search_chose_is_ringed_and_only_float32_is_best_so_far() -> None:
    axes = Figure().subplots()
    scores = [None, 41.0, 47.0, 43.5, 42.0]
    rows = [
        trial(k, score, precision="bf16" if score == 47 else "fp32")
        for k, score in enumerate(scores)
    ]
    plots._dots(axes, rows, np.tile([0.3, 0.7], (5, 1)), 1, plots.COLOURS)
    legend = axes.get_legend_handles_labels()[1]
    assert "chosen, 41.00 (evaluation 1)" in legend
    assert "failed" in legend
    assert plots.best_so_far(rows).tolist()[1:] == [41.0, 41.0, 43.5, 43.5]
    assert np.isnan(plots.best_so_far(rows)[0])


def test_alpha_bars_are_drawn_for_one_expert_and_for_many(tmp_path: Path) -> None:
    assert_picture(alpha_bars(np.ones(1), LABELS[:1], [], tmp_path / "alpha.png"))
    weights = np.array([0.5, 0.0, 0.2, 0.2, 0.1])
    assert_picture(alpha_bars(weights, LABELS, [], tmp_path / "alpha.png"))


def test_names_are_shown_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = ["_E3", "p$x_$q", "a" * 70, "meld", "qa"]
    shown: list[str] = []

    def kept(figure: Figure, path: Path) -> Path:
        texts = [text for axes in figure.axes for text in axes.get_yticklabels()]
        for axes in figure.axes:
            if (box := axes.get_legend()) is not None:
                texts += box.get_texts()
        figure.savefig(path)  # a formula would fail here, a name that has no room would warn
        shown.extend(text.get_text().strip() for text in texts)
        return path

    monkeypatch.setattr(plots, "save", kept)
    search_trajectory(trials(5, 20), labels, 0, tmp_path / "search.png")
    alpha_bars(UNIFORM, labels, [], tmp_path / "alpha.png")
    for name in ("_E3", r"p\$x_\$q", f"{'a' * 15}…{'a' * 16}", "meld"):
        assert shown.count(name) == 2


def test_alpha_bars_of_groups_show_every_expert(tmp_path: Path) -> None:
    weights = np.stack([UNIFORM, UNIFORM])
    picture = alpha_bars(weights, LABELS, ["encoder", "decoder"], tmp_path / "alpha.png")
    assert all(shows(picture, colour) for colour in plots.COLOURS[:5])


def test_each_stage_has_its_panels(tmp_path: Path) -> None:
    experts = [curve("experts", label) for label in LABELS]
    both = [*experts, *(curve("finetune", label, 30) for label in LABELS)]
    one = imread(learning_curves(experts, tmp_path / "curves.png"))
    path = learning_curves(both, tmp_path / "curves.png")
    assert_picture(path)
    assert imread(path).shape[1] > 1.5 * one.shape[1]


def test_one_epoch_is_enough_for_a_picture(tmp_path: Path) -> None:
    assert_picture(learning_curves([curve("experts", "emory", 1)], tmp_path / "curves.png"))


def test_an_expert_has_the_same_colour_in_every_picture(tmp_path: Path) -> None:
    pictures = [
        alpha_bars(UNIFORM, LABELS, [], tmp_path / "alpha.png"),
        search_trajectory(trials(5, 30), LABELS, 5, tmp_path / "search.png"),
        learning_curves(
            [curve(stage, label) for stage in ("experts", "finetune") for label in LABELS],
            tmp_path / "curves.png",
        ),
    ]
    for picture in pictures:
        assert all(shows(picture, colour) for colour in plots.COLOURS[:5])
        assert not any(shows(picture, colour) for colour in plots.COLOURS[5:7])


def test_pictures_leave_pyplot_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now raises
    assert_picture(alpha_bars(np.array([0.4, 0.6]), LABELS[:2], [], tmp_path / "alpha.png"))
