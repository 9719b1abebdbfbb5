"""`make bench`: every benchmark side by side, `benchmarks/results.json` and its table.

Each row compares ours with a reference in one interleaved run on one thread; ratio = the
reference's seconds over ours. `--shape base` is `make bench-full`.
"""

import argparse
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import interpolate
import scoring
import search
import startup
import training
from dfwe.pipeline.files import write_json
from friends import show

HERE = Path(__file__).parent


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| name | ours | reference | ratio | note |", "|---|---:|---:|---:|---|"]
    for row in rows:
        ours, reference, ratio = (
            "-" if value is None else f"{value:.3g}"
            for value in (row["ours"], row["reference"], row["ratio"])
        )
        lines.append(f"| `{row['name']}` | {ours} | {reference} | {ratio} | {row['note']} |")
    return "\n".join(lines)


RESULTS = {"small": "results.json", "base": "results_base.json"}
PARTS = {
    "startup": lambda shape: startup.rows(),
    "interpolate": interpolate.rows,
    "scoring": scoring.rows,
    "training": training.rows,
    "search": search.rows,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small", choices=["small", "base"])
    parser.add_argument("--out", type=Path, help="by default the shape's file beside this one")
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(PARTS),
        choices=PARTS,
        help="measure these parts anew and keep the other rows",
    )
    options = parser.parse_args()
    out = options.out or HERE / RESULTS[options.shape]
    rows = json.loads(out.read_text()) if out.is_file() else []
    measured: list[dict[str, Any]] = []
    for part in options.only:
        new = PARTS[part](options.shape)
        measured += new
        rows = merged(rows, new)
        write_json(out, rows)  # what is measured is kept, whatever comes after
        print("\n".join(table(new).splitlines()[2:]), flush=True)
    if set(options.only) == set(PARTS):  # rows of another day whose names are gone
        rows = measured
        write_json(out, rows)
    show("performance.md", table(rows), options.shape)
    load = os.getloadavg()[1]
    print(f"\n{table(rows)}\n\n{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")


def merged(old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The old rows, each in its place with what was measured anew; then new names."""
    by_name = {row["name"]: row for row in (*old, *new)}
    return list(by_name.values())


if __name__ == "__main__":
    main()
