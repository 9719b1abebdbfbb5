"""The ledger of a search: every trial, appended and synced before the next is asked."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfwe.errors import UserError


@dataclass(frozen=True)
class Trial:
    """One scored alpha.

    Args:
        alpha: (n,), or (g, n) with g parameter groups.
        score: points; None where the candidate failed or scored NaN.
        log_likelihood: the dev split's mean log-likelihood, in nats.
        metrics: metric name -> points; None for one that is not finite.
        precision: of the scoring pass; only "fp32" trials can win.
        error: why there is no score.
    """

    index: int
    alpha: NDArray[np.float64]
    score: float | None
    log_likelihood: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    precision: str = "fp32"
    error: str | None = None

    @property
    def value(self) -> float:
        """The score as the search sees it: a failed candidate is the worst."""
        return -math.inf if self.score is None else self.score

    def row(self) -> dict[str, Any]:
        """The trial as plain data: a line of `trials.jsonl`."""
        return {
            "index": self.index,
            "alpha": self.alpha.tolist(),
            "score": self.score,
            "log_likelihood": self.log_likelihood,
            "metrics": dict(self.metrics),
            "precision": self.precision,
            "error": self.error,
        }


class Ledger:
    """`trials.jsonl` in proposal order, `timings.jsonl` beside it; NAME_timings.jsonl of another.

    Opening an existing ledger keeps its whole lines for replay and drops a half-written last one.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        stem = "" if self.path.stem == "trials" else f"{self.path.stem}_"
        self.timings = self.path.with_name(f"{stem}timings.jsonl")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = _read(self.path)
        _read(self.timings)

    def replay(self, index: int, alpha: NDArray[np.float64]) -> Trial | None:
        """The trial noted under `index`; None when the ledger ends before it.

        Raises:
            UserError: the noted alpha is another one.
        """
        if index >= len(self.rows):
            return None
        row = self.rows[index]
        if row["index"] != index or row.get("alpha") != alpha.tolist():
            raise UserError(
                f"{self.path} was written by another search (trial {index} is alpha "
                f"{row.get('alpha')}, the search proposes {alpha.tolist()}); delete it to search "
                "anew."
            )
        return Trial(**{**row, "alpha": alpha})

    def append(self, trial: Trial, seconds: float) -> None:
        """Note a trial; when this returns it is on disk."""
        self.rows.append(trial.row())
        _append(self.path, self.rows[-1])
        _append(self.timings, {"index": trial.index, "seconds": seconds})

    def check_end(self, trials: int) -> None:
        """Raises UserError when a finished search of so many trials leaves noted ones over."""
        if len(self.rows) > trials:
            raise UserError(
                f"{self.path} was written by a longer search ({len(self.rows)} trials, this one "
                f"ends after {trials}); delete it to search anew."
            )


def recorded_seconds(folder: Path) -> float:
    """What the trials took that the ledgers in a folder have noted."""
    return sum(row["seconds"] for path in folder.glob("*timings.jsonl") for row in _read(path))


def _read(path: Path) -> list[dict[str, Any]]:
    """The whole lines; a half-written last one is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):  # killed while writing
        os.truncate(path, len(whole))
    try:
        rows: list[Any] = [json.loads(line) for line in whole.splitlines()]
    except ValueError:
        raise UserError(f"{path} is damaged; delete it to search anew.") from None
    if not all(isinstance(row, dict) and "index" in row for row in rows):
        raise UserError(f"{path} is not a search's; delete it to search anew.")
    return rows


def _append(path: Path, row: Mapping[str, Any]) -> None:
    with path.open("a") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
