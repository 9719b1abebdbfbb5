"""How many evaluations a search needs for what another one ends with, run by run.

`python tools/evaluations_to_reach.py REFERENCE OTHER ...` reads the folders of runs on the same
experts, such as those of search=nelder_mead and search=surrogate, and prints a table.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from dfwe.errors import UserError
from dfwe.reporting.results import Results
from dfwe.search.evaluation import Trial
from dfwe.search.ledger import read_trials

COLUMNS = (
    "task, seed",
    "n",
    "reference: evaluations",
    "dev",
    "this search",
    "evaluations to reach that",
    "dev",
    "evaluations",
    "what it says",
)


def evaluations_to_reach(trials: Sequence[Trial], score: float) -> int | None:
    """The place, from 1, of the first trial with at least this dev score; None without one."""
    places = (k for k, trial in enumerate(trials, start=1) if trial.value >= score)
    return next(places, None)


def row(reference: Path, other: Path) -> list[str]:
    """The cells about two runs.

    Raises:
        UserError: a folder is no run's, or the runs mix other experts.
    """
    (first, known), (second, trials) = map(_run, (reference, other))
    if [x.address for x in first.experts] != [x.address for x in second.experts]:
        raise UserError(f"{reference} and {other} mix other experts; name runs of the same.")
    best, ours = (max(trial.value for trial in rows) for rows in (known, trials))
    reached = evaluations_to_reach(trials, best)
    return [
        f"{first.task}, {first.seed}",
        str(len(first.experts)),
        str(len(known)),
        f"{best:.2f}",
        other.name,
        "not reached" if reached is None else str(reached),
        f"{ours:.2f}",
        str(len(trials)),
        second.dfwe.remark or "",
    ]


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _run(folder: Path) -> tuple[Results, tuple[Trial, ...]]:
    return Results.read(folder / "results.json"), read_trials(folder / "trials.jsonl")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("reference", type=Path, help="the folder of a run")
    parser.add_argument("others", type=Path, nargs="+", help="folders of runs on its experts")
    given = parser.parse_args()
    try:
        print(table([row(given.reference, other) for other in given.others]))
    except UserError as error:
        raise SystemExit(f"Error: {error}") from None


if __name__ == "__main__":
    main()
