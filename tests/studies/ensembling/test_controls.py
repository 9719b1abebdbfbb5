"""Controls on a toy study: what each is computed from, and that nothing is trained twice."""

import csv
import platform
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from typing import ClassVar

import browser
import numpy as np
import pytest
from lightning.pytorch.loggers.logger import DummyLogger

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.markup import markdown
from dfwe.pipeline.deferred import Deferred
from dfwe.pipeline.executor import Stage, execute, lineage
from dfwe.pipeline.run_log import log_result
from dfwe.pipeline.store import Store
from dfwe.search import baselines
from dfwe.search.config import Search
from dfwe.search.ledger import read_trials
from dfwe.stages.interpolate import TRIALS, Interpolate, SearchRecord
from dfwe.stages.train import Train, TrainRecord
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.comparison import entries, gain, parts
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.report import ReportSettings, report
from dfwe.studies.ensembling.runs import Runs
from dfwe.studies.ensembling.sweep import runs_in
from dfwe.studies.ensembling.tables import comparison, table2
from dfwe.weights import merge

pytestmark = pytest.mark.slow  # trains every control
ALL = Stage("all", ("experts", "finetune", "interpolate", "evaluate"))
EVERY = {
    "longer": controls.longer,
    "best_of_k": partial(controls.best_of, at_most=3),
    "seeds": controls.seeds,
    "seeds_uniform": partial(controls.seeds, strategy=baselines.uniform),
    "seeds_best": partial(controls.seeds, strategy=baselines.single_experts),
    "seeds_greedy": partial(controls.seeds, strategy=baselines.greedy_soup),
    "joint": controls.joint,
    "joint_finetuned": controls.joint_finetuned,
    "pooled": controls.pooled,
    "best_source": controls.best_source,
    "fusing": controls.fusing,
    "best_expert": partial(controls.soup, strategy=baselines.single_experts),
    "random": controls.random,
    "by_likelihood": controls.by_likelihood,
    "ratatouille": controls.ratatouille,
    "wise_ft": partial(controls.wise_ft, points=3),
    "task_arithmetic": partial(
        controls.merged, rules=partial(merge.task_arithmetic, scale=1.0), points=6
    ),
    "ties": partial(
        controls.merged,
        rules=(partial(merge.ties, density=0.1), partial(merge.ties, density=0.3)),
        end=2.5,
        points=6,
    ),
    "dare": partial(controls.merged, rules=partial(merge.dare, seed=0, scale=1.0), points=3),
    "vote": controls.vote,
}


class Recorder(DummyLogger):
    """A logger that records, by the name of each step, its result and its end."""

    events: ClassVar[dict[str, list[str]]] = {}

    def __init__(self, name, version):
        super().__init__()
        self.step = self.events.setdefault(f"{name}-{version}", [])

    def finalize(self, status):
        self.step.append(status)


@log_result.register
def _(logger: Recorder, recipe, folder, stored):
    logger.step.append(f"result {stored.kind}-{stored.address} in {folder.name}")


@pytest.fixture(scope="module")
def plan(make_study):
    landscapes = {"sources": partial(controls.landscape, points=3)}
    return Plan(make_study(controls=EVERY, landscapes=landscapes))


@pytest.fixture(scope="module")
def context(plan, module_context):
    recorder = Deferred(f"{Recorder.__module__}.Recorder")
    context = replace(module_context, loggers=(*module_context.loggers, recorder))
    execute(plan.steps, ALL, context)
    return context


@pytest.fixture(scope="module")
def steps_of_controls(plan, context):
    """The steps that the controls have beside DFWE's."""
    last = [step for method in plan.methods for step in (method.step, method.test)]
    steps = {step for end in last for step in lineage(end)} - set(lineage(plan.evaluation))
    kinds = {"base", "merge", "train", "interpolate", "test", "vote"}
    assert {step.kind for step in steps} == kinds
    return steps


