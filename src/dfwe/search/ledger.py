"""The ledger of a search: a log while it runs, exactly its trials once it has ended.

Every line but those of answers carries its sha256, and a trial's line that of its answers: what
is damaged is left out and scored again.
"""

import hashlib
import logging
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, get_args

import numpy as np
from pydantic import ValidationError

from dfwe.errors import UserError, check_choice
from dfwe.pipeline.files import write_text
from dfwe.pipeline.provenance import Environment, environment
from dfwe.pipeline.record import Array, Record
from dfwe.search.evaluation import Alpha, Answers, Evaluation, Trial, answers_digest

log = logging.getLogger(__name__)
TOLERANCE = 1e-6  # points: scores that differ by no more are the same
SEAL = re.compile(rb',"sha256":"([0-9a-f]{64})"\}\n?\Z')
Resume = Literal["check", "anyway"]
AnyRecord = TypeVar("AnyRecord", bound=Record)
Key = tuple[tuple[int, ...], bytes, bool]  # an alpha's shape and bytes, whether it was screened


class TrialRow(Record):
    """A line of `trials.jsonl`.

    Args:
        answers: sha256 of the trial's line in the answers file; None where it has none.
    """

    index: int
    alpha: list[float] | list[list[float]]
    score: float | None
    log_likelihood: float | None
    metrics: dict[str, float | None]
    precision: str
    screened: bool = False
    error: str | None
    answers: str | None


class TimingRow(Record):
    """A line of `timings.jsonl`."""

    index: int
    seconds: float


class Remeasured(Record):
    """A trial of an earlier process that another one has scored again, with another result.

    Args:
        alpha: (n,) or (g, n).
        recorded: its score in the ledger, in points.
        measured: its score in the later process; None where it could not be scored there.
    """

    alpha: Array
    recorded: float
    measured: float | None


class AttemptRow(Environment):
    """A line of `attempts.jsonl`: a process that has scored.

    Args:
        first: the index of the first trial that it scored; None where it scored none anew.
        remeasured: what it has found to score otherwise than the ledger says.
    """

    first: int | None
    remeasured: tuple[Remeasured, ...] = ()


def row_of(trial: Trial) -> TrialRow:
    """The trial as a line of the ledger holds it."""
    return TrialRow(
        index=trial.index,
        alpha=trial.alpha.tolist(),
        score=trial.score,
        log_likelihood=trial.log_likelihood,
        metrics=dict(trial.metrics),
        precision=trial.precision,
        screened=trial.screened,
        error=trial.error,
        answers=None if trial.answers is None else trial.answers.digest,
    )


