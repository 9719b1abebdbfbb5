"""The ledger of a search: every trial, appended and synced before the next is asked."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dfwe.errors import UserError
from dfwe.search.evaluation import Alpha, Answers, Trial, answers_digest

log = logging.getLogger(__name__)


class TrialRow(BaseModel):
    """A line of `trials.jsonl`.

    Args:
        answers: sha256 of the trial's line in the answers file; None where it has none.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    index: int
    alpha: list[float] | list[list[float]]
    score: float | None
    log_likelihood: float | None
    metrics: dict[str, float | None]
    precision: str
    error: str | None
    answers: str | None


class TimingRow(BaseModel):
    """A line of `timings.jsonl`."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    index: int
    seconds: float


def row_of(trial: Trial) -> TrialRow:
    """The trial as a line of the ledger holds it."""
    return TrialRow(
        index=trial.index,
        alpha=trial.alpha.tolist(),
        score=trial.score,
        log_likelihood=trial.log_likelihood,
        metrics=dict(trial.metrics),
        precision=trial.precision,
        error=trial.error,
        answers=None if trial.answers is None else answers_digest(trial.answers.line()),
    )


class Ledger:
    """`trials.jsonl` in the order of proposals; answers and timings in files beside it.

    The answers of a trial are on disk before its line, which holds their digest. Opening an
    existing ledger keeps its whole lines for replay, drops a half-written last one, and cuts
    ledger and answers to what both have.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.answers = _beside(self.path, "answers")
        self.timings = _beside(self.path, "timings")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = _parsed(self.path, TrialRow)
        self._answers = self._cut_to_answers()
        self._seconds = {row.index: row.seconds for row in _parsed(self.timings, TimingRow)}

    def replay(self, index: int, alpha: Alpha) -> Trial | None:
        """The trial recorded under `index`; None when the ledger ends before it.

        Raises:
            UserError: the recorded alpha is another one.
        """
        if index >= len(self.rows):
            return None
        row = self.rows[index]
        if row.index != index or row.alpha != alpha.tolist():
            raise UserError(
                f"{self.path} was written by another search (trial {index} is alpha "
                f"{row.alpha}, the search proposes {alpha.tolist()}); delete it to search anew."
            )
        return Trial(
            index=index,
            alpha=alpha,
            score=row.score,
            log_likelihood=row.log_likelihood,
            metrics=row.metrics,
            precision=row.precision,
            error=row.error,
            answers=self._answers.get(index),
            seconds=self._seconds.get(index, 0.0),
        )

    def append(self, trial: Trial) -> None:
        """Record a trial; when this returns it is on disk."""
        row = row_of(trial)
        if trial.answers is not None:
            _append(self.answers, trial.answers.line())
        _append(self.path, row.model_dump_json().encode() + b"\n")
        timing = TimingRow(index=trial.index, seconds=trial.seconds)
        _append(self.timings, timing.model_dump_json().encode() + b"\n")
        self.rows.append(row)

    def check_end(self, trials: int) -> None:
        """Raises UserError when a finished search of so many trials leaves recorded ones over."""
        if len(self.rows) > trials:
            raise UserError(
                f"{self.path} was written by a longer search ({len(self.rows)} trials, this one "
                f"ends after {trials}); delete it to search anew."
            )

    def _cut_to_answers(self) -> dict[int, Answers]:
        """Cuts ledger and answers to what both have; trial -> its answers."""
        lines = _whole_lines(self.answers)
        answers = _answers_of(self.rows, lines)
        lacking = [row.index for row in self.rows if row.answers and row.index not in answers]
        kept = lacking[0] if lacking else len(self.rows)
        if kept < len(self.rows):
            log.warning(
                "%s lacks the answers of trial %d: it and the later ones are scored again.",
                self.answers,
                kept,
            )
            os.truncate(self.path, sum(map(len, _whole_lines(self.path)[:kept])))
            self.rows = self.rows[:kept]
        if len(answers) < len(lines):
            os.truncate(self.answers, sum(map(len, lines[: len(answers)])))
        return answers


def recorded_seconds(folder: Path) -> float:
    """What the trials took that the ledgers in a folder have recorded."""
    paths = folder.glob("*timings.jsonl")
    return sum(row.seconds for path in paths for row in _parsed(path, TimingRow))


def read_trials(path: Path, *, answers: bool = False) -> tuple[Trial, ...]:
    """The trials of a finished search's ledger.

    Args:
        path: of the ledger.
        answers: whether the trials come with their answers.

    Raises:
        UserError: a file is missing, is no ledger, or lacks answers.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; delete its folder and run the stage again.")
    rows = _parsed(path, TrialRow)
    texts = _answers_of(rows, _whole_lines(_beside(path, "answers"))) if answers else {}
    if answers and any(row.answers and row.index not in texts for row in rows):
        raise UserError(
            f"The answers beside {path} are missing or damaged; delete its folder and run the "
            "stage again."
        )
    return tuple(
        Trial(
            index=row.index,
            alpha=np.array(row.alpha),
            score=row.score,
            log_likelihood=row.log_likelihood,
            metrics=row.metrics,
            precision=row.precision,
            error=row.error,
            answers=texts.get(row.index),
        )
        for row in rows
    )


def _beside(path: Path, kind: str) -> Path:
    """The file of answers or timings that belongs to a ledger."""
    stem = "" if path.stem == "trials" else f"{path.stem}_"
    return path.with_name(f"{stem}{kind}.jsonl")


def _answers_of(rows: Sequence["TrialRow"], lines: Sequence[bytes]) -> dict[int, Answers]:
    """Trial -> its answers, up to the first that are missing or not those it was scored by."""
    answers: dict[int, Answers] = {}
    for row in rows:
        if row.answers is None:
            continue
        position = len(answers)
        if position == len(lines) or answers_digest(lines[position]) != row.answers:
            break
        answers[row.index] = Answers.parse(lines[position])
    return answers


Row = TypeVar("Row", bound=BaseModel)


def _parsed(path: Path, schema: type[Row]) -> list[Row]:
    """The whole lines of a file of such rows; a half-written last one is cut off."""
    try:
        return [schema.model_validate_json(line) for line in _whole_lines(path)]
    except ValidationError:
        raise UserError(f"{path} is damaged or no search's; delete it to search anew.") from None


def _whole_lines(path: Path) -> list[bytes]:
    """The lines that end in a line feed; what follows the last one is cut off."""
    if not path.exists():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):  # killed while writing
        os.truncate(path, len(whole))
    return whole.splitlines(keepends=True)


def _append(path: Path, line: bytes) -> None:
    with path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
