"""The report's tables: Table 2, the controls, what the gain consists of."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from dfwe.pipeline.step import Step
from dfwe.reporting.results import KFoldResult
from dfwe.reporting.table import Table
from dfwe.reporting.terminal import DASH, bounds, clock, points, shown
from dfwe.stages.interpolate import Interpolate, SearchRecord
from dfwe.stages.selection import SelectionRecord
from dfwe.statistics.bootstrap import ONE_DIALOGUE, Difference, holm
from dfwe.studies.ensembling.comparison import PARTS, Entry, gain, parts
from dfwe.studies.ensembling.out_of_fold import k_fold_results
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.runs import Runs, average, average_gain


def table2(
    runs: Runs, published: Mapping[str, Mapping[str, float]], published_note: str = ""
) -> Table:
    """A row a task: fine-tuning, DFWE, the gain and what it cost; then the mean over tasks."""
    columns = [
        "task",
        "seeds",
        "majority",
        "fine-tuning",
        "DFWE",
        "delta",
        "95 % interval",
        "wins",
        "optimism",
        "evaluations",
        "seconds",
        "tokens",
        "FLOPs",
        "published fine-tuning",
        "published DFWE",
        "published delta",
    ]
    tasks = list(runs.finished)
    rows: list[list[str]] = []
    common = {task: majority(group[0][0]) for task, group in runs.finished.items()}
    for task in tasks:
        base, mixed = runs.of(task, "baseline"), runs.of(task, "dfwe")
        gained = gain([(mixed, base)])
        rows.append(
            [
                task,
                str(len(base)),
                points(common[task]),
                _spread(base),
                _spread(mixed),
                f"{gained.mean:+.2f}",
                bounds(gained.interval),
                _wins(runs, [task], "baseline"),
                _optimism(mixed),
                *_costs(mixed, base),
                *_published([published.get(task)]),
            ]
        )
    base, mixed = average(runs, tasks, "baseline"), average(runs, tasks, "dfwe")
    gained = average_gain(runs, tasks, "dfwe", "baseline")
    rows.append(
        [
            "mean",
            "",
            points(float(np.mean(list(common.values())))),
            points(base),
            points(mixed),
            f"{gained.mean:+.2f}",
            bounds(gained.interval),
            _wins(runs, tasks, "baseline"),
            "",
            "",
            "",
            "",
            "",
            *_published([published.get(task) for task in tasks]),
        ]
    )
    note = (
        f"FETA's submission score (delta + baseline / 10): {gained.mean + base / 10:.2f}. Mean ± "
        f"standard deviation over seeds; {_intervals(gained)}. Optimism is dev minus test of "
        "DFWE. Costs are a DFWE run's, in brackets as multiples of fine-tuning's; FLOPs are "
        "estimates (6 a parameter and token trained, 2 scored)."
    )
    note += _marked(runs, ["dfwe"])
    if published_note and any(task in published for task in tasks):
        note = f"{note} {published_note}"
    kept = [k for k in range(len(columns)) if any(row[k] not in (DASH, "") for row in rows)]
    cells = [[row[k] for k in kept] for row in rows]
    brief = ("task", "fine-tuning", "DFWE", "delta", "95 % interval", "wins")
    return Table(
        "Table 2", [columns[k] for k in kept], cells, last=1, note=note, name="table2", brief=brief
    )


def comparison(runs: Runs, hypotheses: Sequence[str] = ()) -> Table:
    """DFWE and every control, each over the tasks that have it.

    Args:
        runs: of the tasks and seeds.
        hypotheses: the methods over which a gain of DFWE was expected beforehand; p-values are
            adjusted among these, and among all others apart.
    """
    columns = [
        "model",
        "tasks",
        "test",
        "over fine-tuning",
        "95 % interval",
        "DFWE over it",
        "95 % interval ",
        "p",
        "visible from",
        "DFWE wins",
        "seconds",
        "tokens",
        "FLOPs",
    ]
    rows: list[list[str]] = []
    over: dict[str, Difference] = {}
    for name in (name for name in runs.names if name != "dfwe"):
        tasks = [task for task in runs.finished if runs.of(task, name)]
        over[name] = average_gain(runs, tasks, "dfwe", name)
    adjusted = _adjusted(over, hypotheses)
    for name in runs.names:
        tasks = [task for task in runs.finished if runs.of(task, name)]
        # Its mean is not of the same tasks as the others'.
        few = (
            f" ({len(tasks)} of {len(runs.finished)} tasks)"
            if len(tasks) < len(runs.finished)
            else ""
        )
        wins = "" if name == "dfwe" else _wins(runs, tasks, name)
        costs = [entry.cost for task in tasks for entry in runs.of(task, name)]
        rows.append(
            [
                shown(name) + few,
                str(len(tasks)),
                points(average(runs, tasks, name)),
                *_gain(
                    None if name == "baseline" else average_gain(runs, tasks, name, "baseline")
                ),
                *_gain(over.get(name)),
                adjusted.get(name, ""),
                points(over[name].visible) if name in over else "",
                wins,
                clock(_mean([cost.seconds for cost in costs])),
                _number(_mean([cost.tokens for cost in costs])),
                _number(_mean([cost.flops for cost in costs])),
            ]
        )
    named = [shown(name) for name in hypotheses if name in over]
    note = (
        f"Means over tasks and seeds; {_intervals(over['baseline'])}. p: of no difference to "
        f"DFWE, adjusted by Holm's method{_apart(named)}. Visible from: the smallest "
        "true difference that is told from 0 in 80 of 100 cases. Costs are a run's, as if it "
        "alone were computed."
    )
    note += _marked(runs, runs.names)
    brief = ("model", "test", "over fine-tuning", "DFWE over it", "95 % interval ")
    return Table("DFWE and the controls", columns, rows, note=note, name="controls", brief=brief)


def _marked(runs: Runs, names: Sequence[str]) -> str:
    """A sentence on searches that had candidates without a score, or were resumed anyway."""
    found: dict[Step, str] = {}
    for task, group in runs.finished.items():
        for plan, _ in group:
            for method in plan.methods:
                step = method.step
                if method.name not in names or not isinstance(step, Interpolate):
                    continue
                if step.recipe not in runs.store:  # only the test's result is left
                    continue
                record = runs.store.record(step.recipe, SearchRecord)
                if record.all_failed or record.remeasured:
                    found.setdefault(
                        step, f"{shown(method.name)} on {task}, seed {plan.study.seed}"
                    )
    if not found:
        return ""
    return (
        " Some candidates could not be scored and count as the worst, or scored otherwise where "
        f"the search was resumed: {'; '.join(found.values())}."
    )


def _intervals(gained: Difference) -> str:
    """How an interval was computed, or why there is none."""
    if gained.interval is None:
        return ONE_DIALOGUE
    if gained.given_models:
        return (
            "intervals are given these models, by the paired bootstrap over dialogues: one seed "
            "says nothing of others"
        )
    return (
        "intervals are over seeds and dialogues, by Student's t for fewer than ten seeds and by "
        "the paired bootstrap from ten"
    )


def _adjusted(over: Mapping[str, Difference], hypotheses: Sequence[str]) -> dict[str, str]:
    """Method -> the p-value of no difference to DFWE, adjusted among the named or the others."""
    known = {name: gained.p for name, gained in over.items() if gained.p is not None}
    named = [name for name in known if name in hypotheses]
    others = [name for name in known if name not in hypotheses]
    return {
        name: f"{p:.3f}"
        for group in (named, others)
        for name, p in zip(group, holm([known[name] for name in group]), strict=True)
    }


def _apart(named: Sequence[str]) -> str:
    return f", {' and '.join(named)} (named beforehand) apart from the others" if named else ""


def split(runs: Runs) -> list[Table]:
    """What the gain consists of, a row a task; no sheet without the control it needs."""
    gains = {
        task: parts([entries for _, entries in group]) for task, group in runs.finished.items()
    }
    rows = [
        [
            task,
            *(
                cell
                for row in split.values()
                for cell in (f"{row.delta:+.2f}", bounds(row.interval))
            ),
        ]
        for task, split in gains.items()
        if split is not None
    ]
    note = (
        "Averaging: the uniform average of n + 2 runs on the target alone, over one run. "
        "Transfer: the uniform average of the experts over that. Tuning of alpha: the search "
        "over the uniform average."
    )
    columns = ["task", *(name for part in PARTS for name in (part, f"{part}, 95 %"))]
    sheet = Table(
        "What the gain consists of", columns, rows, note=note, name="parts", brief=["task", *PARTS]
    )
    return [sheet] if rows else []


def corrected(runs: Runs) -> list[Table]:
    """DFWE's gains on dialogues of dev that alpha was not chosen on, a row for each task."""
    rows: list[list[str]] = []
    for task, group in runs.finished.items():
        known = [_selection(runs, plan) for plan, _ in group]
        scores = [
            (row.score, one.gain, one.at_least, other.gain, other.at_least)
            for row in known
            if row is not None
            for one, other in [(row.over_uniform, row.over_best_expert)]
        ]
        if len(scores) == len(known):
            score, *gains = np.mean(scores, axis=0)
            rows.append([task, points(score), *(f"{gain:+.2f}" for gain in gains)])
    note = (
        "Each of 1,000 resamples of dev's dialogues chooses among the search's trials, and the "
        "choice is scored on the dialogues that the resample leaves out. At least: with 90 %. "
        "Means over seeds."
    )
    gains = ["over uniform", "at least", "over best expert", "at least "]
    columns = ["task", "corrected dev", *gains]
    sheet = Table("The choice of alpha, on dev", columns, rows, note=note, name="selection")
    return [sheet] if rows else []