class Ledger:
    """`trials.jsonl`; answers, timings and attempts in files beside it.

    While a search runs, each trial is appended; its answers are on disk before its line, which
    holds their digest. A trial is looked up by its alpha, whatever its place, and one that has
    failed is scored again. `finish` leaves exactly the trials of the search that has ended, in the
    order of proposals. `attempts.jsonl` says what each process computed with.

    Args:
        path: of the trials.
        resume: what to do where a process scores a recorded trial otherwise than the ledger says
            (`confirm`): `check` ends the search, `anyway` notes both scores.
        device: what this process scores on, for `attempts.jsonl`.
        threads: that it scores with.

    Raises:
        UserError: `resume` is something else.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        resume: Resume = "check",
        device: str = "cpu",
        threads: int | None = None,
    ) -> None:
        check_choice("resume", resume, get_args(Resume))
        self.path = Path(path).expanduser()
        self.resume: Resume = resume
        self.device = device
        self.threads = threads
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._files = {name: _beside(self.path, name) for name in ("answers", "timings")}
        self._attempts_file = _beside(self.path, "attempts")
        self._lines, self._rows = self._whole()
        self._seconds = {r.index: r.seconds for r in _rows(self._files["timings"], TimingRow)[0]}
        self._earlier = _rows(self._attempts_file, AttemptRow)[0]
        self._attempt: AttemptRow | None = None  # this process's, once it has scored
        self._trials: dict[Key, Trial] = {}  # of this process

    def named(self, name: str) -> "Ledger":
        """The ledger of another search in the same folder."""
        return Ledger(
            self.path.with_name(f"{name}.jsonl"),
            resume=self.resume,
            device=self.device,
            threads=self.threads,
        )

    @property
    def remeasured(self) -> tuple[Remeasured, ...]:
        """What any process has found to score otherwise than recorded, with `resume="anyway"`."""
        return _distinct(row for attempt in self._attempts for row in attempt.remeasured)

    def replay(self, index: int, alpha: Alpha, screened: bool = False) -> Trial | None:
        """The trial recorded of this alpha, under the index that it has now; None without one."""
        key = (alpha.shape, alpha.tobytes(), screened)
        if (known := self._trials.get(key)) is not None:
            return replace(known, index=index)
        row = self._rows.get(key)
        trial = None if row is None else self._trial(row)
        return None if trial is None else replace(trial, index=index)

    def best(
        self, key: Callable[[Trial], tuple[float, ...]], shape: tuple[int, ...]
    ) -> Trial | None:
        """The best trial that an earlier process has recorded, the screen's left out.

        Args:
            key: the order of trials.
            shape: of the alphas of this search.
        """
        rows = [
            row
            for (found, _, screened), row in self._rows.items()
            if found == shape and not screened
        ]
        if not rows:
            return None
        return self._trial(max(rows, key=lambda row: key(_without_answers(row))))

    def confirm(self, trial: Trial, again: Evaluation) -> None:
        """Compares a recorded trial with what this process makes of it.

        Raises:
            UserError: neither the score, to 1e-6, nor the answers are the same, and `resume` is
                `check`.
        """
        if _agree(trial, again):
            return
        if self.resume == "check":
            raise UserError(self._disagreement(trial, again))
        found = Remeasured(alpha=trial.alpha, recorded=trial.value, measured=again.score)
        attempt = self._this_attempt
        remeasured = _distinct((*attempt.remeasured, found))
        self._write(attempt.model_copy(update={"remeasured": remeasured}))

    def append(self, trial: Trial) -> None:
        """Record a trial; when this returns it is on disk."""
        if self._attempt is None or self._attempt.first is None:
            self._write(self._this_attempt.model_copy(update={"first": trial.index}))
        if trial.answers is not None:
            _append(self._files["answers"], trial.answers.line())
        _append(self.path, _sealed(row_of(trial)))
        _append(self._files["timings"], _sealed(_timing(trial)))
        if trial.score is not None:
            self._trials[trial.alpha.shape, trial.alpha.tobytes(), trial.screened] = trial

    def finish(self, trials: Sequence[Trial]) -> None:
        """Leaves exactly these trials: those of a search that has ended, in order."""
        # In this order: killed in between, every trial still has its answers.
        _write(self.path, (_sealed(row_of(trial)) for trial in trials))
        answers = (trial.answers for trial in trials)
        _write(self._files["answers"], (row.line() for row in answers if row is not None))
        _write(self._files["timings"], (_sealed(_timing(trial)) for trial in trials))

    @property
    def _attempts(self) -> list[AttemptRow]:
        return [*self._earlier, *([] if self._attempt is None else [self._attempt])]

    @property
    def _this_attempt(self) -> AttemptRow:
        """This process's row, which may not be written yet."""
        if self._attempt is not None:
            return self._attempt
        here = environment(self.device, self.threads)
        return AttemptRow(first=None, **here.model_dump())

    def _write(self, attempt: AttemptRow) -> None:
        self._attempt = attempt
        _write(self._attempts_file, map(_sealed, self._attempts))

    def _whole(self) -> tuple[dict[str, bytes], dict[Key, TrialRow]]:
        """Digest -> line of answers, and the trials that can be replayed."""
        lines = {answers_digest(line): line for line in _lines(self._files["answers"])}
        rows, damaged = _rows(self.path, TrialRow)
        whole = [row for row in rows if row.answers is None or row.answers in lines]
        if lost := damaged + len(rows) - len(whole):
            log.warning(
                "%s: %d of %d trials are damaged, or lack their answers, and are scored again.",
                self.path,
                lost,
                len(rows) + damaged,
            )
        scored = {_key(row): row for row in whole if row.score is not None}
        needed = {row.answers for row in scored.values()}
        return {digest: line for digest, line in lines.items() if digest in needed}, scored

    def _trial(self, row: TrialRow) -> Trial | None:
        """The trial with its answers; None where they are not in the form of this version."""
        try:
            answers = None if row.answers is None else Answers.parse(self._lines[row.answers])
        except ValueError:
            return None
        seconds = self._seconds.get(row.index, 0.0)
        return replace(_without_answers(row), answers=answers, seconds=seconds)

    def _disagreement(self, trial: Trial, again: Evaluation) -> str:
        before = [row for row in self._earlier if row.first is not None]
        behind = [row for row in before if row.first is not None and row.first <= trial.index]
        there = str((behind or before)[-1]) if before else "an unknown machine"
        here = environment(self.device, self.threads)
        now = "cannot be scored" if again.score is None else f"scores {again.score:.8g}"
        return (
            f"Trial {trial.index} of {self.path} {now} here ({here}), but scored "
            f"{trial.value:.8g} where it was recorded ({there}); nothing is lost: resume=anyway "
            "continues with both scores in the record, and a search anew begins where "
            f"{self.path.parent} is deleted."
        )


