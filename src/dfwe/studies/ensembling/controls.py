"""Controls: other ways to spend what DFWE spends (`conf/experiment/controls.yaml`).

Each takes the plan and gives the step whose weights contend. What a plan or another control makes
already is that very step, so nothing is trained twice.
"""

from dataclasses import replace
from functools import partial
from math import ceil

from dfwe.errors import UserError
from dfwe.pipeline.deferred import parts
from dfwe.pipeline.step import Step
from dfwe.search import baselines
from dfwe.search.config import Search, StrategyFunction
from dfwe.settings import Count, Points, Whole
from dfwe.stages.evaluate import Vote
from dfwe.stages.interpolate import Interpolate
from dfwe.stages.merge import Base, Merge, MergeRule, average
from dfwe.stages.train import Train
from dfwe.studies.ensembling.plan import Plan

APART = 1000  # between the seeds of one study's runs: the studies of seeds 0, 1, ... share none


def longer(plan: Plan) -> Step:
    """Fine-tuning alone, for the epochs of both stages and without stopping early."""
    training = plan.study.training
    return replace(
        plan.experts[0],
        label="longer",
        training=replace(training, epochs=2 * training.epochs, patience=None),
    )


def seeds(plan: Plan, strategy: StrategyFunction | None = None) -> Step:
    """n + 2 runs on the target alone, through both stages; then the study's search, or another."""
    runs = [once(plan, number) for number in range(len(plan.experts))]
    tuned = [replace(run, stage="finetune", start=run, head=None) for run in runs]
    return _search(plan, "seeds", tuple(tuned), strategy)


def best_of(plan: Plan, at_most: Count | None = None) -> Step:
    """The best on dev of as many fine-tunings as read and teach the text that DFWE's experts do.

    Text counts by the characters of inputs and targets, a stand-in for tokens: a plan knows no
    tokenizer. What does not fit a model's input is counted too.
    """
    study = plan.study
    alone, *sources = (
        sum(len(e.source) + len(e.target) for e in task.examples(study.corpus, "train"))
        for task in (study.task, *study.sources)
    )
    n = len(sources)
    # S* is {t}, {t} u S, s1, ..., sn; the second stage is n + 2 times {t}.
    k = ceil((2 * alone + 2 * sum(sources) + (n + 2) * alone) / alone)
    runs = tuple(once(plan, number) for number in range(min(k, at_most or k)))
    return _search(plan, f"best of {len(runs)}", runs, baselines.single_experts)


def joint(plan: Plan) -> Step:
    """One multi-task training on the target and its sources."""
    return plan.experts[1]


def fusing(plan: Plan) -> Step:
    """The experts' average, fine-tuned on the target (Choshen et al. 2022)."""
    merge = Merge("experts", "fused", plan.study.group, plan.experts, base(plan), average)
    return replace(plan.experts[0], stage="finetune", label="fusing", start=merge)


def soup(plan: Plan, strategy: StrategyFunction) -> Step:
    """Another strategy over the fine-tuned experts of DFWE."""
    return _search(plan, strategy_name(strategy), plan.finetuned, strategy)


def random(plan: Plan, seed: Whole = 0) -> Step:
    """Random search with as many evaluations as the study's search may make."""
    evaluations = plan.study.search.evaluations
    if evaluations is None:
        raise UserError(
            "The control `random` needs a search with a cap on its evaluations; set "
            "search.strategy.evaluations, or leave the control out."
        )
    drawn = partial(baselines.dirichlet, evaluations=evaluations, seed=seed)
    step = _search(plan, strategy_name(drawn), plan.finetuned, drawn)
    return replace(step, search=replace(step.search, groups=plan.study.search.groups))


def by_likelihood(plan: Plan) -> Step:
    """The study's search by dev's log-likelihood in place of its metric."""
    plain = _search(plan, "by likelihood", plan.finetuned, None)
    return replace(plain, search=replace(plain.search, objective="log_likelihood"))


def whole_dev(plan: Plan) -> Step:
    """The study's search on the whole dev split where the study has few shots of it: no control
    on equal terms, it tells what the size of dev costs."""
    return replace(
        _search(plan, "whole dev", plan.finetuned, None), corpus=plan.study.corpus.whole()
    )


def ratatouille(plan: Plan) -> Step:
    """The uniform average of the fine-tuned sources (Rame et al. 2022)."""
    return _search(plan, "ratatouille", plan.finetuned[2:], baselines.uniform)


def wise_ft(plan: Plan, points: Points = 11) -> Step:
    """The best of the line from the base to fine-tuning alone (Wortsman et al. 2021)."""
    return _line(plan, "wise-ft", plan.experts[0], points)


def merged(plan: Plan, rule: MergeRule, points: Points = 11) -> Step:
    """A merge of the fine-tuned experts' task vectors, its scale chosen on dev.

    All of `dfwe.weights.merge` are linear in the scale: the line from the base to scale 1.
    """
    name = parts(rule)[0].__name__
    merge = Merge("interpolate", name, plan.study.group, plan.finetuned, base(plan), rule)
    return _line(plan, name, merge, points)


def vote(plan: Plan) -> Step:
    """The fine-tuned experts' most frequent answer: n + 2 models at a time."""
    return Vote(plan.evaluation)


def landscape(plan: Plan, points: Points = 9) -> Step:
    """Dev scores on a lattice over the last three fine-tuned experts, the sources where there are
    three; its edges are the lines between them."""
    return _search(
        plan, "landscape", plan.finetuned[-3:], partial(baselines.lattice, points=points)
    )


def once(plan: Plan, number: int) -> Train:
    """Fine-tuning alone once more: other order and dropout, the same fresh head."""
    first = plan.experts[0]
    if number == 0:
        return first
    return replace(
        first, label=f"{first.label} {number}", seed=first.seed + APART * number, head=first.seed
    )


def base(plan: Plan) -> Base:
    """theta_0."""
    study = plan.study
    return Base(study.group, study.task, study.corpus, study.model, study.seed, plan.pretraining)


def strategy_name(strategy: StrategyFunction) -> str:
    return parts(strategy)[0].__name__.replace("_", " ")


def _search(
    plan: Plan, label: str, models: tuple[Step, ...], strategy: StrategyFunction | None
) -> Interpolate:
    # Folds measure the search of the study alone; they change no model.
    search = replace(plan.study.search, folds=None) if strategy is None else Search(strategy)
    return replace(
        plan.interpolation, label=f"{plan.study.task.name}, {label}", experts=models, search=search
    )


def _line(plan: Plan, label: str, end: Step, points: int) -> Interpolate:
    strategy = partial(baselines.line, start=0, end=1, points=points)
    return _search(plan, label, (base(plan), end), strategy)
