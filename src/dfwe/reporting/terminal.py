"""Results as a table in the terminal at the end of a run."""

from collections.abc import Sequence
from pathlib import Path

from rich import box
from rich.console import Console, Group
from rich.table import Table as RichTable
from rich.text import Text

from dfwe.reporting.results import Interval, KFoldResult, MethodResult, ModelScores, Results
from dfwe.reporting.table import Table

DASH = "–"  # noqa: RUF001
FIRST = "first (baseline)"  # of checkpoints that a person brings
NAMES = {  # of methods, where it is more than the key with spaces
    "baseline": "fine-tuning",
    "uniform": "uniform average",
    "dfwe": "DFWE",
    "k_fold": "K-fold experts",
    "wise_ft": "WiSE-FT",
    "ties": "TIES",
    "dare": "DARE",
}


def console(*, stderr: bool = False) -> Console:
    """A terminal that shows names as they are: no markup, no emoji, no highlighting."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)


def summary(results: Results) -> Group:
    """The end of a run: each model's weight in the mixture, dev and test, delta to the baseline.

    Columns for which nothing is known yet are left out.
    """
    alpha, groups = _weights(results)
    base = results.baseline.test
    brought = results.model == "checkpoints"
    rows: list[tuple[str, float | None, ModelScores]] = [
        (FIRST if brought else "fine-tuning (baseline)", None, results.baseline),
        *((f"  {row.label}", alpha.get(row.label), row) for row in results.experts),
        ("uniform average", None, results.uniform),
        ("DFWE", None, results.dfwe),
    ]
    columns = {
        "mean alpha" if groups else "alpha": [
            DASH if weight is None else f"{weight:.3f}" for _, weight, _ in rows
        ],
        "dev": [points(row.dev) for _, _, row in rows],
        "test": [points(row.test) for _, _, row in rows],
        "delta": [DASH, *(signed(row.test, base) for _, _, row in rows[1:])],
    }
    known = {name: cells for name, cells in columns.items() if set(cells) != {DASH}}
    table = RichTable(box=box.SIMPLE, pad_edge=False, show_footer=True, footer_style="bold")
    table.add_column("model", footer=rows[-1][0], overflow="fold")  # long names wrap, not figures
    for name, cells in known.items():
        table.add_column(name, footer=cells[-1], justify="right", no_wrap=True)
    for number, (label, _, _) in enumerate(rows[:-1]):
        if number == 1:
            table.add_row(
                "checkpoints" if brought else "fine-tuned experts", *[""] * len(known), style="dim"
            )
        table.add_row(Text(label), *(cells[number] for cells in known.values()))
    return Group(*_head(results), table, *(Text(line, style="dim") for line in _footer(results)))


def trained(results: Results, stages: Sequence[str], store: Path) -> Group:
    """The end of a run that trains: each model of its stages, with dev score, epoch and folder.

    Args:
        results: of the run.
        stages: which models are shown.
        store: the folder that these are in.
    """
    rows = [row for row in results.models if row.stage in stages]
    columns = {
        "dev": [points(row.dev) for row in rows],
        "on": [row.monitor or DASH for row in rows],
        "epoch": [f"{row.best_epoch} of {row.epochs}" if row.epochs else DASH for row in rows],
        "folder": [row.name for row in rows],
    }
    table = RichTable(box=box.SIMPLE, pad_edge=False)
    table.add_column(" and ".join(dict.fromkeys(row.stage for row in rows)), overflow="fold")
    known = {name: cells for name, cells in columns.items() if set(cells) != {DASH}}
    for name in known:
        right = name in {"dev", "epoch"}
        table.add_column(name, justify="right" if right else "left", no_wrap=True)
    for number, row in enumerate(rows):
        table.add_row(Text(row.label), *(cells[number] for cells in known.values()))
    return Group(*_head(results), *([table] if rows else []), Text(f"store        {store}"))


def contenders(rows: Sequence[MethodResult], brought: bool = False) -> RichTable:
    """DFWE and the controls: dev, test, the gain over the baseline and its interval, seconds.

    Args:
        rows: the baseline first.
        brought: whether that is the first of a person's checkpoints, not fine-tuning alone.
    """
    table = RichTable(box=box.SIMPLE, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for name in ("dev", "test", "delta", "95 % interval", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    base = rows[0]
    for row in rows:
        gain = (DASH, DASH) if row is base else (signed(row.test, base.test), bounds(row.interval))
        name = FIRST if brought and row is base else shown(row.name)
        table.add_row(name, points(row.dev), points(row.test), *gain, clock(row.seconds))
    return table


def sheet(whole: Table, terminal: Console) -> Group:
    """A sheet as the terminal has room for: all columns, or the brief ones."""
    table, note = _table(whole, whole.columns), whole.note
    unbounded = terminal.options.update(max_width=10_000)
    if whole.brief and terminal.measure(table, options=unbounded).maximum > terminal.width:
        table = _table(whole, [name for name in whole.columns if name in whole.brief])
        note = f"{note} All columns: {whole.name}.md.".lstrip()
    return Group(Text(whole.title, style="bold"), table, Text(f"{note}\n", style="dim"))


def show(tables: Sequence[Table], *paths: Path) -> None:
    """Print sheets, then the paths of what was written, a line each."""
    terminal = console()
    for whole in tables:
        terminal.print(sheet(whole, terminal))
    for path in paths:
        terminal.print(str(path), soft_wrap=True)


def _table(whole: Table, columns: Sequence[str]) -> RichTable:
    table = RichTable(box=box.SIMPLE, pad_edge=False, padding=(0, 1))
    for number, name in enumerate(columns):
        table.add_column(name.strip(), justify="right" if number else "left")
    cut = len(whole.rows) - whole.last
    for number, cells in enumerate(whole.rows):
        named = dict(zip(whole.columns, cells, strict=True))
        table.add_row(*(named[name] for name in columns), end_section=number + 1 == cut)
    return table


def shown(name: str) -> str:
    """A contender's name as tables and pictures have it."""
    return NAMES.get(name, name.replace("_", " "))


