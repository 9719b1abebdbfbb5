"""The terminal's table."""

import re

import pytest
from rich.console import Console

from dfwe.reporting.table import Table
from dfwe.reporting.terminal import clock, sheet, summary

LABELS = ["characters", "characters+sources", "meld", "qa", "reading"]
ALPHA = [0.12, 0.41, 0.05, 0.22, 0.2]
NOTHING = {"dev": None, "test": None}


def render(results: dict, width: int = 80) -> str:
    """What the terminal shows, without the blanks at the ends of lines."""
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(summary(results))
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


@pytest.fixture
def results() -> dict:
    experts = [
        {"label": label, "address": "ab12", "dev": 40.0 + k, "test": 39.0 + k}
        for k, label in enumerate(LABELS)
    ]
    return {
        "task": "characters",
        "seed": 3,
        "model": "tiny",
        "corpus": "sample",
        "sources": LABELS[2:],
        "experts": experts,
        "baseline": {"dev": 41.236, "test": 40.5},
        "uniform": {"dev": 42.0, "test": 39.25},
        "dfwe": {
            "alpha": dict(zip(LABELS, ALPHA, strict=True)),
            "dev": 44.0,
            "test": 43.75,
            "evaluations": 88,
            "iterations": 40,
        },
        "delta": 3.25,
        "seconds": {"experts": 3723.4, "finetune": 184.0, "interpolate": 12.0, "evaluate": 0.42},
        "model_dir": "/store/ab12",
    }


@pytest.fixture
def untested(results: dict) -> dict:
    """As after `stage=interpolate`: nobody has looked at test."""
    for model in (results["baseline"], results["uniform"], results["dfwe"], *results["experts"]):
        model["test"] = None
    return {**results, "delta": None, "seconds": {**results["seconds"], "evaluate": None}}


@pytest.fixture
def unsearched(untested: dict) -> dict:
    """As in the middle of `stage=experts`."""
    untested["experts"] = [{**expert, **NOTHING} for expert in untested["experts"]]
    nothing = {"alpha": None, "evaluations": None, "iterations": None, **NOTHING}
    return {**untested, "uniform": NOTHING, "dfwe": nothing, "seconds": {"experts": 2.0}}


def cells(text: str, label: str) -> list[str]:
    """The cells behind a model's name, in the one line that begins with it."""
    (line,) = [
        line for line in text.splitlines() if re.match(rf" +{re.escape(label)}(  |$)", line)
    ]
    return line.strip().removeprefix(label).split()


def test_groups_are_named_and_their_mean_weight_is_shown(results: dict) -> None:
    pure = {label: float(label == "qa") for label in LABELS}
    results["dfwe"]["alpha"] = {"encoder": results["dfwe"]["alpha"], "decoder": pure}
    text = render(results)
    assert cells(text, "qa")[0] == "0.610"
    assert "an alpha each for encoder, decoder: results.json" in text


def test_every_model_stands_in_one_line_with_its_numbers(results: dict) -> None:
    text = render(results)
    assert cells(text, "model") == ["alpha", "dev", "test", "delta"]
    assert cells(text, "fine-tuning (baseline)") == ["–", "41.24", "40.50", "–"]  # noqa: RUF001
    assert cells(text, "characters") == ["0.120", "40.00", "39.00", "-1.50"]
    assert cells(text, "characters+sources") == ["0.410", "41.00", "40.00", "-0.50"]
    assert cells(text, "uniform average")[1:] == ["42.00", "39.25", "-1.25"]
    assert cells(text, "DFWE")[1:] == ["44.00", "43.75", "+3.25"]


def test_dfwe_stands_last_under_a_rule(results: dict) -> None:
    lines = render(results).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith(" DFWE"))
    assert set(lines[at - 1].strip()) == {"─"}
    assert not any(expert["label"] in line for line in lines[at:] for expert in results["experts"])


def test_text_around_the_table_names_the_run_and_its_cost(results: dict) -> None:
    text = render(results)
    assert text.startswith("characters from meld, qa, reading\nsample, tiny, seed 3;")
    assert "88 evaluations, 40 iterations\n" in text
    assert "experts 1h 02m, finetune 3m 04s, interpolate 12s, evaluate 0.4s\n" in text