@pytest.fixture(scope="module")
def measured(plan, context):
    return entries(plan, context.store)


def step(plan, name):
    return next(method.step for method in plan.methods if method.name == name)


def searched(plan, context, name):
    """The record and the trials of a searched control."""
    store, recipe = context.store, step(plan, name).recipe
    return store.record(recipe, SearchRecord), read_trials(store.folder(recipe) / TRIALS)


def trainings(plan):
    return [s for s in plan.steps if isinstance(s, Train)]


def test_every_step_of_a_control_is_stored_with_seconds_device_and_versions(
    steps_of_controls, context
):
    for step in steps_of_controls:
        where = context.store.provenance(step.recipe)
        assert 0 < where.seconds < 600
        assert where.device == "cpu"
        assert where.versions["python"] == platform.python_version()
        for library in ("torch", "transformers", "lightning", "numpy"):
            assert where.versions[library] == version(library)


def test_the_report_marks_searches_with_failed_candidates(plan, context, monkeypatch):
    runs = Runs(lambda task, seed: plan, ["mood"], [0], context.store)
    assert "could not be scored" not in table2(runs, {}).note + comparison(runs).note
    read = Store.record

    def with_failures(store, recipe, kind):
        record = read(store, recipe, kind)
        if recipe.name in failing:
            return record.model_copy(update={"failed": (7,)})
        return record

    failing = {plan.interpolation.recipe.name, step(plan, "random").recipe.name}
    monkeypatch.setattr(Store, "record", with_failures)
    assert "where the search was resumed: DFWE on mood, seed 0." in table2(runs, {}).note
    note = comparison(runs).note
    marked = note[note.index("where the search was resumed: ") :]
    assert marked.count("on mood, seed 0") == 2  # methods that share a search are named once
    assert "random on mood, seed 0" in marked


def test_every_step_of_a_control_is_logged_by_each_configured_logger(steps_of_controls, context):
    shown = {"train": "metrics.csv", "test": "test_scores.csv", "vote": "summary.json"}
    for step in steps_of_controls:
        name = step.recipe.name
        assert Recorder.events[name][-2:] == [f"result {name} in {name}", "success"]
        assert "failed" not in Recorder.events[name]
        folder = context.output / "csv" / name
        assert folder.is_dir()
        assert (folder / shown.get(step.kind, "")).exists()


def test_other_names_of_controls_change_no_address(plan, context, measured, caplog):
    names = {f"another {name}": build for name, build in EVERY.items()}
    renamed = Plan(replace(plan.study, controls=names))
    for method, other in zip(plan.methods, renamed.methods, strict=True):
        assert other.name in (method.name, f"another {method.name}")
        assert other.step.recipe.name == method.step.recipe.name
        assert other.test.recipe.name == method.test.recipe.name
    caplog.set_level("INFO")
    execute(renamed.steps, ALL, context)
    assert caplog.messages == ["Everything stage=all computes is in the store."]
    scores = {name: entry.test for name, entry in entries(renamed, context.store).items()}
    assert scores == {
        f"another {name}" if name in EVERY else name: entry.test
        for name, entry in measured.items()
    }


def test_every_search_records_alpha_by_member_and_its_winning_trial(plan, context):
    searches = [method.step for method in plan.methods if isinstance(method.step, Interpolate)]
    assert {len(search.experts) for search in searches} == {2, 3, 5}
    for search in searches:
        record = context.store.record(search.recipe, SearchRecord)
        trials = read_trials(context.store.folder(search.recipe) / TRIALS)
        assert record.members == tuple(range(len(search.recipe.parents)))
        assert trials[record.best].index == record.best
        assert trials[record.best].alpha.tolist() == record.alpha.tolist()
        for place, alpha in enumerate(np.eye(len(record.members))):
            corner = next(trial for trial in trials if trial.alpha.tolist() == alpha.tolist())
            assert record.experts[place].score == corner.score


