"""The terminal's table."""

import re
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from rich.console import Console, RenderableType

from dfwe.pipeline.record import Record
from dfwe.reporting.results import (
    CertificateRecord,
    CorrectedGain,
    CrossFittedResult,
    DfweResult,
    ExpertResult,
    MethodResult,
    MixtureResult,
    ModelScores,
    Named,
    Results,
    SelectionResult,
    TrainedResult,
)
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import (
    clock,
    console,
    contenders,
    sheet,
    show,
    summary,
    trained,
)

LABELS = ["characters", "characters+sources", "meld", "qa", "reading"]
ALPHA = [0.12, 0.41, 0.05, 0.22, 0.2]
AnyRecord = TypeVar("AnyRecord", bound=Record)


def render(results: Results, width: int = 80) -> str:
    """What the terminal shows at the end of a run."""
    return shown_at(summary(results), width)


def shown_at(content: RenderableType, width: int) -> str:
    """What the terminal shows, without the blanks at the ends of lines."""
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(content)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def with_alpha(results: Results, alpha: Named | None) -> Results:
    """The same results of another alpha."""
    return changed(results, dfwe=changed(results.dfwe, alpha=alpha))


def changed(record: AnyRecord, **values: object) -> AnyRecord:
    return record.model_copy(update=values)


@pytest.fixture
def results() -> Results:
    experts = [
        ExpertResult(label=label, address="ab12", dev=40.0 + k, test=39.0 + k)
        for k, label in enumerate(LABELS)
    ]
    return Results(
        task="characters",
        seed=3,
        model="tiny",
        corpus="sample",
        settings={},
        models=[],
        sources=LABELS[2:],
        experts=experts,
        baseline=ModelScores(dev=41.236, test=40.5),
        uniform=ModelScores(dev=42.0, test=39.25),
        dfwe=DfweResult(
            alpha=dict(zip(LABELS, ALPHA, strict=True)),
            dev=44.0,
            test=43.75,
            evaluations=88,
            iterations=40,
        ),
        one_standard_error=MixtureResult(alpha=None, dev=None, test=None),
        likeliest=MixtureResult(alpha=None, dev=None, test=None),
        cross_fitted=None,
        selection=None,
        optimism=0.25,
        delta=3.25,
        methods=None,
        interval=None,
        no_interval=None,
        k_fold={},
        parts=None,
        seconds={"experts": 3723.4, "finetune": 184.0, "interpolate": 12.0, "evaluate": 0.42},
        model_dir="/store/ab12",
    )


@pytest.fixture
def untested(results: Results) -> Results:
    """As after `stage=interpolate`: nobody has looked at test."""
    return changed(
        results,
        experts=[changed(expert, test=None) for expert in results.experts],
        baseline=changed(results.baseline, test=None),
        uniform=changed(results.uniform, test=None),
        dfwe=changed(results.dfwe, test=None),
        delta=None,
        seconds={**results.seconds, "evaluate": None},
    )


@pytest.fixture
def unsearched(untested: Results) -> Results:
    """As in the middle of `stage=experts`."""
    return changed(
        untested,
        experts=[changed(expert, dev=None) for expert in untested.experts],
        uniform=changed(untested.uniform, dev=None),
        dfwe=changed(untested.dfwe, alpha=None, dev=None, evaluations=None, iterations=None),
        seconds={"experts": 2.0},
    )


def cells(text: str, label: str) -> list[str]:
    """The cells behind a model's name, in the one line that begins with it."""
    (line,) = [
        line for line in text.splitlines() if re.match(rf" +{re.escape(label)}(  |$)", line)
    ]
    return line.strip().removeprefix(label).split()


def test_groups_are_named_and_their_mean_weight_is_shown(results: Results) -> None:
    pure = {label: float(label == "qa") for label in LABELS}
    text = render(with_alpha(results, {"encoder": results.dfwe.alpha, "decoder": pure}))
    assert cells(text, "qa")[0] == "0.610"
    assert "a separate alpha for encoder, decoder: results.json" in text


def test_every_model_stands_in_one_line_with_its_numbers(results: Results) -> None:
    text = render(results)
    assert cells(text, "model") == ["alpha", "dev", "test", "delta"]
    assert cells(text, "fine-tuning (baseline)") == ["–", "41.24", "40.50", "–"]  # noqa: RUF001
    assert cells(text, "characters") == ["0.120", "40.00", "39.00", "-1.50"]
    assert cells(text, "characters+sources") == ["0.410", "41.00", "40.00", "-0.50"]
    assert cells(text, "uniform average")[1:] == ["42.00", "39.25", "-1.25"]
    assert cells(text, "DFWE")[1:] == ["44.00", "43.75", "+3.25"]


