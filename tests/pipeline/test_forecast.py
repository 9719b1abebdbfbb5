"""What a command would compute, why it is new, and how long it takes."""

from dataclasses import dataclass, field, replace
from typing import ClassVar

import pytest

from dfwe.errors import UserError
from dfwe.pipeline.differences import differences, nearest, stored_values, values_of
from dfwe.pipeline.executor import Stage, execute
from dfwe.pipeline.forecast import Timings, forecast
from dfwe.pipeline.inventory import inventory
from dfwe.pipeline.provenance import provenance
from dfwe.pipeline.recipe import digest
from dfwe.pipeline.record import Cost, Record
from dfwe.pipeline.step import Size, Step
from dfwe.reporting.plan import amount, planned, size

ALL = Stage("all", ("experts", "finetune"))
PRETRAINED = Stage("all", ("pretrain", "experts", "finetune"))


class Costs(Record):
    cost: Cost


@dataclass(frozen=True, eq=False)
class Trained(Step):
    """A step of known size."""

    stage: str
    label: str
    rate: float = 1e-4
    before: tuple[Step, ...] = ()
    tokens: int = 1_000
    data: str = "text"
    group: str = "toy"
    nested: dict[str, object] = field(default_factory=dict)

    kind: ClassVar[str] = "trained"
    record: ClassVar[type[Record]] = Costs

    @property
    def parents(self):
        return self.before

    @property
    def size(self):
        return Size(examples=10, tokens=self.tokens, parameters=500_000, unfinished=4)

    def settings(self):
        training = {"learning_rate": self.rate, **self.nested}
        return {"training": training, "data": digest(self.data), "stage": self.stage}

    def run(self, run):
        return Costs(cost=Cost(tokens=self.tokens, parameters=500_000))


class Unknown(Trained):
    """A step of a kind that no store has timings of."""

    kind: ClassVar[str] = "unknown"

    @property
    def size(self):
        return Size()


def store(step, context, seconds=2.0, device="cpu", machine=None):
    """Commits a step's result as if it had been computed."""
    where = provenance(step.label, seconds, device)
    if machine is not None:
        where = where.model_copy(update={"machine": machine})
    context.store.output(step.recipe)
    context.store.commit(step.recipe, step.run(None), where)


@pytest.fixture
def context(context):
    return replace(context, loggers=())


def steps(rate=1e-4, **more):
    expert = Trained("experts", "emory", rate, **more)
    return expert, Trained("finetune", "emory", rate, (expert,), **more)


def test_what_is_stored_is_not_counted_and_the_rest_is_timed_by_it(context):
    expert, tuned = steps()
    store(expert, context, seconds=2.0)
    expected = forecast([expert, tuned], ALL, context, "cpu")
    done, left = expected.parts
    assert (done.stage, done.done, done.lacking, done.seconds) == ("experts", 1, 0, 0)
    assert (left.done, left.lacking, left.examples, left.tokens) == (0, 1, 10, 1_000)
    assert left.seconds == pytest.approx(2.0)
    assert left.bytes == 2_000_000
    assert expected.unfinished == 8_000_000
    assert expected.lacking == 1
    execute([expert, tuned], ALL, context)
    assert forecast([expert, tuned], ALL, context, "cpu").lacking == 0
    assert planned(forecast([expert, tuned], ALL, context, "cpu")) == (
        "stage=all: 2 of 2 results stored. Nothing is to be computed."
    )


def test_time_goes_by_tokens_and_parameters_of_this_machine_first(context):
    expert, tuned = steps()
    store(expert, context, seconds=2.0)
    store(Trained("experts", "other"), context, seconds=900.0, machine="Linux, another")
    twice = replace(tuned, tokens=2_000)
    known = Timings.of(inventory(context.store).results.values(), "cpu")
    assert (len(known.results), known.elsewhere) == (1, False)
    assert known.seconds(twice) == pytest.approx(4.0)
    assert Timings.of(inventory(context.store).results.values(), "cuda").results == ()


