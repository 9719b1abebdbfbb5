"""Which changes of the code no test notices: a mutation tester.

    python tools/mutants.py results.jsonl --code src/dfwe/search --tests tests/search

One pytest session forks for each mutant (`mutations.py`); the fork changes the function and runs
the tests that execute the changed lines, the fastest first, until one fails. A mutant that the
results have as killed is not tried again: with new tests, run the command again.
"""

import argparse
import json
import os
import resource
import signal
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import coverage
from mutations import Mutant, mutants

OPTIONS = "-o addopts=--import-mode=importlib -o tmp_path_retention_policy=none -p no:terminal"
PLUGINS = ("randomly", "cacheprovider", "xdist", "anyio")  # that are not wanted
FACTOR = 10.0  # of what the tests take without a mutant, beside --seconds
WAIT = 600  # seconds until a mutant that waits for something is given up
MEMORY = 16 << 30  # bytes of addresses that its tests may use


@dataclass(eq=False)
class Tester:
    """A pytest plugin that runs the collected tests on mutants.

    Args:
        files: the modules to change, by file.
        path: where the results are appended.
        killed: the mutants that need not be tried again.
        limit: seconds of processor time that a mutant's tests may take, beside `FACTOR`.
    """

    files: dict[Path, str]
    path: Path
    killed: set[str]
    limit: float
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict[str, float](float))
    failed: list[str] = field(default_factory=list[str])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps what a test takes, and which have failed."""
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.append(report.nodeid)

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """All tests on the code as it is; then on each mutant those that execute the change."""
        items = {item.nodeid: item for item in session.items}
        if session.testsfailed or not items:
            raise pytest.UsageError("The tests cannot be collected; run pytest to see why.")
        executed = coverage.Coverage(
            data_file=None, config_file=False, include=list(map(str, self.files))
        )
        executed.start()
        for item, following in pairwise([*session.items, session.items[0]]):
            executed.switch_context(item.nodeid)
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        executed.stop()
        self._check(session.items)
        for file, module in self.files.items():
            contexts = executed.get_data().contexts_by_lineno(str(file))
            for mutant in mutants(file, module):
                names = {name for line in mutant.lines for name in contexts.get(line, [])} - {""}
                tests = [items[name] for name in sorted(names, key=self.seconds.__getitem__)]
                if mutant.name not in self.killed:
                    outcome = self._outcome(mutant, tests) if tests else "untested"
                    self._append(mutant, outcome)
        self._check(session.items)
        return True

    def _check(self, tests: Sequence[pytest.Item]) -> None:
        """Whether the tests pass on the code as it is, in the order that mutants have them in."""
        tests = sorted(tests, key=lambda item: self.seconds[item.nodeid])
        if self.failed or self._outcome(None, tests) != "survived":
            raise pytest.UsageError(
                "Tests fail on the code as it is, or run by their duration: no result of this "
                f"run says anything, delete {self.path}. {self.failed}"
            )

    def _outcome(self, mutant: Mutant | None, tests: Sequence[pytest.Item]) -> str:
        """What becomes of a mutant: killed, timeout or survived."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                usual = sum(self.seconds[item.nodeid] for item in tests)
                signal.setitimer(signal.ITIMER_PROF, self.limit + FACTOR * usual)
                signal.alarm(WAIT)
                resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
                if mutant is not None:
                    mutant.apply()
                for item, following in pairwise([*tests, tests[0]]):
                    item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                    if self.failed:
                        break
                status = len(self.failed)
            finally:
                os._exit(status)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGPROF, signal.SIGALRM):
            return "timeout"
        return "survived" if status == 0 else "killed"

    def _append(self, mutant: Mutant, outcome: str) -> None:
        with self.path.open("a") as file:
            row = {"mutant": mutant.name, "line": mutant.lines.start, "outcome": outcome}
            print(json.dumps(row), file=file)


def read(path: Path) -> dict[str, str]:
    """The last outcome of each mutant in a file of results."""
    rows = map(json.loads, path.read_text().splitlines()) if path.exists() else ()
    return {row["mutant"]: row["outcome"] for row in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--code", type=Path, nargs="+", required=True)
    parser.add_argument("--tests", nargs="+", required=True)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a mutant's tests, at least")
    arguments = parser.parse_args()
    paths = [path.resolve() for path in arguments.code]
    sources = Path("src").resolve()
    sys.path.insert(0, str(sources))
    files = {
        file: ".".join(file.relative_to(sources).with_suffix("").parts)
        for path in paths
        for file in (sorted(path.glob("*.py")) if path.is_dir() else [path])
    }
    known = read(arguments.results)
    killed = {name for name, outcome in known.items() if outcome in ("killed", "timeout")}
    options = [*OPTIONS.split(), *(f"-pno:{name}" for name in PLUGINS), *arguments.tests]
    tester = Tester(files, arguments.results, killed, arguments.seconds)
    with TemporaryDirectory(prefix="dfwe-") as folder:  # whose name no other session cleans up
        status = pytest.main([*options, f"--basetemp={folder}/tests"], [tester])
    outcomes = read(arguments.results)
    for name, outcome in outcomes.items():
        if outcome in ("survived", "untested"):
            print(f"{outcome:9}{name}")
    print(dict(Counter(outcomes.values())))
    return int(status)


if __name__ == "__main__":
    sys.exit(main())