def out_of_fold(runs: Runs) -> list[Table]:
    """What K-fold experts came to, a row for each task and control; no sheet without them."""
    found: dict[tuple[str, str], list[KFoldResult]] = {}
    for task, group in runs.finished.items():
        for plan, _ in group:
            for name, row in k_fold_results(plan, runs.store).items():
                found.setdefault((task, name), []).append(row)
    rows = [
        [
            task,
            shown(name),
            str(len(group)),
            points(_mean([row.out_of_fold for row in group])),
            points(_mean([row.test for row in group])),
            DASH
            if (rank := _mean([row.rank_correlation for row in group])) is None
            else f"{rank:+.2f}",
        ]
        for (task, name), group in found.items()
    ]
    note = (
        "Out of fold: the mixture's score on train and dev, each fold answered by experts trained "
        "without it. Test: of the same mixture of experts trained on all folds. Rank correlation: "
        "Spearman's, of the single experts' scores out of fold and on test. Means over seeds."
    )
    columns = ["task", "model", "seeds", "out of fold", "test", "rank correlation"]
    sheet = Table("K-fold experts", columns, rows, note=note, name="k_fold")
    return [sheet] if rows else []


def majority(plan: Plan) -> float:
    """The test score of always giving the most frequent training answer."""
    task, corpus = plan.study.task, plan.study.corpus
    answers = Counter(example.target for example in task.examples(corpus, "train"))
    test = task.examples(corpus, "test")
    return task.score([answers.most_common(1)[0][0]] * len(test), test)["score"]


