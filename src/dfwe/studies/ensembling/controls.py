"""Controls: other ways to spend what DFWE spends (`conf/controls/`).

Each takes the plan and gives the step whose weights contend; None where it does not apply, as one
that trains does not to checkpoints that a person brings. What a plan or another control computes
already is that very step, so nothing is trained twice.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial, wraps
from math import ceil
from typing import Concatenate, ParamSpec

from dfwe.errors import UserError
from dfwe.pipeline.deferred import parts
from dfwe.pipeline.step import Step
from dfwe.scoring.decoding import Likelihood
from dfwe.search import baselines
from dfwe.search.config import Search, StrategyFunction
from dfwe.settings import Count, Folds, Points, Positive, Whole
from dfwe.stages.evaluate import Test, Vote
from dfwe.stages.import_checkpoint import ImportBase
from dfwe.stages.interpolate import Interpolate
from dfwe.stages.k_fold import k_folds
from dfwe.stages.merge import Merge, MergeCheckpoints, MergeRule, average
from dfwe.stages.probe import Probe
from dfwe.stages.train import Train
from dfwe.studies.ensembling.plan import APART, Plan
from dfwe.tasks.answers import Labels
from dfwe.tasks.pooled import PooledTask, label_names

Settings = ParamSpec("Settings")


def trains(
    control: Callable[Concatenate[Plan, Settings], Step | None],
) -> Callable[Concatenate[Plan, Settings], Step | None]:
    """A control that trains, which does not apply to checkpoints that a person brings."""

    @wraps(control)
    def applied(plan: Plan, *values: Settings.args, **named: Settings.kwargs) -> Step | None:
        return None if plan.study.checkpoints else control(plan, *values, **named)

    return applied


@trains
def longer(plan: Plan) -> Step:
    """Fine-tuning alone, for the epochs of both stages and without stopping early."""
    return plan.longer


@trains
def seeds(plan: Plan, strategy: StrategyFunction | None = None) -> Step:
    """n + 2 runs on the target alone, through both stages; then the study's search, or another."""
    runs = [once(plan.experts[0], number) for number in range(len(plan.experts))]
    tuned = [replace(run, stage="finetune", start=run, head=None) for run in runs]
    return _search(plan, "seeds", tuple(tuned), strategy)


@trains
def best_of(plan: Plan, at_most: Count | None = None) -> Step:
    """The best on dev of as many long runs as read and teach the text that DFWE's experts do.

    A long run is fine-tuning alone for the epochs of both stages, as in `longer`. Text counts by
    the characters of inputs and targets, a stand-in for tokens: a plan knows no tokenizer. What
    does not fit a model's input is counted too.
    """
    study = plan.study
    alone, *sources = (
        sum(len(e.source) + len(e.target) for e in task.examples(study.corpus, "train"))
        for task in (study.task, *study.sources)
    )
    n = len(sources)
    # S* is {t}, {t} u S, s1, ..., sn; the second stage is n + 2 times {t}.
    k = ceil((2 * alone + 2 * sum(sources) + (n + 2) * alone) / (2 * alone))
    first = plan.longer
    runs = tuple(once(first, number) for number in range(min(k, at_most or k)))
    return _search(plan, f"best of {len(runs)}", runs, baselines.single_experts)


@trains
def joint(plan: Plan) -> Step:
    """One multi-task training on the target and its sources.

    Tasks may have one prompt, so that a generated answer may be another task's label: where the
    target offers options, the likeliest of them is the answer.
    """
    study, trained = plan.study, plan.experts[1]
    options = study.task.examples(study.corpus, "train")[0].options
    generates = study.model.family in Likelihood.families
    if not options or not generates or isinstance(study.decoding, Likelihood):
        return trained
    return Test(
        trained.label, study.group, trained, study.task, study.corpus, study.model, Likelihood()
    )


@trains
def joint_finetuned(plan: Plan) -> Step:
    """Multi-task training, then fine-tuning on the target: FETA's (Albalak et al. 2022)."""
    return plan.finetuned[1]


@trains
def probe(plan: Plan, with_dev: bool = False) -> Step | None:
    """Logistic regression on the frozen network's readout, its penalty by cross-validation.

    It does not apply where a model generates, or an example may have several labels.

    Args:
        plan: of the study.
        with_dev: whether dev's examples are learned from too; the search sees them.
    """
    study = plan.study
    several = isinstance(study.task.answer, Labels)
    return None if study.model.family != "encoder" or several else Probe(plan.base, with_dev)


@trains
def probe_then_finetune(plan: Plan) -> Step | None:
    """The probe, then fine-tuning on the target: Ratatouille's start (Rame et al. 2022)."""
    start = probe(plan)
    return start and replace(
        plan.experts[0], stage="finetune", label="probe, fine-tuned", start=start
    )


@trains
def best_source(plan: Plan) -> Step:
    """One source, then the target: the best of these on dev."""
    return _search(plan, "best source", plan.finetuned[2:], baselines.single_experts)


@trains
def pooled(plan: Plan) -> Step | None:
    """Target and the sources with the same label names as one task, then fine-tuning.

    It does not apply where no source has the target's label names.
    """
    study = plan.study
    names = label_names(study.task, study.corpus)
    alike = [task for task in study.sources if label_names(task, study.corpus) == names]
    if not names or not alike:
        return None
    task = PooledTask.of(study.task, alike)
    start = replace(plan.experts[0], label="pooled", tasks=(task,))
    return replace(start, stage="finetune", tasks=plan.experts[0].tasks, start=start)