def test_trainings_are_shared(plan):
    addresses = {s.recipe.address for s in trainings(plan)}
    # S* twice; longer and two more such runs; four more runs on the target through both stages,
    # with the first's second stage DFWE's; the fused model's fine-tuning; the pooled task's two.
    assert len(addresses) == 10 + 3 + 8 + 1 + 2


def test_studies_of_other_seeds_share_no_run(plan, make_study):
    other = Plan(make_study(seed=1, controls=EVERY))
    assert not {s.recipe.address for s in trainings(plan)} & {
        s.recipe.address for s in trainings(other)
    }


def test_studies_on_one_pretrained_model_share_the_base(plan, make_study):
    other = Plan(make_study(target="tone", sources=("mood",), seed=1))
    assert plan.base.recipe == other.base.recipe


def test_longer_trains_for_both_stages_epochs(plan):
    training = step(plan, "longer").training
    assert (training.epochs, training.patience) == (2 * plan.study.training.epochs, None)


def test_best_of_sees_as_much_text_as_dfwe(plan):
    # The toy's four tasks are of one size m: experts m, 4m, m, m, m and five fine-tunings of m; a
    # long run reads 2m.
    assert len(controls.best_of(plan).experts) == 7 >= (4 + 4 + 5) / 2
    assert len(step(plan, "best_of_k").experts) == 3


def test_long_inputs_count_by_their_length(make_study):
    def texts(number, length):
        """So many examples of so many characters."""
        example = Example("i", "d", "x" * (length - 8), "mood:", "ab", ("ab",))
        return lambda *unused: [example] * number

    study = make_study(sources=("tone",))
    target = replace(study.task, read=texts(10, 50))
    source = replace(study.sources[0], read=texts(5, 200))
    plan = Plan(replace(study, task=target, sources=(source,)))
    # Experts 500, 500 + 1000, 1000 characters and three fine-tunings of 500; a long run 2 * 500.
    assert len(controls.best_of(plan).experts) == 5
    assert all(run.training.epochs == 2 for run in controls.best_of(plan).experts)


def test_every_method_is_scored_on_test(measured):
    assert set(measured) == {
        "baseline",
        "uniform",
        "one_standard_error",
        "likeliest",
        "dfwe",
        *EVERY,
    }
    assert all(entry.draws.shape == measured["dfwe"].draws.shape for entry in measured.values())


def test_a_searched_control_is_no_better_on_dev_than_its_search_allows(measured):
    assert measured["dfwe"].dev >= measured["best_expert"].dev
    assert measured["random"].dev >= measured["best_expert"].dev
    assert measured["seeds"].dev >= measured["seeds_uniform"].dev


def test_the_parts_add_up_to_the_gain(measured):
    whole = gain([([measured["dfwe"]], [measured["baseline"]])]).mean
    split = parts([measured, measured])
    assert sum(part.delta for part in split.values()) == pytest.approx(whole)
    assert parts([{name: measured[name] for name in ("baseline", "uniform", "dfwe")}]) is None


def test_task_arithmetic_at_one_over_n_is_the_uniform_average(plan, context):
    _, trials = searched(plan, context, "task_arithmetic")
    at = next(trial for trial in trials if np.allclose(trial.alpha, [0.8, 0.2]))
    uniform = context.store.record(plan.interpolation.recipe, SearchRecord).uniform
    assert at.score == pytest.approx(uniform.score)


def test_costs_are_those_of_the_lineage(plan, context, measured):
    tokens = [
        context.store.record(trained.recipe, TrainRecord).cost.tokens
        for trained in (*plan.experts, *plan.finetuned)
    ]
    assert measured["baseline"].cost.tokens == tokens[0]
    assert measured["uniform"].cost.tokens == sum(tokens)
    assert measured["uniform"].cost.evaluations == 0
    assert measured["dfwe"].cost.flops > measured["uniform"].cost.flops


