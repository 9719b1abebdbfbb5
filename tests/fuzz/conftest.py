"""The tests' part of `make fuzz`: forty inputs of each kind, always the same."""

from functools import partial
from itertools import product

import fuzzing
import pytest


@pytest.fixture
def fuzz(record_property):
    """Kind, judge, sound, unsound: draws the inputs and fails with all faults found."""

    def run(kind, judge, sound, unsound):
        tally = fuzzing.Tally(kind)
        try:
            fuzzing.fuzz(tally, judge, sound, unsound)
        finally:
            record_property("fuzz", (kind, dict(tally.ends), tally.seconds))

    return run


@pytest.fixture
def no_random_start(monkeypatch):
    """Networks are built without random weights, which take most of the time: all come from files.

    Those that the files hold are made before, with random weights.
    """
    import torch
    from tiny_checkpoints import network

    for kind, seed in product(("t5", "bert"), range(4)):
        network(kind, seed)
    for name in ("normal_", "uniform_", "kaiming_uniform_"):
        monkeypatch.setattr(torch.nn.init, name, lambda tensor, *_, **__: tensor)


def pytest_terminal_summary(terminalreporter):
    """The table of `make fuzz`."""
    if fuzzing.ASKED is None:
        return
    reports = [r for end in ("passed", "failed") for r in terminalreporter.stats.get(end, [])]
    rows = sorted(value for r in reports for name, value in r.user_properties if name == "fuzz")
    write = partial(terminalreporter.write_line)
    ends = ("inputs", "right", "repeated", "sentence", "wrong", "traceback", "hang")
    write("".join([f"{'kind':20}", *(f"{end:>10}" for end in ends), f"{'seconds':>9}"]))
    for kind, found, seconds in rows:
        numbers = "".join(f"{found.get(end, 0):10}" for end in ends)
        write(f"{kind:20}{numbers}{seconds:9.1f}")