def test_time_of_another_machine_is_marked(context):
    expert, tuned = steps()
    store(expert, context, machine="Linux, another")
    expected = forecast([expert, tuned], ALL, context, "cpu")
    assert expected.elsewhere
    assert "Time by 1 stored result of another machine" in planned(expected)


def test_what_is_new_is_the_setting_that_the_nearest_result_lacks(context):
    for step in (*steps(), *steps(3e-4, nested={"epochs": 9})):
        store(step, context)
    _, tuned = steps(5e-4)
    found = nearest(tuned.recipe, inventory(context.store).results)
    assert [str(one) for one in found] == ["training.learning_rate=0.0005 (0.0001 there)"]
    text = planned(forecast([*steps(5e-4)], ALL, context, "cpu"))
    assert "New, by the nearest stored result: training.learning_rate=0.0005 (0.0001" in text
    assert max(map(len, text.splitlines())) <= 80


def test_other_data_are_named_and_their_digests_are_not_shown(context):
    for step in steps():
        store(step, context)
    (other,) = nearest(steps(data="texts")[1].recipe, inventory(context.store).results)
    assert str(other) == "data (other content)"


def test_what_a_person_sets_comes_before_contents(context):
    store(steps()[0], context)
    found = nearest(steps(5e-4, data="texts")[0].recipe, inventory(context.store).results)
    assert [one.key for one in found] == ["training.learning_rate", "data"]


def test_a_sum_of_times_that_are_not_all_known_says_so(context):
    expert, tuned = steps()
    store(expert, context, seconds=100.0)
    other = replace(tuned, before=(), stage="pretrain")
    unknown = forecast([tuned, Unknown("pretrain", "base")], PRETRAINED, context, "cpu")
    assert "> 1m 40s" in planned(unknown)
    known = forecast([tuned, other], PRETRAINED, context, "cpu")
    assert "> " not in planned(known)
    assert "3m 20s" in planned(known)


def test_a_store_without_results_of_the_kind_says_so(context):
    text = planned(forecast(steps(), ALL, context, "cpu"))
    assert "0 of 2 results stored" in text
    assert "New: the store has no result of this kind yet." in text
    assert "Time is not known" in text


def test_where_the_main_result_is_stored_the_new_ones_are_named(context):
    expert, tuned = steps()
    for step in (expert, tuned):
        store(step, context)
    control = Trained("experts", "longer", 1e-4, nested={"epochs": 8})
    assert forecast([expert, control, tuned], ALL, context, "cpu").new == ("longer",)


def test_a_missing_parent_of_another_stage_is_refused_as_by_a_run(context):
    with pytest.raises(UserError, match="stage=experts"):
        forecast(steps(), Stage("finetune", ("finetune",)), context, "cpu")


def test_stored_and_wanted_settings_are_compared_over_the_whole_lineage(context):
    for step in steps():
        store(step, context)
    results = inventory(context.store).results
    _, tuned = steps()
    stored = stored_values(results[tuned.recipe.name], results)
    assert differences(values_of(tuned.recipe), stored) == ()
    mixed = replace(tuned, before=(Trained("experts", "emory", 7e-4),))
    (one,) = differences(values_of(mixed.recipe), values_of(tuned.recipe))
    assert (one.key, one.wanted) == ("training.learning_rate", "0.0001 and 0.0007")


def test_a_part_is_named_and_its_arguments_are_keys():
    part = {"name": "line", "version": 1, "arguments": {"points": 9}}
    values = values_of(Trained("experts", "emory", nested={"search": part}).recipe)
    assert values["training.search"] == {'"line"'}
    assert values["training.search.points"] == {"9"}
    other = values_of(Trained("experts", "emory", nested={"search": None}).recipe)
    named = [str(one) for one in differences(values, other)]
    assert named == ["training.search=line (null there)", "training.search.points=9 (none there)"]


def test_numbers_as_a_person_reads_them():
    assert [amount(n) for n in (0, 999, 1_000, 123_456, 1_234_567)] == [
        "0",
        "999",
        "1 k",
        "123 k",
        "1.23 M",
    ]
    assert [size(n) for n in (12, 48_800_000)] == ["12 B", "48.8 MB"]
