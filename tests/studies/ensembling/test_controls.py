"""Controls on a toy study: what each is made of, and that nothing is trained twice."""

import csv
import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from dfwe.data.dialogue import Example
from dfwe.errors import UserError
from dfwe.pipeline.executor import Stage, execute
from dfwe.search import baselines
from dfwe.stages.train import Train
from dfwe.studies.ensembling import controls
from dfwe.studies.ensembling.comparison import entries, gain, parts
from dfwe.studies.ensembling.plan import Plan
from dfwe.studies.ensembling.report import report
from dfwe.studies.ensembling.runs import Runs
from dfwe.studies.ensembling.tables import comparison
from dfwe.weights import merge

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
ALL = Stage("all", ("experts", "finetune", "interpolate", "evaluate"))
EVERY = {
    "longer": controls.longer,
    "best_of_k": partial(controls.best_of, at_most=3),
    "seeds": controls.seeds,
    "seeds_uniform": partial(controls.seeds, strategy=baselines.uniform),
    "joint": controls.joint,
    "fusing": controls.fusing,
    "best_expert": partial(controls.soup, strategy=baselines.single_experts),
    "random": controls.random,
    "by_likelihood": controls.by_likelihood,
    "ratatouille": controls.ratatouille,
    "wise_ft": partial(controls.wise_ft, points=3),
    "task_arithmetic": partial(
        controls.merged, method=partial(merge.task_arithmetic, scale=1.0), points=6
    ),
    "ties": partial(controls.merged, method=merge.ties, points=3),
    "dare": partial(controls.merged, method=partial(merge.dare, seed=0, scale=1.0), points=3),
    "vote": controls.vote,
}


@pytest.fixture(scope="module")
def plan(make_study):
    landscapes = {"sources": partial(controls.landscape, points=3)}
    return Plan(make_study(controls=EVERY, landscapes=landscapes))


@pytest.fixture(scope="module")
def context(plan, module_lab):
    execute(plan.steps, ALL, module_lab)
    return module_lab


@pytest.fixture(scope="module")
def found(plan, context):
    return entries(plan, context.store)


def step(plan, name):
    return next(c.made for c in plan.contenders if c.name == name)


def trainings(plan):
    return [s for s in plan.steps if isinstance(s, Train)]


def test_trainings_are_shared(plan):
    addresses = {s.recipe.address for s in trainings(plan)}
    # S* twice; longer; four more runs on the target twice, which best_of shares, with the first's
    # second stage DFWE's own; and the fused model's fine-tuning.
    assert len(addresses) == 10 + 1 + 8 + 1


def test_studies_of_other_seeds_share_no_run(plan, make_study):
    other = Plan(make_study(seed=1, controls=EVERY))
    assert not {s.recipe.address for s in trainings(plan)} & {
        s.recipe.address for s in trainings(other)
    }


def test_studies_on_one_pretrained_model_share_the_base(plan, make_study):
    other = Plan(make_study(target="tone", sources=("mood",), seed=1))
    assert controls.base(plan).recipe == controls.base(other).recipe


def test_longer_trains_for_both_stages_epochs(plan):
    training = step(plan, "longer").training
    assert (training.epochs, training.patience) == (2 * plan.study.training.epochs, None)


def test_best_of_sees_as_much_text_as_dfwe(plan):
    # The toy's four tasks are of one size m: experts m, 4m, m, m, m and five fine-tunings of m.
    assert len(controls.best_of(plan).experts) == 4 + 4 + 5
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
    # Experts 500, 500 + 1000, 1000 characters and three fine-tunings of 500.
    assert len(controls.best_of(plan).experts) == 4500 / 500


def test_every_contender_is_scored_on_test(found):
    assert set(found) == {"baseline", "uniform", "one_standard_error", "dfwe", *EVERY}
    assert all(entry.draws.shape == found["dfwe"].draws.shape for entry in found.values())


def test_a_searched_control_is_no_better_on_dev_than_its_search_allows(found):
    assert found["dfwe"].dev >= found["best_expert"].dev
    assert found["random"].dev >= found["best_expert"].dev
    assert found["seeds"].dev >= found["seeds_uniform"].dev


def test_the_parts_add_up_to_the_gain(found):
    whole, _ = gain([found["dfwe"]], [found["baseline"]])
    split = parts([found, found])
    assert sum(part["delta"] for part in split.values()) == pytest.approx(whole)
    assert parts([{name: found[name] for name in ("baseline", "uniform", "dfwe")}]) is None


def test_task_arithmetic_at_one_over_n_is_the_uniform_average(plan, context):
    trials = context.store.folder(step(plan, "task_arithmetic").recipe) / "trials.jsonl"
    rows = [json.loads(line) for line in trials.read_text().splitlines()]
    at = next(row for row in rows if np.allclose(row["alpha"], [0.8, 0.2]))
    uniform = context.store.scores(plan.interpolation.recipe)["uniform"]["dev"]["score"]
    assert at["score"] == pytest.approx(uniform)