def _selection(runs: Runs, plan: Plan) -> SelectionRecord | None:
    """None for a search without one, and where only the test's result is still in the store."""
    recipe = plan.interpolation.recipe
    return runs.store.record(recipe, SearchRecord).selection if recipe in runs.store else None


def _spread(entries: Sequence[Entry]) -> str:
    """The mean over seeds and its standard deviation."""
    scores = [entry.test for entry in entries]
    spread = f" ± {np.std(scores, ddof=1):.2f}" if len(scores) > 1 else ""
    return points(float(np.mean(scores))) + spread


def _gain(gained: Difference | None) -> tuple[str, str]:
    """A gain and its interval; blank for a model over itself."""
    return ("", "") if gained is None else (f"{gained.mean:+.2f}", bounds(gained.interval))


def _wins(runs: Runs, tasks: Sequence[str], name: str) -> str:
    """How often DFWE is better on test than the contender."""
    pairs = [zip(runs.of(task, "dfwe"), runs.of(task, name), strict=True) for task in tasks]
    won = [mixed.test > other.test for group in pairs for mixed, other in group]
    return f"{sum(won)}/{len(won)}"


def _optimism(entries: Sequence[Entry]) -> str:
    """The mean over seeds of dev minus test."""
    gaps = [entry.dev - entry.test for entry in entries if entry.dev is not None]
    return f"{np.mean(gaps):+.2f}"


def _costs(entries: Sequence[Entry], base: Sequence[Entry]) -> tuple[str, str, str, str]:
    """Evaluations, seconds, tokens and FLOPs, the middle two beside their multiples of `base`."""
    mixed, tuned = [e.cost for e in entries], [e.cost for e in base]
    seconds = _mean([cost.seconds for cost in mixed])
    tokens = _mean([cost.tokens for cost in mixed])
    return (
        _number(_mean([cost.evaluations for cost in mixed]), "{:.0f}"),
        clock(seconds) + _multiple(seconds, _mean([cost.seconds for cost in tuned])),
        _number(tokens) + _multiple(tokens, _mean([cost.tokens for cost in tuned])),
        _number(_mean([cost.flops for cost in mixed])),
    )


def _multiple(value: float | None, base: float | None) -> str:
    """How many times `base` a cost is, in brackets; blank where one of them is 0 or unknown."""
    return f" (×{value / base:.0f})" if value and base else ""  # noqa: RUF001


def _mean(values: Sequence[float | None]) -> float | None:
    """None where a value is not known."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _number(value: float | None, form: str = "{:.1e}") -> str:
    return DASH if value is None else form.format(value)


def _published(rows: Sequence[Mapping[str, float] | None]) -> list[str]:
    """The paper's means over the tasks; dashes where it lacks one."""
    known = [row for row in rows if row is not None]
    if len(known) < len(rows):
        return [DASH] * 3
    tuned, mixed = (float(np.mean([row[key] for row in known])) for key in ("baseline", "dfwe"))
    return [points(tuned), points(mixed), f"{mixed - tuned:+.2f}"]
