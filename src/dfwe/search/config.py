"""What `conf/search/*.yaml` declares."""

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator

from dfwe.errors import UserError
from dfwe.pipeline.deferred import check_part, describe, parts
from dfwe.plain import Plain
from dfwe.search.baselines import uniform
from dfwe.search.loop import Objective, Ties
from dfwe.search.nelder_mead import cone, parallel_evaluations, parallel_nelder_mead
from dfwe.search.simplex import (
    Alphas,
    Opening,
    Strategy,
    default_evaluations,
    initial_alphas,
)
from dfwe.settings import Count, Folds, settings

GROUPS = 2  # of parameters, that a strategy is tried with


def _grouping(value: object) -> object:
    if value is not None and not callable(value):
        raise UserError(
            f"search.groups={value} is not a valid choice of groups; write search/groups=part, "
            "block or none."
        )
    return value


StrategyFunction = Callable[..., Strategy]  # n -> strategy; what conf/search/*.yaml names


@settings("search")
class Search:
    """A search as a config declares it: a strategy with its settings.

    Args:
        strategy: from the number of experts to their strategy.
        groups: from a parameter's name to its group's, for an alpha a group
            (`dfwe.weights.groups`); None for one alpha.
        screen: bf16 steers, and so many of the best are scored again in float32; None scores
            every candidate in float32. Pays where the hardware multiplies bf16.
        folds: so many parts of dev's dialogues, each scored by what the same search finds on the
            others (`dfwe.statistics.cross_fitting`); None leaves that out.
        objective: what of dev decides: `score`, the task's metric; or `log_likelihood`, that of
            the gold answers, which has no steps and less noise, but is not what is reported.
        ties: what orders trials of one score while the strategy climbs: `none`, or their
            `log_likelihood`.
        shrinkage: draw alpha toward the average, as far as the folds' searches prefer on the
            dialogues that each has not read; needs `folds`.
        experts: further models to mix, behind the fine-tuned experts: `longer`, fine-tuning for
            the epochs of both stages; `theta_0`, the pretrained model with the shared fresh head.
    """

    strategy: StrategyFunction
    groups: Annotated[Callable[[str], str] | None, BeforeValidator(_grouping)] = None
    screen: Count | None = None
    folds: Folds | None = None
    objective: Objective = "score"
    ties: Ties = "none"
    shrinkage: bool = False
    experts: Sequence[Literal["longer", "theta_0"]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "experts", tuple(self.experts))
        check_part("search.strategy", self.strategy)  # now, not after hours of training
        if self.shrinkage and self.folds is None:
            raise UserError(
                "search.shrinkage=true is chosen by cross-fitting; set search.folds=5."
            )
        if len(set(self.experts)) < len(self.experts):
            raise UserError(f"search.experts={list(self.experts)} contains a duplicate.")
        if self._is_cone and self.experts[-1:] != ("theta_0",):
            raise UserError(
                "search=cone mixes task vectors from theta_0: name it last, as in "
                "search.experts=[theta_0]."
            )

    def __call__(self, n: int, groups: int = 1, depths: Sequence[float] | None = None) -> Strategy:
        """The strategy for n experts and g groups.

        Args:
            n: the number of experts.
            groups: of parameters, g.
            depths: (g,), of the groups, 0..1, for a strategy that asks for them; None where they
                have none.

        Raises:
            UserError: this strategy knows no groups.
        """
        if groups == 1:
            return self.strategy(n)
        function, _ = parts(self.strategy)
        known = signature(function).parameters
        if "groups" not in known:
            raise UserError(
                f"search={function.__name__} gives all parameters one alpha; leave search/groups "
                "out, or search with nelder_mead, cma_es or dirichlet."
            )
        further = {"depths": depths} if "depths" in known else {}
        return self.strategy(n, groups=groups, **further)

    def check(self, n: int) -> None:
        """Check a strategy for n experts before anything is scored.

        Raises:
            UserError: it refuses its settings, is no generator, or does not begin with what every
                search scores first.
        """
        request, wanted = self._opening(n), n if self.groups is None else (GROUPS, n)
        shape = request.shape if isinstance(request, Opening) else request
        if isinstance(shape, np.ndarray):
            alphas: Alphas = np.asarray(shape, np.float64) + 0.0
            first = {alpha.tobytes() for alpha in alphas}
            every = initial_alphas(n, 1 if self.groups is None else GROUPS)
            if all(alpha.tobytes() in first for alpha in every):
                return
            shape = f"alphas of the shape {alphas.shape}"
        if shape != wanted:
            raise UserError(
                f"search={self.name} asks for {shape} first; a strategy begins with `evaluations "
                "= yield n`, which asks for the n experts and their average (with groups, `yield "
                "groups, n`)."
            )

    def reads_options(self, n: int) -> bool:
        """Whether the strategy reads every option's log-likelihood."""
        opening = self._opening(n)
        return isinstance(opening, Opening) and opening.options

    def needs_answers(self, n: int) -> str | None:
        """The setting that needs the answers behind a score, if any does."""
        wanted = {
            "search.folds=": self.folds is not None,
            "search.screen=": self.screen is not None,
            f"search={self.name}": self.reads_options(n),
        }
        return next((name for name, needs in wanted.items() if needs), None)

    def _opening(self, n: int) -> object:
        """What the strategy asks for first."""
        strategy = self(n) if self.groups is None else self(n, groups=GROUPS, depths=(0.0, 1.0))
        if not hasattr(strategy, "send"):  # whoever wrote it may use no type checker
            raise UserError(
                f"search={self.name} gives a {type(strategy).__name__} where a generator is "
                "needed; write `evaluations = yield n` in it."
            )
        return next(strategy, None)

    @property
    def name(self) -> str:
        """The strategy's."""
        return parts(self.strategy)[0].__name__

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that candidates are scored in."""
        return ("fp32",) if self.screen is None else ("fp32", "bf16")

    def settings(self) -> Mapping[str, Plain]:
        """What decides the trials."""
        return {
            "strategy": describe(self.strategy),
            "groups": None if self.groups is None else describe(self.groups),
            "screen": self.screen,
            "folds": self.folds,
            "objective": self.objective,
            "ties": self.ties,
            "shrinkage": self.shrinkage,
        }

    def evaluations(self, n: int) -> int | None:
        """The evaluation cap of a search over n experts, where there is one."""
        function, keywords = parts(self.strategy)
        known = signature(function).parameters
        if "evaluations" not in known:
            return None
        together = function is parallel_nelder_mead
        default = parallel_evaluations(n) if together else default_evaluations(n)
        given = keywords.get("evaluations", known["evaluations"].default)
        return given if isinstance(given, int) else default

    @property
    def is_sloped(self) -> bool:
        """Whether it is a cone with a slope over the depth of groups."""
        _, arguments = parts(self.strategy)
        return self._is_cone and bool(arguments.get("slope"))

    @property
    def _is_cone(self) -> bool:
        return parts(self.strategy)[0] is cone

    @property
    def is_uniform(self) -> bool:
        """Whether the average is the result whatever the scores are: it needs no evaluation."""
        return parts(self.strategy)[0] is uniform
