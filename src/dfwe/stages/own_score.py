"""Stage `interpolate` by a person's own score in place of a task's: it reads no corpus."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dfwe.errors import UserError
from dfwe.pipeline.step import Run, Settings, Size
from dfwe.scoring.own_score import OwnScore
from dfwe.search.evaluation import Alpha, Evaluation, Trial
from dfwe.search.loop import Result, search
from dfwe.stages.interpolate import Choice, Interpolate
from dfwe.stages.selection import SelectionRecord
from dfwe.statistics.cross_fitting import CrossFitted
from dfwe.weights.groups import depths
from dfwe.weights.untyped import place

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from dfwe.callbacks.weight_search import Searched
    from dfwe.weights.space import WeightSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class InterpolateByScore(Interpolate):
    """alpha* = argmax over the simplex of a person's own score of theta(alpha).

    Neither task nor corpus is read, and there are no answers to resample.

    Args:
        score: the person's.
    """

    score: OwnScore

    @property
    def size(self) -> Size:
        """What the score reads is not known."""
        return Size(parameters=self.experts[0].size.parameters, unfinished=1)

    def settings(self) -> Settings:
        return {**self.score.settings("dev"), "search": self.search.settings()}

    def check(self) -> None:
        self.check_search()
        lost = self.search.needs_answers(len(self.experts))
        if lost is not None:
            raise UserError(
                f"{lost} needs the answers to dev's examples, and score={self.score.path} gives a "
                "number alone; leave one of them out."
            )

    def _searched(
        self,
        run: Run,
        space: "WeightSpace",
        network: "PreTrainedModel",
        tokenizer: "PreTrainedTokenizerBase",
    ) -> "tuple[Searched, int | None]":
        from dfwe.callbacks.weight_search import Searched
        from dfwe.weights.layout import flatten

        log.info(
            "score=%s gives a number alone: the record has no answers, and so no cross-fitting "
            "(search.folds), no choice within a standard error and no intervals.",
            self.score.path,
        )
        place(network, run.context.device)
        flatten(network)
        settings, ledger = self.search, self._ledger(run)

        def score(alpha: Alpha) -> Evaluation:
            space.write(alpha, network)
            return self.score(network, tokenizer, "dev")

        with self._followed(run, space.n) as follow:
            result = search(
                settings(space.n, len(space.groups), depths(space.groups)),
                score,
                objective=settings.objective,
                ties=settings.ties,
                ledger=ledger,
                labels=space.labels,
                on_trial=follow,
            )
        return Searched(result, None, None, (ledger,)), None

    def _say_resolution(self, trials: Sequence[Trial]) -> None:
        """Without answers nothing is known of what dev can resolve."""

    def _selection(self, result: Result, crossed: CrossFitted | None) -> SelectionRecord | None:
        return None

    def _choices(self, result: Result) -> tuple[Choice | None, Choice | None]:
        return None, None
