"""What is known of a candidate: its score, and the answers that the score rests on."""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Alpha = NDArray[np.float64]  # (n,), or (g, n) with g parameter groups


class _AnswersLine(BaseModel):
    """A line of an answers file."""

    model_config = ConfigDict(strict=True, extra="forbid")

    texts: list[str]
    log_likelihoods: list[float]
    options: list[list[float]] | None


@dataclass(frozen=True)
class Answers:
    """A model's answers to a split, in the order of its examples.

    Args:
        texts: the answers.
        log_likelihoods: log p(gold answer | source) of each example, in nats.
        options: of each example the log-likelihood of every option, in nats (of a multi-label
            task, of its being right); rows may differ in length. None where the decoding did
            not compute them for all examples.
    """

    texts: tuple[str, ...]
    log_likelihoods: tuple[float, ...]
    options: tuple[tuple[float, ...], ...] | None = None

    def rescore(self, score: Callable[[Sequence[str]], float]) -> float:
        """Any metric of the answers, without a model: `score` maps the texts to points."""
        return score(self.texts)

    @classmethod
    def join(cls, parts: Sequence["Answers"]) -> "Answers":
        """The answers to several batches, one behind the other."""
        options = [part.options for part in parts if part.options is not None]
        return cls(
            tuple(text for part in parts for text in part.texts),
            tuple(value for part in parts for value in part.log_likelihoods),
            tuple(row for rows in options for row in rows) if len(options) == len(parts) else None,
        )

    def subset(self, positions: Sequence[int]) -> "Answers":
        """The answers to the examples at these positions."""
        return Answers(
            tuple(self.texts[i] for i in positions),
            tuple(self.log_likelihoods[i] for i in positions),
            None if self.options is None else tuple(self.options[i] for i in positions),
        )

    def line(self) -> bytes:
        """The answers as a line of an answers file, line feed included."""
        value = {
            "texts": self.texts,
            "log_likelihoods": self.log_likelihoods,
            "options": self.options,
        }
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"

    @cached_property
    def digest(self) -> str:
        """sha256 of `line()`, in hex."""
        return answers_digest(self.line())

    @classmethod
    def parse(cls, line: bytes) -> "Answers":
        """The answers of a line.

        Raises:
            ValueError: it is no line of answers.
        """
        row = _AnswersLine.model_validate_json(line)
        options = None if row.options is None else tuple(map(tuple, row.options))
        return cls(tuple(row.texts), tuple(row.log_likelihoods), options)


def answers_digest(line: bytes) -> str:
    """sha256 of a line of answers, in hex."""
    return hashlib.sha256(line).hexdigest()


class Scored(Protocol):
    """A score with what it rests on, as `dfwe.scoring.scorer.Scores`."""

    @property
    def score(self) -> float: ...
    @property
    def metrics(self) -> Mapping[str, float]: ...
    @property
    def log_likelihood(self) -> float: ...
    @property
    def answers(self) -> Answers: ...


@dataclass(frozen=True)
class Evaluation:
    """What a score function may return in place of a plain score.

    Args:
        score: points, higher is better; None where the candidate failed or scored NaN.
        log_likelihood: the mean log-likelihood of the gold answers, in nats.
        metrics: metric name -> points; None for one that is not finite.
        precision: of the scoring pass; only "fp32" can win.
        answers: what the score rests on.
        error: why there is no score.
    """

    score: float | None
    log_likelihood: float | None = None
    metrics: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    precision: str = "fp32"
    answers: Answers | None = field(default=None, repr=False)
    error: str | None = None

    @property
    def value(self) -> float:
        """The score as a search sees it: a failed candidate is the worst."""
        return -math.inf if self.score is None else self.score


@dataclass(frozen=True, kw_only=True)
class Trial(Evaluation):
    """An evaluated alpha, as the ledger holds it.

    Args:
        index: its place in the order of proposals.
        alpha: (n,), or (g, n) with g parameter groups.
        screened: whether it was scored by the search's screen.
        seconds: what scoring it took; 0 where that was not recorded.
    """

    index: int
    alpha: Alpha
    screened: bool = False
    seconds: float = 0.0

    @property
    def has_options(self) -> bool:
        """Whether every option's log-likelihood is known; a failed candidate needs none."""
        return self.score is None or (
            self.answers is not None and self.answers.options is not None
        )


# m trials -> the standard error of each difference of two scores, (m, m), in points.
Noise = Callable[[Sequence[Trial]], NDArray[np.float64]]


class OptionScore(Protocol):
    """What the options' log-likelihoods of a split come to: it knows the task, a strategy not."""

    def chosen(self, texts: Sequence[str]) -> NDArray[np.intp]:
        """The number of the option that each answer names, (examples,); -1 for none."""
        ...

    def smoothed(self, logits: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
        """The objective where each answer is drawn by its option's share, higher is better.

        Args:
            logits: (c, examples, options), of c candidates; -inf where there is no such option.
            temperature: what they are divided by; near 0 the likeliest option is the answer.

        Returns:
            (c,)
        """
        ...


@dataclass(frozen=True)
class Evaluations:
    """What a strategy is sent for the alphas that it yielded, in their order.

    Args:
        trials: one per alpha; an alpha that was scored before has its earlier trial.
        values: (m,), the objective, higher is better; -inf for a failed candidate.
        noise: of any trials of the search; None where the search knows none.
        options: what options come to; None where the search does not know it.
    """

    trials: tuple[Trial, ...]
    values: NDArray[np.float64]
    noise: Noise | None = None
    options: OptionScore | None = None