def test_the_search_by_likelihood_chooses_the_likeliest(plan, context):
    record, trials = searched(plan, context, "by_likelihood")
    likeliest = max(trials, key=lambda trial: trial.log_likelihood)
    assert record.best == likeliest.index
    assert record.alpha.tolist() == likeliest.alpha.tolist()
    plain = context.store.record(plan.interpolation.recipe, SearchRecord)
    assert record.dev.log_likelihood >= plain.dev.log_likelihood


def test_the_whole_dev_split_steers_the_same_experts(make_study):
    def steps(few):
        plan = Plan(make_study(few=few, controls={"whole_dev": controls.whole_dev}))
        return plan.interpolation, step(plan, "whole_dev")

    dfwe, whole = steps(few=True)
    assert [s.recipe for s in whole.experts] == [s.recipe for s in dfwe.experts]
    assert whole.search == dfwe.search
    assert [len(s.task.examples(s.corpus, "dev")) for s in (dfwe, whole)] == [8, 16]
    dfwe, whole = steps(few=False)
    assert whole.recipe == dfwe.recipe


def test_the_landscape_is_a_lattice_over_three_sources(plan, context):
    assert [e.label for e in plan.drawn[0].experts] == ["tone", "air", "voice"]
    record = context.store.record(plan.drawn[0].recipe, SearchRecord)
    assert record.cost.evaluations == 6 + 1  # and the centroid


@pytest.fixture(scope="module")
def reported(plan, context):
    """The folder that stage=report writes, of one task and seed."""
    report(
        lambda: plan.study,
        Stage("report", ()),
        context,
        studies=lambda task, seed: plan.study,
        settings=ReportSettings(
            tasks=["mood"],
            seeds=[0],
            hypotheses=["baseline", "seeds"],
            published_on="toy",
            published={"mood": {"baseline": 40.0, "dfwe": 42.5}},
            published_note="Published: on another copy.",
        ),
    ).present()
    return context.output


def test_what_a_store_has_is_compared_over_the_settings_that_differ(reported, context):
    (run,) = runs_in(context.store.root)
    assert run.settings["task"] == "mood"
    assert run.settings["seed"] == "0"
    assert run.settings["training.learning_rate"] == "0.003"
    (row, _) = table(reported, "table2")
    assert f"{run.test:.2f}" == row["DFWE"]
    assert run.dev is not None