def test_what_the_strategy_says_of_its_search_stands_below(results: Results) -> None:
    remark = "The surrogate predicted 3.2% of the answers of 14 trials wrongly."
    remarked = changed(results, dfwe=changed(results.dfwe, remark=remark))
    assert remark in render(remarked)
    assert remark not in render(results)


def test_dfwe_stands_last_under_a_rule(results: Results) -> None:
    lines = render(results).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith(" DFWE"))
    assert set(lines[at - 1].strip()) == {"─"}
    assert not any(expert.label in line for line in lines[at:] for expert in results.experts)


def test_text_around_the_table_names_the_run_and_its_cost(results: Results) -> None:
    text = render(results)
    assert text.startswith("characters from meld, qa, reading\nsample, tiny, seed 3;")
    assert "88 evaluations, 40 iterations\n" in text
    assert "experts 1h 02m, finetune 3m 04s, interpolate 12s, evaluate 0.4s\n" in text


def test_what_was_set_stands_in_the_heading(results: Results) -> None:
    text = render(changed(results, settings={"training.learning_rate": "1e-3", "search": "line"}))
    assert "\ntraining.learning_rate=1e-3, search=line\n" in text


def test_a_stage_that_trains_shows_its_models_with_dev_epoch_and_folder(results: Results) -> None:
    models = [
        TrainedResult(
            stage=stage,
            label=label,
            name=f"train-{stage}{number}",
            monitor="qa",
            dev=20.68,
            best_epoch=2,
            epochs=4,
        )
        for stage in ("experts", "finetune")
        for number, label in enumerate(LABELS[:2])
    ]
    base = TrainedResult(stage="pretrain", label="tiny", name="pretrain-1")
    results = changed(results, models=[base, *models])
    text = shown_at(trained(results, ("experts",), Path("/a/store")), 80)
    assert cells(text, "experts") == ["dev", "on", "epoch", "folder"]
    assert cells(text, LABELS[1]) == ["20.68", "qa", "2", "of", "4", "train-experts1"]
    assert "finetune" not in text
    assert text.rstrip().endswith("/a/store")
    assert cells(shown_at(trained(results, ("pretrain",), Path("/s")), 80), "tiny") == [
        "pretrain-1"
    ]


def test_a_search_with_failed_candidates_or_other_scores_is_marked(results: Results) -> None:
    text = render(changed(results, dfwe=changed(results.dfwe, failed=2, remeasured=1)))
    assert "\ncandidates that could not be scored, and count as the worst: 2\n" in text
    assert "\ntrials that scored otherwise where the search was resumed: 1\n" in text
    assert "could not be scored" not in render(results)
    assert "otherwise" not in render(results)


def test_the_cross_fitted_score_stands_beside_devs(results: Results) -> None:
    crossed = CrossFittedResult(
        score=42.126, metrics={}, alphas=[{}] * 5, optimism=1.874, evaluations=30
    )
    text = render(changed(results, cross_fitted=crossed))
    assert "\ncross-fitted dev 42.13 (5 folds): dev is +1.87 above it\n" in text
    assert "cross-fitted" not in render(results)


def selection(certificate: CertificateRecord | None = None) -> SelectionResult:
    gain = CorrectedGain(trial=0, gain=1.906, at_least=-0.4, certificate=certificate)
    best = CorrectedGain(trial=1, gain=4.15, at_least=-0.4, certificate=None)
    weights = {"a": 1.0}
    return SelectionResult(
        trials=(1,),
        shares=np.ones(1),
        mean=weights,
        low=weights,
        high=weights,
        score=40.0,
        over_uniform=gain,
        over_best_expert=best,
        no_certificate=None,
    )


def test_corrected_gains_stand_with_their_lower_bounds(results: Results) -> None:
    text = render(changed(results, selection=selection()))
    assert (
        "\ncorrected dev gain over the uniform average +1.91, at least -0.40 with 90 %\n" in text
    )
    assert "\ncorrected dev gain over the best expert +4.15, at least -0.40 with 90 %\n" in text
    assert "certified" not in text


