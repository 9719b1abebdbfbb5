"""Gradient-free search over the simplex: strategies, the loop that scores them, the ledger."""

from dfwe.search.baselines import (
    coordinate,
    dirichlet,
    dirichlet_nelder_mead,
    greedy_soup,
    lattice,
    line,
    rays,
    single_experts,
    uniform,
)
from dfwe.search.cma_es import cma_es
from dfwe.search.evaluation import Answers, Evaluation, Evaluations, OptionScore, Trial
from dfwe.search.gaussian_process import gaussian_process
from dfwe.search.ledger import Ledger
from dfwe.search.loop import Result, search
from dfwe.search.nelder_mead import cone, nelder_mead, parallel_nelder_mead
from dfwe.search.simplex import Opening, Outcome, Strategy
from dfwe.search.surrogate import surrogate

__all__ = [
    "Answers",
    "Evaluation",
    "Evaluations",
    "Ledger",
    "Opening",
    "OptionScore",
    "Outcome",
    "Result",
    "Strategy",
    "Trial",
    "cma_es",
    "cone",
    "coordinate",
    "dirichlet",
    "dirichlet_nelder_mead",
    "gaussian_process",
    "greedy_soup",
    "lattice",
    "line",
    "nelder_mead",
    "parallel_nelder_mead",
    "rays",
    "search",
    "single_experts",
    "surrogate",
    "uniform",
]