def points(value: float | None) -> str:
    """A score with two decimals."""
    return DASH if value is None else f"{value:.2f}"


def signed(value: float | None, base: float | None) -> str:
    """The difference of two scores, sign shown."""
    return DASH if value is None or base is None else f"{value - base:+.2f}"


def bounds(interval: Interval | None) -> str:
    """An interval of differences, signs shown."""
    return DASH if interval is None else f"{interval[0]:+.2f} to {interval[1]:+.2f}"


def clock(seconds: float | None) -> str:
    """A duration as a person writes it."""
    if seconds is None:
        return DASH
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{rest}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02d}m" if hours else f"{minutes}m {rest:02d}s"


def _head(results: Results) -> list[Text]:
    sources = ", ".join(results.sources)
    run = f"{results.corpus}, {results.model}, seed {results.seed}; scores in points"
    settings = ", ".join(f"{key}={value}" for key, value in results.settings.items())
    lines = [Text(f"{results.task} from {sources}", style="bold"), Text(run, style="dim")]
    return [*lines, *([Text(settings, style="dim")] if settings else [])]


def _footer(results: Results) -> list[str]:
    """A line each on groups, interval, cross-fitting, the search and durations, if known."""
    _, groups = _weights(results)
    which = ", ".join(groups) if len(groups) <= 4 else f"{len(groups)} groups of parameters"
    grouped = f"a separate alpha for {which}: results.json" if groups else ""
    noise = (
        f"95 % interval of the delta, given these models, {bounds(results.interval)}"
        if results.interval
        else results.no_interval or ""
    )
    optimism = ""
    if (crossed := results.cross_fitted) is not None:
        optimism = (
            f"cross-fitted dev {crossed.score:.2f} ({len(crossed.alphas)} folds): dev is "
            f"{crossed.optimism:+.2f} above it"
        )
    counts = {"evaluation": results.dfwe.evaluations, "iteration": results.dfwe.iterations}
    searched = ", ".join(
        f"{count} {name}{'' if count == 1 else 's'}"
        for name, count in counts.items()
        if count is not None
    )
    called = {"finetune": "import"} if results.model == "checkpoints" else {}
    spent = ", ".join(
        f"{called.get(stage, stage)} {clock(value)}"
        for stage, value in results.seconds.items()
        if value is not None
    )
    failed, other = results.dfwe.failed, results.dfwe.remeasured
    worst = f"candidates that could not be scored, and count as the worst: {failed}"
    moved = f"trials that scored otherwise where the search was resumed: {other}"
    remark = results.dfwe.remark or ""
    marks = (remark, worst if failed else "", moved if other else "")
    folded = (_folded(name, row) for name, row in results.k_fold.items())
    lines = (grouped, noise, optimism, *_selection(results), searched, *marks, *folded, spent)
    return [line for line in lines if line]


def _folded(name: str, row: KFoldResult) -> str:
    """What a control's folds came to."""
    found = f"{shown(name)}: {row.out_of_fold:.2f} out of fold on train and dev"
    if row.test is None:
        return found
    if row.rank_correlation is None:
        return f"{found}, {row.test:.2f} on test"
    return (
        f"{found}, {row.test:.2f} on test; rank correlation of the {len(row.experts)} experts' "
        f"own scores {row.rank_correlation:+.2f}"
    )


def _selection(results: Results) -> list[str]:
    """The choice on dialogues of dev that it was not made on: corrected gains, certificates."""
    selection = results.selection
    if selection is None:
        return []
    rows = {
        "the uniform average": selection.over_uniform,
        "the best expert": selection.over_best_expert,
    }
    lines = [
        f"corrected dev gain over {name} {row.gain:+.2f}, at least {row.at_least:+.2f} with 90 %"
        for name, row in rows.items()
    ]
    for name, row in rows.items():
        test = row.certificate
        if test is not None and test.exact:
            verdict = "certified" if test.holds else "not certified"
            lines.append(
                f"{verdict}: better than {name} on dev's other part ({test.wins} won, "
                f"{test.losses} lost, p = {test.p:.3f}; {test.metric} {test.gain:+.2f}, "
                f"{test.smallest:+.2f} would do)"
            )
    return lines


def _weights(results: Results) -> tuple[dict[str, float], list[str]]:
    """Each expert's weight, its mean over the groups where there are several, and their names."""
    alpha = results.dfwe.alpha or {}
    rows = [row for row in alpha.values() if isinstance(row, dict)]
    if not rows:
        return {key: weight for key, weight in alpha.items() if isinstance(weight, float)}, []
    return {label: sum(row[label] for row in rows) / len(rows) for label in rows[0]}, list(alpha)