def test_only_an_exact_certificate_is_shown(results: Results) -> None:
    test = CertificateRecord(
        metric="accuracy",
        alpha=np.ones(1),
        exact=True,
        gain=8.0,
        wins=9,
        losses=1,
        p=0.0107,
        holds=True,
        smallest=6.0,
    )
    text = render(changed(results, selection=selection(test)), width=200)
    assert (
        "\ncertified: better than the uniform average on dev's other part (9 won, 1 "
        "lost, p = 0.011; accuracy +8.00, +6.00 would do)\n"
    ) in text
    replayed = selection(test.model_copy(update={"exact": False}))
    assert "certified" not in render(changed(results, selection=replayed))


def test_nothing_is_wider_than_the_terminal(results: Results) -> None:
    for line in render(results, width=80).splitlines():
        assert len(line) <= 80


def test_names_of_any_length_and_letters_leave_the_numbers_whole(results: Results) -> None:
    long, marked = f"flan-t5-base-{'x' * 70}-end", "a_[red]x"
    labels = [long, marked, *LABELS[2:]]
    experts = [
        changed(row, label=label) for row, label in zip(results.experts, labels, strict=True)
    ]
    results = changed(results, experts=experts)
    text = render(with_alpha(results, dict.fromkeys(labels, 0.2)))
    assert sum(map(len, re.findall("x{2,}", text))) == 70  # on two lines, no letter lost
    assert re.search(r"x   0\.200   40\.00   39\.00   -1\.50\n", text)
    assert cells(text, marked) == ["0.200", "41.00", "40.00", "-0.50"]


def test_what_was_brought_is_not_called_fine_tuned(results: Results) -> None:
    assert "import 3m 04s" in render(changed(results, model="checkpoints"))


def test_columns_of_stages_not_run_are_left_out(untested: Results) -> None:
    text = render(untested)
    assert cells(text, "model") == ["alpha", "dev"]
    assert "evaluate" not in text


def test_models_not_made_yet_show_a_dash(unsearched: Results) -> None:
    text = render(unsearched)
    assert cells(text, "model") == ["dev"]
    assert cells(text, "fine-tuning (baseline)") == ["41.24"]
    for label in ("characters", "uniform average", "DFWE"):
        assert cells(text, label) == ["–"]  # noqa: RUF001
    assert "iterations" not in text


def test_a_gain_without_an_interval_says_why(results: Results) -> None:
    text = render(changed(results, no_interval="no interval: the test split is one dialogue"))
    assert "no interval: the test split is one dialogue" in text
    assert "95 %" not in text


def test_methods_are_compared_with_fine_tuning() -> None:
    unknown = {"evaluations": None, "tokens": None, "flops": None}
    tuned = MethodResult(
        name="baseline",
        dev=40.0,
        test=39.0,
        delta=0.0,
        interval=(0.0, 0.0),
        seconds=9.0,
        **unknown,
    )
    gain = {"test": 41.5, "delta": 2.5, "interval": (-0.5, 5.0)}
    mixed = changed(tuned, name="wise_ft", dev=None, seconds=None, **gain)
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        console.print(contenders([tuned, mixed]))
    text = captured.get()
    assert cells(text, "fine-tuning") == ["40.00", "39.00", "–", "–", "9.0s"]  # noqa: RUF001
    assert cells(text, "WiSE-FT") == ["–", "41.50", "+2.50", "-0.50", "to", "+5.00", "–"]  # noqa: RUF001
    with console.capture() as captured:
        console.print(contenders([tuned, changed(mixed, interval=None)]))
    assert cells(captured.get(), "WiSE-FT") == ["–", "41.50", "+2.50", "–", "–"]  # noqa: RUF001


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


def test_names_and_paths_are_no_markup(results: Results, capsys, monkeypatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    names = "a[/]b", "[b]c", ":smile:", "[link=x]d"
    sheets = [Table(names[0], names, [names]), Table("Two", ["model"], [[names[1]]])]
    show(sheets, Path("/tmp/x[/]y"), Path("/tmp/:smile:[b]"))
    text = capsys.readouterr().out
    assert text.splitlines()[-2:] == ["/tmp/x[/]y", "/tmp/:smile:[b]"]
    assert text.splitlines()[0].strip() == names[0]
    assert [line.split() for line in text.splitlines() if ":smile:" in line][:2] == [
        list(names)
    ] * 2
    control = MethodResult(
        name="[/]", dev=1.0, test=2.0, delta=1.0, interval=None,
        seconds=None, evaluations=None, tokens=None, flops=None,
    )  # fmt: skip
    terminal = console()
    with terminal.capture() as captured:
        terminal.print(contenders([control, control]))
    assert captured.get().count("[/]") == 2