def test_the_cross_fitted_score_stands_beside_devs(results: dict) -> None:
    crossed = {"score": 42.126, "metrics": {}, "alphas": [{}] * 5, "optimism": 1.874}
    text = render({**results, "cross_fitted": crossed})
    assert "\ncross-fitted dev 42.13 (5 folds): dev is +1.87 above it\n" in text
    assert "cross-fitted" not in render({**results, "cross_fitted": None})


def selection(certificate=None) -> dict:
    gain = {"gain": 1.906, "at_least": -0.4, "certificate": certificate}
    return {"over_uniform": gain, "over_best_expert": {**gain, "gain": 4.15, "certificate": None}}


def test_corrected_gains_stand_with_their_lower_bounds(results: dict) -> None:
    text = render({**results, "selection": selection()})
    assert (
        "\ncorrected dev gain over the uniform average +1.91, at least -0.40 with 90 %\n" in text
    )
    assert "\ncorrected dev gain over the best expert +4.15, at least -0.40 with 90 %\n" in text
    assert "certified" not in text


def test_only_an_exact_certificate_is_shown(results: dict) -> None:
    test = {"wins": 9, "losses": 1, "p": 0.0107, "metric": "accuracy", "gain": 8.0}
    test |= {"smallest": 6.0, "holds": True, "exact": True}
    text = render({**results, "selection": selection(test)}, width=200)
    assert (
        "\ncertified: better than the uniform average on dev's other part (9 dialogues won, 1 "
        "lost, p = 0.011; accuracy +8.00, +6.00 would do)\n"
    ) in text
    replayed = selection({**test, "exact": False})
    assert "certified" not in render({**results, "selection": replayed})


def test_nothing_is_wider_than_the_terminal(results: dict) -> None:
    for line in render(results, width=80).splitlines():
        assert len(line) <= 80


def test_names_of_any_length_and_letters_leave_the_numbers_whole(results: dict) -> None:
    long, marked = f"flan-t5-base-{'x' * 70}-end", "a_[red]x"
    for row, label in zip(results["experts"], (long, marked), strict=False):
        row["label"] = label
    results["dfwe"]["alpha"] = {row["label"]: 0.2 for row in results["experts"]}
    text = render(results)
    assert sum(map(len, re.findall("x{2,}", text))) == 70  # on two lines, no letter lost
    assert re.search(r"x   0\.200   40\.00   39\.00   -1\.50\n", text)
    assert cells(text, marked) == ["0.200", "41.00", "40.00", "-0.50"]


def test_what_was_brought_is_not_called_fine_tuned(results: dict) -> None:
    assert "import 3m 04s" in render({**results, "model": "checkpoints"})


def test_columns_of_stages_not_run_are_left_out(untested: dict) -> None:
    text = render(untested)
    assert cells(text, "model") == ["alpha", "dev"]
    assert "evaluate" not in text


def test_models_not_made_yet_show_a_dash(unsearched: dict) -> None:
    text = render(unsearched)
    assert cells(text, "model") == ["dev"]
    assert cells(text, "fine-tuning (baseline)") == ["41.24"]
    for label in ("characters", "uniform average", "DFWE"):
        assert cells(text, label) == ["–"]  # noqa: RUF001
    assert "iterations" not in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4s"),
        (9.97, "10s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (184, "3m 04s"),
        (3599.7, "1h 00m"),
        (90061, "25h 01m"),
    ],
)
def test_durations_are_written_for_people(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("width", "shown"), [(80, ["task", "score"]), (200, ["task", "score", "share"])]
)
def test_a_narrow_terminal_gets_the_brief_columns_and_a_wide_one_all(width, shown):
    rows = [["a" * 60, "1.00", "9" * 30]]
    whole = Table(
        "Title", ["task", "score", "share"], rows, note="A note.", brief=("task", "score")
    )
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(sheet(whole, console))
    lines = captured.get().splitlines()
    assert lines[0].strip() == "Title"
    assert next(line.split() for line in lines if "task" in line) == shown
    assert max(map(len, (line.rstrip() for line in lines))) <= width
    assert "A note." in captured.get()
