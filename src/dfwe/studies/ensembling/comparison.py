"""The comparison on test: every contender's score, its gain with an interval, and its cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dfwe.pipeline.executor import Step
from dfwe.pipeline.store import Store
from dfwe.search.baselines import uniform
from dfwe.stages.evaluate import ANSWERS, read_answers
from dfwe.stages.interpolate import Interpolate
from dfwe.statistics.bootstrap import interval, over_seeds, replicates
from dfwe.studies.ensembling.plan import Contender, Plan, lineage

BACKWARD, FORWARD = 6, 2  # FLOPs a parameter and token (Kaplan et al. 2020), an upper estimate
PARTS = {  # what the gain is made of: from one contender to the next
    "averaging": ("baseline", "seeds_uniform"),
    "transfer": ("seeds_uniform", "uniform"),
    "tuning of alpha": ("uniform", "dfwe"),
}

CHOICES = ("uniform", "one_standard_error")  # of a search, beside the best


@dataclass(frozen=True)
class Entry:
    """A contender of one study, measured.

    Args:
        dev, test: points; dev is None for a vote.
        draws: the test score's bootstrap replicates, (draws,); None where no answers were kept.
        cost: seconds, tokens, flops, evaluations, as if it alone were made.
    """

    name: str
    dev: float | None
    test: float
    draws: NDArray[np.float64] | None
    cost: Mapping[str, float | None]


def entries(plan: Plan, store: Store) -> dict[str, Entry]:
    """Contender -> what the store holds of it; without those not scored on test yet."""
    return {
        contender.name: _entry(contender, plan, store)
        for contender in plan.contenders
        if contender.tested.recipe in store
        and contender.role in store.scores(contender.tested.recipe)["test"]
    }


def gain(
    over: Sequence[Entry], under: Sequence[Entry]
) -> tuple[float, tuple[float, float] | None]:
    """The mean over seeds of test(over) - test(under), and its 95 % interval.

    The paired bootstrap draws dialogues and, with several seeds, seeds.
    """
    mean = float(np.mean([x.test - y.test for x, y in zip(over, under, strict=True)]))
    draws = gain_draws(over, under)
    return mean, None if draws is None else interval(draws)


def gain_draws(
    over: Sequence[Entry], under: Sequence[Entry], seed: int = 0
) -> NDArray[np.float64] | None:
    """The gain's replicates, (draws,); None where a run kept no answers. `seed` draws seeds."""
    rows = [
        x.draws - y.draws
        for x, y in zip(over, under, strict=True)
        if x.draws is not None and y.draws is not None
    ]
    return over_seeds(np.stack(rows), seed) if len(rows) == len(over) else None


def parts(found: Sequence[Mapping[str, Entry]]) -> dict[str, dict[str, Any]] | None:
    """The gain of DFWE over fine-tuning, split; None without the control it needs.

    Averaging is what the uniform average of as many runs on the target alone gains, transfer what
    the average of experts from different sources gains over that one, and the rest is the search.
    """
    if not all("seeds_uniform" in row for row in found):
        return None
    split = {}
    for name, (under, over) in PARTS.items():
        mean, span = gain([row[over] for row in found], [row[under] for row in found])
        split[name] = {"delta": mean, "interval": span}
    return split


def described(found: Mapping[str, Entry]) -> list[dict[str, Any]]:
    """The entries as plain data, with their gain over fine-tuning alone."""
    base = found["baseline"]
    rows = []
    for name, entry in found.items():
        delta, span = gain([entry], [base])
        rows.append(
            {
                "name": name,
                "dev": entry.dev,
                "test": entry.test,
                "delta": delta,
                "interval": span,
                **entry.cost,
            }
        )
    return rows


def _entry(contender: Contender, plan: Plan, store: Store) -> Entry:
    tested, name = contender.tested, contender.role
    scores = store.scores(tested.recipe)["test"][name]
    texts = read_answers(store.folder(tested.recipe) / ANSWERS).get(name)
    evaluation = plan.evaluation
    draws = None if texts is None else replicates(evaluation.task, texts, evaluation.examples)
    made = store.scores(contender.made.recipe)
    dev = (made[name] if name in CHOICES else made).get("dev")
    cost = _cost(contender, plan, store)
    return Entry(contender.name, dev and dev["score"], scores["score"], draws, cost)


def _cost(contender: Contender, plan: Plan, store: Store) -> dict[str, float | None]:
    """Of its whole lineage: training and search, the test split left out."""
    steps: dict[str, Step] = {}
    for step in lineage(contender.made):
        if step.stage not in ("evaluate", "pretrain") and not _plain_average(step):
            steps[step.recipe.address] = step
    if contender.role == "uniform" or contender.made.stage == "evaluate":  # need no search
        steps.pop(plan.interpolation.recipe.address, None)
    measured = [(step, store.scores(step.recipe)) for step in steps.values()]
    trained = [scores for _, scores in measured if "epochs" in scores]
    searched = [scores for _, scores in measured if "evaluations" in scores]
    evaluations = sum(scores["evaluations"] for scores in searched)
    return {
        "seconds": sum(scores.get("seconds", 0.0) for _, scores in measured),
        "evaluations": evaluations,
        "tokens": _sum(scores.get("tokens") for scores in (*trained, *searched)),
        "flops": _sum(
            scale * scores["tokens"] * scores["parameters"] if "tokens" in scores else None
            for scale, group in ((BACKWARD, trained), (FORWARD, searched))
            for scores in group
        ),
    }


def _plain_average(step: Step) -> bool:
    """Whether it is a search that settles on the average whatever it scores: it needs none."""
    return isinstance(step, Interpolate) and step.search.settings()["name"] == uniform.__name__


def _sum(values: Any) -> float | None:
    """None where a value is not known."""
    known = list(values)
    return None if None in known else sum(known)
