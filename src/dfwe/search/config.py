"""What `conf/search/*.yaml` declares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

from dfwe.errors import UserError, check_choice, check_number, check_whole
from dfwe.search.loop import OBJECTIVES
from dfwe.search.simplex import Strategy

StrategyFunction = Callable[..., Strategy]  # n -> strategy; what conf/search/*.yaml names


@dataclass(frozen=True)
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
    """

    strategy: StrategyFunction
    groups: Callable[[str], str] | None = None
    screen: int | None = None
    folds: int | None = None
    objective: str = "score"

    def __post_init__(self) -> None:
        function, keywords = _parts(self.strategy)
        try:  # now, not after hours of training
            signature(function).bind(2, **keywords)
        except TypeError as error:
            raise TypeError(f"{function.__name__}() {error}") from None
        kinds = {name: known.annotation for name, known in signature(function).parameters.items()}
        for name, value in keywords.items():
            kind = kinds.get(name)
            if kind is int or (kind == int | None and value is not None):
                check_whole(f"search.strategy.{name}", value)
            elif kind is float:
                check_number(f"search.strategy.{name}", value)
        if self.screen is not None:  # so many are scored again in float32
            check_whole("search.screen", self.screen, 1)
        if self.folds is not None:  # one is held out, the others are searched on
            check_whole("search.folds", self.folds, 2)
        check_choice("search.objective", self.objective, OBJECTIVES)
        if self.groups is not None and not callable(self.groups):
            raise UserError(
                f"search.groups={self.groups} is no choice of groups; write "
                "search/groups=part, block or none."
            )

    def __call__(self, n: int, groups: int = 1) -> Strategy:
        """The strategy for n experts and g groups.

        Raises:
            UserError: this strategy knows no groups.
        """
        if groups == 1:
            return self.strategy(n)
        if "groups" not in signature(self.strategy).parameters:
            raise UserError(
                f"search={_described(self.strategy)['name']} gives all parameters "
                "one alpha; leave search/groups out, or search with nelder_mead, "
                "cma_es or dirichlet."
            )
        return self.strategy(n, groups=groups)

    def check(self, n: int) -> None:
        """Raise UserError for what the strategy refuses; it refuses before anything is scored."""
        next(self(n, groups=1 if self.groups is None else 2))

    def settings(self) -> dict[str, Any]:
        """What decides the trials: the strategy's name and keywords, and what else is set."""
        found = _described(self.strategy)
        if self.groups is not None:
            # Pairs, since the order of patterns counts and that of a recipe's keys does not.
            found["groups"] = {
                key: list(value.items()) if isinstance(value, Mapping) else value
                for key, value in _described(self.groups).items()
            }
        if self.screen is not None:
            found["screen"] = self.screen
        if self.folds is not None:
            found["folds"] = self.folds
        if self.objective != "score":
            found["by"] = self.objective
        return found

    @property
    def evaluations(self) -> int | None:
        """The evaluation cap, where there is one."""
        return self.settings().get("evaluations")


def _described(given: Callable[..., Any]) -> dict[str, Any]:
    function, keywords = _parts(given)
    return {"name": function.__name__, **keywords}


def _parts(given: Callable[..., Any]) -> tuple[Callable[..., Any], dict[str, Any]]:
    """A function and the keywords that a config has bound."""
    return (given.func, given.keywords) if isinstance(given, partial) else (given, {})
