"""A person's own checkpoints on a toy corpus: what they are called."""

from dataclasses import replace

import pytest

from dfwe.execute import Stage, execute
from dfwe.model.pretrained import save
from dfwe.plan import Plan
from dfwe.stages.bring import ROLES, bring
from dfwe.store import Store
from dfwe.summary import results

pytestmark = [  # Lightning's own
    pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec.*:FutureWarning"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
]
ALL = Stage("all", ("bring", "interpolate", "evaluate"))


@pytest.fixture
def folder(tmp_path, make_network, tokenizer, monkeypatch):
    """A working directory with two different checkpoints, a and b."""
    for seed, name in enumerate("ab"):
        save(make_network(seed), tokenizer, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def mixed(make_study, lab):
    """Checkpoints -> their plan, made, and its results."""

    def run(*names, lab=lab):
        plan = Plan(make_study(sources=(), checkpoints=names))
        execute(plan.steps, ALL, lab)
        return plan, results(plan, ALL, lab.store)

    return run


def measured(found):
    """The numbers of a run, without the names and the times."""
    alpha = list(found["dfwe"]["alpha"].values())
    experts = [(row["dev"], row["test"]) for row in found["experts"]]
    return alpha, experts, found["baseline"], found["uniform"], found["delta"]


@pytest.mark.parametrize("names", [("a", "baseline"), ("dfwe", "b"), ("x/a", "a")])
def test_labels_are_distinct_and_no_roles(names, folder):
    for name, place in zip("ab", names, strict=True):
        (folder / name).rename(aside := folder / f"{name}.aside")
        (folder / place).parent.mkdir(exist_ok=True)
        aside.rename(folder / place)
    labels = [step.label for step in bring(names)]
    assert labels == [f"1 {names[0]}", f"2 {names[1]}"]
    assert not ROLES & set(labels)


@pytest.mark.parametrize("role", sorted(ROLES))
def test_a_checkpoint_named_like_a_role_is_tested_as_itself(role, folder, mixed, lab):
    _, expected = mixed("a", "b")
    (folder / "b").rename(folder / role)
    again = folder / "again"
    _, found = mixed("a", role, lab=replace(lab, store=Store(again / "store"), output=again))
    assert measured(found) == measured(expected)
    assert found["baseline"]["test"] == found["experts"][0]["test"]


def test_weights_that_stand_twice_are_scored_once(folder, mixed, monkeypatch):
    import dfwe.callbacks.progress as progress

    scored, bar = {}, progress.scoring_bar

    def counted(label, total):
        scored[label] = total
        return bar(label, total)

    monkeypatch.setattr(progress, "scoring_bar", counted)
    _, found = mixed("a", "b")
    assert found["one_standard_error"]["test"] is not None
    assert 4 <= scored["test mood"] <= 5  # a, b, the mixture, the average; perhaps the plainest