def table(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_2_stands_beside_the_published(reported, measured):
    row, mean = table(reported, "table2")
    assert row["fine-tuning"] == f"{measured['baseline'].test:.2f}"
    assert row["DFWE"] == f"{measured['dfwe'].test:.2f}"
    assert row["published delta"] == mean["published delta"] == "+2.50"
    delta = measured["dfwe"].test - measured["baseline"].test
    assert row["delta"] == mean["delta"] == f"{delta:+.2f}"
    note = f"baseline / 10): {delta + measured['baseline'].test / 10:.2f}"
    text = (reported / "table2.md").read_text()
    assert markdown(note) in text
    assert markdown("Published: on another copy.") in text


def test_a_note_on_published_scores_stands_where_they_do(plan, context):
    """Commit 60dbe5b: Table 2 says nothing of the data that published scores were measured on."""
    runs = Runs(lambda task, seed: plan, ["mood"], [0], context.store)
    for published, shown in (({}, False), ({"mood": {"baseline": 40.0, "dfwe": 42.5}}, True)):
        assert ("another copy" in table2(runs, published, "On another copy.").note) == shown


def test_every_method_has_a_row(reported, measured):
    rows = table(reported, "controls")
    assert len(rows) == len(measured)
    by = {row["model"]: row for row in rows}
    assert by["TIES"]["test"] == f"{measured['ties'].test:.2f}"
    assert by["DFWE"]["DFWE over it"] == by["DFWE"]["DFWE wins"] == ""
    assert by["fine-tuning"]["over fine-tuning"] == ""
    assert by["DFWE"]["p"] == by["DFWE"]["visible from"] == ""
    assert all(0 < float(row["p"]) <= 1 for name, row in by.items() if name != "DFWE")
    note = (reported / "controls.md").read_text()
    assert "intervals are given these models" in note
    assert "Holm's method, fine-tuning and seeds (named beforehand) apart from the others" in note


def test_the_page_holds_tables_and_pictures(reported):
    text = (reported / "report.html").read_text()
    # trajectories, alphas, dev against test, the landscape, cost against gain
    assert text.count("<svg") == text.count("</svg>") == 5
    for heading in ("Table 2", "DFWE and the controls", "What the gain consists of"):
        assert f"<caption>{heading}</caption>" in text
    assert (reported / "table2.tex").read_text().startswith(r"\begin{tabular}")


@pytest.mark.browser
def test_the_page_opens_in_a_browser(reported):
    with browser.chromium() as opened:
        assert browser.faults(opened, reported / "report.html") == []


def test_the_plainest_choice_stands_beside_the_best(plan, context, measured):
    choice = context.store.record(plan.interpolation.recipe, SearchRecord).one_standard_error
    assert measured["one_standard_error"].dev == choice.dev.score <= measured["dfwe"].dev
    assert measured["one_standard_error"].cost == measured["dfwe"].cost


def test_a_control_that_was_not_run_is_named(plan, context, caplog):
    more = {"vote": controls.vote, "best_of_two": partial(controls.best_of, at_most=2)}
    partly = Plan(replace(plan.study, controls=more))
    runs = Runs(lambda task, seed: partly, ["mood"], [0], context.store)
    assert "vote" in runs.names
    other = Runs(
        lambda task, seed: partly if task == "mood" else plan, ["mood", "air"], [0], context.store
    )
    rows = [row[0] for row in comparison(other).rows]
    assert "vote" in rows
    assert "longer (1 of 2 tasks)" in rows
    assert "best_of_two" not in runs.names
    assert "mood: not every seed has a test score of best_of_two; left out" in caplog.text


ASKED = {"tasks": ["mood"], "seeds": [0], "published": {}, "published_on": "toy"}


@pytest.mark.parametrize("given", [{"tasks": []}, {"seeds": []}])
def test_an_empty_report_is_refused(given):
    with pytest.raises(UserError, match=f"report.{next(iter(given))} is empty"):
        ReportSettings(**ASKED | given)


def test_more_than_two_hypotheses_are_refused():
    with pytest.raises(UserError, match=r"report\.hypotheses=.* should have at most 2 items"):
        ReportSettings(**ASKED, hypotheses=["baseline", "seeds", "longer"])


def test_one_task_and_one_seed_need_no_brackets():
    settings = ReportSettings(**ASKED | {"tasks": "mood", "seeds": 3})
    assert (settings.tasks, settings.seeds) == (["mood"], [3])


def test_runs_that_are_missing_are_named(plan, make_study, context, caplog):
    other = Plan(make_study(seed=7))
    runs = Runs(lambda task, seed: plan if seed == 0 else other, ["mood"], [0, 7], context.store)
    assert len(runs.finished["mood"]) == 1
    assert "mood: no finished run of seed 7" in caplog.text
    assert "1 run differs in few settings: seed=7 (0 there)." in caplog.text
    with pytest.raises(UserError, match="no finished run of mood"):
        Runs(lambda task, seed: other, ["mood"], [7], context.store)


@pytest.mark.parametrize(("shrinkage", "folds"), [(False, None), (True, 2)])
def test_folds_that_only_measure_are_the_studys_alone(shrinkage, folds, make_study):
    strategy = partial(baselines.dirichlet, evaluations=9)
    search = Search(strategy, folds=2, shrinkage=shrinkage)
    named = {"seeds": controls.seeds, "k_fold": partial(controls.k_fold, k=2)}
    plan = Plan(make_study(search=search, controls=named))
    assert [step(plan, name).search.folds for name in named] == [folds, folds]