def recorded_seconds(folder: Path) -> float:
    """What the trials took that the ledgers in a folder have recorded."""
    paths = folder.glob("*timings.jsonl")
    return sum(row.seconds for path in paths for row in _rows(path, TimingRow)[0])


def read_trials(path: Path, *, answers: bool = False) -> tuple[Trial, ...]:
    """The trials of a finished search's ledger, whose digest the store has.

    Args:
        path: of the ledger.
        answers: whether the trials come with their answers.

    Raises:
        UserError: a file is missing, is no ledger, or lacks answers.
    """
    if not path.is_file():
        raise UserError(f"{path} is missing; delete its folder and run the stage again.")
    try:
        rows = [TrialRow.model_validate_json(SEAL.sub(b"}", line)) for line in _lines(path)]
    except ValidationError:
        raise UserError(
            f"{path} is damaged or no search's; delete its folder and run the stage again."
        ) from None
    trials = tuple(map(_without_answers, rows))
    if not answers:
        return trials
    lines = {answers_digest(line): line for line in _lines(_beside(path, "answers"))}
    if any(row.answers not in (None, *lines) for row in rows):
        raise UserError(
            f"The answers beside {path} are missing or damaged; delete its folder and run the "
            "stage again."
        )
    return tuple(
        trial if row.answers is None else replace(trial, answers=Answers.parse(lines[row.answers]))
        for trial, row in zip(trials, rows, strict=True)
    )


def _without_answers(row: TrialRow) -> Trial:
    return Trial(
        index=row.index,
        alpha=np.array(row.alpha),
        score=row.score,
        log_likelihood=row.log_likelihood,
        metrics=row.metrics,
        precision=row.precision,
        screened=row.screened,
        error=row.error,
    )


def _agree(trial: Trial, again: Evaluation) -> bool:
    if again.score is None:
        return False
    if abs(again.score - trial.value) <= TOLERANCE:
        return True
    if trial.answers is None or again.answers is None:
        return False
    return trial.answers.texts == again.answers.texts


def _distinct(rows: Iterable[Remeasured]) -> tuple[Remeasured, ...]:
    return tuple({row.model_dump_json(): row for row in rows}.values())


def _timing(trial: Trial) -> TimingRow:
    return TimingRow(index=trial.index, seconds=trial.seconds)


def _key(row: TrialRow) -> Key:
    alpha = np.array(row.alpha)
    return alpha.shape, alpha.tobytes(), row.screened


def _beside(path: Path, kind: str) -> Path:
    """The file of answers, timings or attempts that belongs to a ledger."""
    stem = "" if path.stem == "trials" else f"{path.stem}_"
    return path.with_name(f"{stem}{kind}.jsonl")


def _sealed(row: Record) -> bytes:
    """A row as a line that ends with the sha256 of its JSON."""
    text = row.model_dump_json().encode()
    return b'%s,"sha256":"%s"}\n' % (text[:-1], hashlib.sha256(text).hexdigest().encode())


def _rows(path: Path, schema: type[AnyRecord]) -> tuple[list[AnyRecord], int]:
    """The rows of a file that are as they were written, and how many are not."""
    rows: list[AnyRecord] = []
    lines = _lines(path)
    for line in lines:
        seal, text = SEAL.search(line), SEAL.sub(b"}", line)
        if seal is None or hashlib.sha256(text).hexdigest().encode() != seal[1]:
            continue
        try:
            rows.append(schema.model_validate_json(text))
        except ValidationError:
            continue
    return rows, len(lines) - len(rows)


def _lines(path: Path) -> list[bytes]:
    """The lines of a file, line feeds included; the last one may lack its."""
    return path.read_bytes().splitlines(keepends=True) if path.exists() else []


def _append(path: Path, line: bytes) -> None:
    """Adds a line, behind a line feed where a killed process has left half a line."""
    with path.open("ab+") as file:
        if file.tell() > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def _write(path: Path, lines: Iterable[bytes]) -> None:
    """Makes a file of these lines, unless it is that already; none where there are no lines."""
    content = b"".join(lines)
    if not content:
        path.unlink(missing_ok=True)
    elif not path.exists() or path.read_bytes() != content:
        write_text(path, content.decode())