def test_costs_are_those_of_the_lineage(plan, context, found):
    scores = [context.store.scores(s.recipe) for s in (*plan.experts, *plan.finetuned)]
    assert found["baseline"].cost["tokens"] == scores[0]["tokens"]
    assert found["uniform"].cost["tokens"] == sum(row["tokens"] for row in scores)
    assert found["uniform"].cost["evaluations"] == 0
    assert found["dfwe"].cost["flops"] > found["uniform"].cost["flops"]


def test_the_search_by_likelihood_chooses_the_likeliest(plan, context):
    made = step(plan, "by_likelihood")
    trials = context.store.folder(made.recipe) / "trials.jsonl"
    rows = [json.loads(line) for line in trials.read_text().splitlines()]
    likeliest = max(rows, key=lambda row: row["log_likelihood"])
    assert list(context.store.scores(made.recipe)["alpha"].values()) == likeliest["alpha"]
    plain = context.store.scores(plan.interpolation.recipe)
    assert (
        context.store.scores(made.recipe)["dev"]["log_likelihood"]
        >= plain["dev"]["log_likelihood"]
    )


def test_the_whole_dev_split_steers_the_same_experts(make_study):
    def searched(few):
        plan = Plan(make_study(few=few, controls={"whole_dev": controls.whole_dev}))
        return plan.interpolation, step(plan, "whole_dev")

    dfwe, whole = searched(few=True)
    assert [s.recipe for s in whole.experts] == [s.recipe for s in dfwe.experts]
    assert whole.search == dfwe.search
    assert [len(s.task.examples(s.corpus, "dev")) for s in (dfwe, whole)] == [8, 16]
    dfwe, whole = searched(few=False)
    assert whole.recipe == dfwe.recipe


def test_the_landscape_is_a_lattice_over_three_sources(plan, context):
    assert [e.label for e in plan.drawn[0].experts] == ["tone", "air", "voice"]
    assert context.store.scores(plan.drawn[0].recipe)["evaluations"] == 6 + 1  # and the centroid


@pytest.fixture(scope="module")
def reported(plan, context):
    """The folder that stage=report writes, of one task and seed."""
    report(
        lambda: plan.study,
        Stage("report", ()),
        context,
        studies=lambda task, seed: plan.study,
        tasks=["mood"],
        seeds=[0],
        published_on="toy",
        published={"mood": {"baseline": 40.0, "dfwe": 42.5}},
    )
    return context.output


def table(folder, name):
    with (folder / f"{name}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_table_2_stands_beside_the_published(reported, found):
    row, mean = table(reported, "table2")
    assert row["fine-tuning"] == f"{found['baseline'].test:.2f}"
    assert row["DFWE"] == f"{found['dfwe'].test:.2f}"
    assert row["published delta"] == mean["published delta"] == "+2.50"
    delta = found["dfwe"].test - found["baseline"].test
    assert row["delta"] == mean["delta"] == f"{delta:+.2f}"
    note = f"baseline / 10): {delta + found['baseline'].test / 10:.2f}"
    assert note in (reported / "table2.md").read_text()


def test_every_contender_has_a_row(reported, found):
    rows = table(reported, "controls")
    assert len(rows) == len(found)
    by = {row["model"]: row for row in rows}
    assert by["TIES"]["test"] == f"{found['ties'].test:.2f}"
    assert by["DFWE"]["DFWE over it"] == by["DFWE"]["DFWE wins"] == ""
    assert by["fine-tuning"]["over fine-tuning"] == ""


def test_the_page_holds_tables_and_pictures(reported):
    text = (reported / "report.html").read_text()
    # trajectories, alphas, dev against test, the landscape, cost against gain
    assert text.count("<svg") == text.count("</svg>") == 5
    for heading in ("Table 2", "DFWE and the controls", "What the gain is made of"):
        assert f"<h2>{heading}</h2>" in text
    assert (reported / "table2.tex").read_text().startswith(r"\begin{tabular}")


def test_the_plainest_choice_stands_beside_the_best(plan, context, found):
    noted = context.store.scores(plan.interpolation.recipe)["one_standard_error"]
    assert found["one_standard_error"].dev == noted["dev"]["score"] <= found["dfwe"].dev
    assert found["one_standard_error"].cost == found["dfwe"].cost


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


@pytest.mark.parametrize("given", [{"tasks": []}, {"seeds": []}])
def test_an_empty_report_is_refused(given, plan, context):
    asked = {"tasks": ["mood"], "seeds": [0], "published": {}, "published_on": "toy"} | given
    with pytest.raises(UserError, match=f"report.{next(iter(given))} is empty"):
        report(None, Stage("report", ()), context, studies=lambda *_: plan.study, **asked)


def test_runs_that_are_missing_are_named(plan, make_study, context, caplog):
    other = Plan(make_study(seed=7))
    runs = Runs(lambda task, seed: plan if seed == 0 else other, ["mood"], [0, 7], context.store)
    assert len(runs.found["mood"]) == 1
    assert "mood: no finished run of seed 7" in caplog.text
    with pytest.raises(UserError, match="no finished run of mood"):
        Runs(lambda task, seed: other, ["mood"], [7], context.store)
