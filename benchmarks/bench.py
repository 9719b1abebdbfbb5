"""`make bench`: every benchmark side by side, `benchmarks/results.json` and its table.

Each row compares ours with a reference in one interleaved run on one thread; ratio = the
reference's seconds over ours. `--shape base` is `make bench-full`.
"""

import argparse
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
from dfwe.store import write_json
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", default="small", choices=["small", "base"])
    parser.add_argument("--out", type=Path, default=HERE / "results.json")
    options = parser.parse_args()
    parts = (
        lambda: startup.rows(),
        lambda: interpolate.rows(options.shape),
        lambda: scoring.rows(options.shape),
        lambda: training.rows(options.shape),
        lambda: search.rows(options.shape),
    )
    rows: list[dict[str, Any]] = []
    for part in parts:
        rows += part()
        write_json(options.out, rows)  # what is measured is kept, whatever comes after
        print(table(rows[-1:]).splitlines()[-1], flush=True)
    if options.shape == "small":
        show("performance.md", table(rows))
    load = os.getloadavg()[1]
    print(f"\n{table(rows)}\n\n{platform.machine()}, {os.cpu_count()} cores, load {load:.1f}")


if __name__ == "__main__":
    main()