@trains
def fusing(plan: Plan) -> Step:
    """The experts' average, fine-tuned on the target (Choshen et al. 2022)."""
    merge = Merge("experts", "fused", plan.study.group, plan.experts, plan.base, average)
    return replace(plan.experts[0], stage="finetune", label="fusing", start=merge)


def soup(plan: Plan, strategy: StrategyFunction) -> Step:
    """Another strategy over the fine-tuned experts of DFWE."""
    return _search(plan, strategy_name(strategy), plan.finetuned, strategy)


def random(plan: Plan, seed: Whole = 0) -> Step:
    """Random search with as many evaluations as the study's search may make."""
    evaluations = plan.study.search.evaluations(len(plan.finetuned))
    if evaluations is None:
        raise UserError(
            "The control `random` needs a search with a cap on its evaluations; set "
            "search.strategy.evaluations, or leave the control out."
        )
    drawn = partial(baselines.dirichlet, evaluations=evaluations, seed=seed)
    step = _search(plan, strategy_name(drawn), plan.finetuned, drawn)
    return replace(step, search=replace(step.search, groups=plan.study.search.groups))


def by_likelihood(plan: Plan) -> Step | None:
    """The study's search by dev's log-likelihood in place of its metric.

    It does not apply where a person's own score gives no answers.
    """
    if plan.study.score is not None:
        return None
    plain = _search(plan, "by likelihood", plan.finetuned, None)
    return replace(plain, search=replace(plain.search, objective="log_likelihood"))


def whole_dev(plan: Plan) -> Step | None:
    """The study's search on the whole dev split where the study has few shots of it: no control
    on equal terms, it tells what the size of dev costs."""
    if plan.study.score is not None:
        return None
    return replace(
        _search(plan, "whole dev", plan.finetuned, None), corpus=plan.study.corpus.whole()
    )


@trains
def ratatouille(plan: Plan) -> Step:
    """The uniform average of the fine-tuned sources (Rame et al. 2022)."""
    return _search(plan, "ratatouille", plan.finetuned[2:], baselines.uniform)


def wise_ft(plan: Plan, points: Points = 11) -> Step:
    """The best of the line from the base to fine-tuning alone (Wortsman et al. 2021)."""
    return _line(plan, "wise-ft", plan.baseline, points)


def merged(
    plan: Plan, rules: MergeRule | Sequence[MergeRule], end: Positive = 1.0, points: Points = 11
) -> Step:
    """A merge of the fine-tuned experts' task vectors, its scale, and its rule, chosen on dev.

    All of `dfwe.weights.merge` are linear in the scale: the line from the base to scale `end`,
    through the merge of scale 1, has every other.
    """
    every = (rules,) if callable(rules) else tuple(rules)
    name = parts(every[0])[0].__name__
    labels = [name] if len(every) == 1 else [f"{name} {k}" for k in range(1, len(every) + 1)]
    merges = tuple(_merge(plan, *one) for one in zip(labels, every, strict=True))
    strategy = partial(baselines.rays, end=end, points=points)
    return _search(plan, name, (plan.theta_0, *merges), strategy)


def vote(plan: Plan) -> Step | None:
    """The fine-tuned experts' most frequent answer: n + 2 models at a time.

    It does not apply where a person's own score gives no answers.
    """
    return Vote(plan.evaluation) if plan.evaluation.has_answers else None


@trains
def k_fold(plan: Plan, k: Folds = 3) -> Step:
    """DFWE with experts trained on train and dev; alpha by the answers of experts trained without
    each of k folds."""
    mixture = plan.interpolation
    return k_folds(replace(mixture, search=_own(mixture.search)), k)


def landscape(plan: Plan, points: Points = 9) -> Step:
    """Dev scores on a lattice over the last three fine-tuned experts, the sources where there are
    three; its edges are the lines between them."""
    return _search(
        plan, "landscape", plan.finetuned[-3:], partial(baselines.lattice, points=points)
    )


def once(first: Train, number: int) -> Train:
    """The same training once more: other order and dropout, the same fresh head."""
    if number == 0:
        return first
    return replace(
        first, label=f"{first.label} {number}", seed=first.seed + APART * number, head=first.seed
    )


def strategy_name(strategy: StrategyFunction) -> str:
    return parts(strategy)[0].__name__.replace("_", " ")


def _merge(plan: Plan, label: str, rule: MergeRule) -> Step:
    group, base = plan.study.group, plan.theta_0
    if isinstance(base, ImportBase):
        return MergeCheckpoints(label, group, plan.finetuned, base, rule)
    return Merge("interpolate", label, group, plan.finetuned, base, rule)


def _search(
    plan: Plan, label: str, models: tuple[Step, ...], strategy: StrategyFunction | None
) -> Interpolate:
    search = _own(plan.study.search) if strategy is None else Search(strategy)
    return replace(
        plan.interpolation,
        label=f"{plan.study.measured_by}, {label}",
        experts=models,
        search=search,
    )


def _own(search: Search) -> Search:
    """The study's search as a control has it: folds that only measure are the study's alone."""
    return search if search.shrinkage else replace(search, folds=None)


def _line(plan: Plan, label: str, end: Step, points: int) -> Interpolate:
    strategy = partial(baselines.rays, points=points)
    return _search(plan, label, (plan.theta_0, end), strategy)
