"""Probing is recorded point by point in a ledger, from which an interrupted attempt resumes."""

import json
import shutil
from dataclasses import replace

import pytest

from dfwe.pipeline.executor import compute
from dfwe.pipeline.store import Store
from dfwe.studies.region.losses import LEDGER, LossesRecord
from dfwe.studies.region.probe import Probe


@pytest.fixture
def recorded(plan, region_context):
    """The lines of the study's ledger."""
    ledger = region_context.store.folder(plan.paths.recipe) / LEDGER
    return ledger.read_text().splitlines(keepends=True)


@pytest.fixture
def elsewhere(plan, region_context, tmp_path):
    """The study's context with a store that lacks the losses."""
    store = Store(tmp_path / "store")
    shutil.copytree(region_context.store.root, store.root)
    shutil.rmtree(store.folder(plan.paths.recipe))
    return replace(region_context, store=store, loggers=(), output=tmp_path / "run")


@pytest.fixture
def probed(monkeypatch):
    """The datasets of the probes that were trained, in order."""
    names, probe = [], Probe.__call__

    def count(self, backbone):
        names.append(self.name)
        return probe(self, backbone)

    monkeypatch.setattr(Probe, "__call__", count)
    return names


def resume(plan, context, text):
    """Computes the losses from a ledger of this text; its lines then, and the record."""
    (context.store.work(plan.paths.recipe) / LEDGER).write_text(text)
    compute(plan.paths, context)
    record = context.store.record(plan.paths.recipe, LossesRecord)
    ledger = context.store.folder(plan.paths.recipe) / LEDGER
    return ledger.read_text().splitlines(keepends=True), record


def test_interrupted_probing_resumes_after_the_last_whole_line_of_its_ledger(
    plan, region_context, elsewhere, recorded, probed
):
    whole = len(recorded) - 6
    lines, record = resume(plan, elsewhere, "".join(recorded[:whole]) + recorded[whole][:7])
    assert lines == recorded
    assert probed == [json.loads(line)[1] for line in recorded[whole:]]
    assert record == region_context.store.record(plan.paths.recipe, LossesRecord)


def test_a_perturbed_backbone_is_the_same_on_a_device_of_its_own(
    plan, elsewhere, recorded, probed, device_apart
):
    def is_noise(line):
        return json.loads(line)[0].startswith("noise/")

    noise = [line for line in recorded if is_noise(line)]
    kept = [line for line in recorded if not is_noise(line)]
    lines, _ = resume(plan, elsewhere, "".join(kept))
    assert lines[: len(kept)] == kept
    assert len(probed) == len(noise) == 2 * 3  # perturbations and datasets
    for line, expected in zip(lines[len(kept) :], noise, strict=True):
        (*place, losses), (*wanted_place, wanted) = json.loads(line), json.loads(expected)
        assert place == wanted_place
        assert set(losses) == set(wanted) == {"mean", "first"}
        for readout, values in wanted.items():
            assert losses[readout] == pytest.approx(values, rel=1e-6)


def test_probing_killed_in_its_commit_keeps_its_ledger(
    plan, elsewhere, recorded, probed, monkeypatch
):
    def kill(path):
        raise KeyboardInterrupt

    text = "".join(recorded)
    with monkeypatch.context() as patched:
        patched.setattr("dfwe.pipeline.store.sync", kill)
        with pytest.raises(KeyboardInterrupt):
            resume(plan, elsewhere, text)
    assert (elsewhere.store.work(plan.paths.recipe) / LEDGER).read_text() == text
    compute(plan.paths, elsewhere)
    assert probed == []
    assert (elsewhere.store.folder(plan.paths.recipe) / LEDGER).read_text() == text
