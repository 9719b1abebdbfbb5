"""Runs in one table, over the settings in which they differ: of a sweep, a folder or a store."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfwe.errors import UserError
from dfwe.pipeline.differences import DIGEST, stored_values
from dfwe.pipeline.files import write_text
from dfwe.pipeline.inventory import Inventory, Result, inventory
from dfwe.pipeline.store import RECIPE, RECORD, Store
from dfwe.reporting.results import Interval, Results
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import DASH, bounds, points, show, signed
from dfwe.stages.evaluate import Evaluate, TestRecord
from dfwe.stages.interpolate import Interpolate

RESULTS = "results.json"
LONGEST = 24  # characters of a setting that a column has room for
SCORES = ("dev", "test", "delta", "95 % interval")
Settings = Mapping[str, str]


@dataclass(frozen=True)
class RunScores:
    """A run that was computed.

    Args:
        settings: key -> value, as a person writes them.
        dev: of DFWE, in points; None where it was not scored.
        test: of DFWE.
        baseline: test of fine-tuning alone.
        interval: 95 % of the difference of these two.
        place: its folder.
    """

    settings: Settings
    dev: float | None
    test: float | None
    baseline: float | None
    interval: Interval | None
    place: str


def runs_in(folder: Path) -> list[RunScores]:
    """The runs whose results.json lies below a folder, or the finished ones of a store.

    Raises:
        UserError: there is no such folder, or no run in it.
    """
    if not folder.is_dir():
        raise UserError(f"report.runs={folder} is no folder; name one of runs, or a store.")
    is_store = any(folder.glob(f"*/{RECIPE}"))
    runs = list(_of_store(folder) if is_store else _of_folder(folder))
    if not runs:
        raise UserError(f"report.runs={folder} has no run with a results.json of DFWE.")
    return runs


def show_sweep(folder: Path) -> None:
    """Prints and writes the table of a sweep's runs; nothing where none has results of DFWE."""
    runs = list(_of_folder(folder))
    if not runs:
        return
    jobs = sum(1 for path in folder.iterdir() if path.name.isdecimal())
    lost = f" of {jobs}" if jobs > len(runs) else ""
    shown = tables(runs, f"Sweep: {len(runs)}{lost} run{'s' if jobs > 1 else ''}", "sweep")
    for table in shown:
        write_text(folder / f"{table.name}.md", table.markdown())
        write_text(folder / f"{table.name}.csv", table.csv())
    show(shown, *(folder / f"{table.name}.csv" for table in shown))


def tables(runs: Sequence[RunScores], title: str, name: str = "runs") -> list[Table]:
    """Each run over the settings in which they differ; if seeds do, also the means over them."""
    keys = _differing(runs)
    rows = [
        [
            *(run.settings.get(key, DASH) for key in keys),
            points(run.dev),
            points(run.test),
            signed(run.test, run.baseline),
            bounds(run.interval),
        ]
        for run in runs
    ]
    columns = [*keys, *SCORES]
    known = [k for k in range(len(columns)) if any(row[k] != DASH for row in rows)]
    best = max((run for run in runs if run.dev is not None), key=_dev, default=None)
    named = "" if best is None else _named(best, keys)
    note = f"Best on dev: {named}." if named else ""
    table = Table(
        title,
        [columns[k] for k in known],
        [[row[k] for k in known] for row in rows],
        note=f"Scores in points; delta is test over fine-tuning alone. {note}".strip(),
        name=name,
    )
    return [table, *_means(runs, keys, name)]


def _dev(run: RunScores) -> float:
    assert run.dev is not None
    return run.dev


def _named(run: RunScores, keys: Sequence[str]) -> str:
    return ", ".join(f"{key}={run.settings[key]}" for key in keys if key in run.settings)


def _means(runs: Sequence[RunScores], keys: Sequence[str], name: str) -> list[Table]:
    """A row for each setting of the other keys that several seeds share; none without."""
    others = [key for key in keys if key != "seed"]
    groups: dict[tuple[str, ...], list[RunScores]] = {}
    for run in runs:
        groups.setdefault(tuple(run.settings.get(key, DASH) for key in others), []).append(run)
    if "seed" not in keys or max(map(len, groups.values())) < 2:
        return []
    rows = [
        [
            *values,
            str(len(group)),
            _spread([run.dev for run in group]),
            _spread([run.test for run in group]),
            _spread([_minus(run.test, run.baseline) for run in group], sign="+"),
        ]
        for values, group in groups.items()
    ]
    columns = [*others, "seeds", *SCORES[:3]]
    note = "Means over seeds and their standard deviation."
    return [Table("Means over seeds", columns, rows, note=note, name=f"{name}_means")]


def _spread(values: Sequence[float | None], sign: str = "") -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return DASH
    spread = f" ± {np.std(known, ddof=1):.2f}" if len(known) > 1 else ""
    return f"{np.mean(known):{sign}.2f}{spread}"


def _minus(value: float | None, base: float | None) -> float | None:
    return None if value is None or base is None else value - base


def _differing(runs: Sequence[RunScores]) -> list[str]:
    """The keys in which runs differ; one that some runs lack has its default there."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    return [key for key in keys if len({run.settings.get(key) for run in runs}) > 1]


def _of_folder(folder: Path) -> Iterator[RunScores]:
    paths = folder.rglob(RESULTS)
    for path in sorted(paths, key=lambda path: [_number(part) for part in path.parts]):
        try:
            found = Results.read(path)
        except UserError:  # of another stage, as stage=region
            continue
        if found.dfwe.dev is None and found.dfwe.test is None:  # of a stage before the search
            continue
        yield RunScores(
            settings={**_named_settings(found), **found.settings},
            dev=found.dfwe.dev,
            test=found.dfwe.test,
            baseline=found.baseline.test,
            interval=found.interval,
            place=str(path.parent),
        )


def _named_settings(found: Results) -> dict[str, str]:
    return {
        "task": found.task,
        "model": found.model,
        "corpus": found.corpus,
        "seed": str(found.seed),
        "sources": ", ".join(found.sources),
    }


def _number(part: str) -> tuple[int, str]:
    """Job 10 comes after job 9."""
    return (int(part), "") if part.isdecimal() else (-1, part)


def _of_store(folder: Path) -> Iterator[RunScores]:
    known = inventory(Store(folder))
    for result in known.results.values():
        if result.recipe.kind != Evaluate.kind:
            continue
        test = TestRecord.read(result.folder / RECORD)
        mixture, baseline = test.scores("mixture"), test.scores("baseline")
        yield RunScores(
            settings={"task": result.provenance.label, **_stored_settings(result, known)},
            dev=_mixture_dev(result, known),
            test=mixture and mixture.score,
            baseline=baseline and baseline.score,
            interval=None,
            place=result.name,
        )


def _stored_settings(result: Result, known: Inventory) -> dict[str, str]:
    """What a person set; contents, which digests name, are left out."""
    return {
        key: " and ".join(sorted(value.strip('"') for value in values))
        for key, values in stored_values(result, known.results).items()
        if not any(DIGEST.search(value) or len(value) > LONGEST for value in values)
    }


def _mixture_dev(result: Result, known: Inventory) -> float | None:
    parents = [known.results[name] for name in result.recipe.parents if name in known.results]
    return next((one.dev for one in parents if one.recipe.kind == Interpolate.kind), None)
