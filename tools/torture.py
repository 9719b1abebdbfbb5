"""Kills, damages and crowds a miniature plan, and compares what it ends with: `make torture`.

Every trial starts dfwe's command in a fork of this process, which has imported all once. A trial
passes when the command, rerun until it succeeds, leaves the results of an undisturbed run, times
aside, and when whatever it printed on the way was a sentence and no traceback. All trials are
drawn from `--seed`.
"""

import argparse
import errno
import gc
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import JsonValue

import dfwe
import users
from dfwe.pipeline.files import read_json

ARGUMENTS = (
    "experiment=quickstart",
    "model.max_input=48",
    "training.epochs=2",
    "training.patience=null",
    "search.strategy.evaluations=16",
    "search.folds=2",
    "decoding=likelihood",
    "trainer=cpu",
    "logger=csv",
)
TIMES = ("provenance.json", "timings.jsonl", "attempts.jsonl")  # files that differ from run to run
WRITES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "shutil.rmtree")
FINISHED = "damaged when finished"
INJECTED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG)
ATTEMPTS = 12  # reruns until a disturbed command must have succeeded

Hook = Callable[[str], None]  # called with a path at each operation on a file of the store


@dataclass
class Outcome:
    """How one start of the command ended.

    Args:
        code: its exit code; negative, the signal.
        text: what it printed, both streams.
        operations: stage -> operations on files of the store, where they were counted.
    """

    code: int
    text: str
    operations: dict[str, int] = field(default_factory=dict[str, int])


@dataclass
class Command:
    """dfwe's command on one store.

    Args:
        folder: of this trial; the store is inside.
        arguments: overrides beside `ARGUMENTS`.
        starters: whose the next start is; None keeps this process's user.
    """

    folder: Path
    arguments: tuple[str, ...] = ()
    starters: Iterator[int | None] = field(default_factory=lambda: itertools.repeat(None))

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def output(self) -> Path:
        """Both streams; beside the folder, which may be a disk that is full."""
        return self.folder.with_suffix(".output")

    def start(self, prepare: Callable[[], None] | None = None) -> int:
        """The process id of a new start; `prepare` is called in it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if (user := next(self.starters)) is not None:
            users.shared(self.folder)
        if child := os.fork():
            return child
        try:
            os.setsid()  # its workers end with it
            output = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(self.folder)
            if user is not None:
                os.environ["HOME"] = str(self.folder)
                users.become(user)
            if prepare is not None:
                prepare()
            os._exit(_main([*ARGUMENTS, *self.arguments, f"store={self.store}"]))
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(99)

    def run(self, prepare: Callable[[], None] | None = None) -> Outcome:
        """Starts the command and waits for its end."""
        self.output.unlink(missing_ok=True)
        child = self.start(prepare)
        _, status = os.waitpid(child, 0)
        counted = self.folder / "operations.json"
        operations = dict[str, int](json.loads(counted.read_text()) if counted.exists() else {})
        text = self.output.read_text(errors="replace")
        return Outcome(os.waitstatus_to_exitcode(status), text, operations)

    def finish(self) -> Outcome:
        """Reruns the command, repairing the store when it says so, until it succeeds."""
        outcome = self.run()
        for _ in range(ATTEMPTS):
            if "Traceback" in outcome.text or outcome.code in (0, 99):
                return outcome
            if "dfwe store repair" in outcome.text:
                self.repair()
            outcome = self.run()
        return outcome

    def repair(self) -> None:
        """Moves damaged results aside, as a person would."""
        from dfwe.store_command import store_command

        with redirect_stdout(StringIO()):
            store_command(["repair", "--store", str(self.store)])


def _main(arguments: Sequence[str]) -> int:
    from dfwe.cli import main

    sys.argv = ["dfwe", *arguments]
    try:
        main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    return 0


def watch(store: Path, hook: Hook) -> None:
    """Calls `hook` before each operation of this process that changes a file of the store."""
    root = str(store)

    def audited(event: str, values: tuple[object, ...]) -> None:
        changes = event in WRITES or (event == "open" and _writes(values))
        path = str(values[0]) if values else ""
        if changes and path.startswith(root):
            hook(path)

    sys.addaudithook(audited)


def _writes(values: tuple[object, ...]) -> bool:
    mode, flags = (values[1], values[2]) if len(values) > 2 else (None, 0)
    if isinstance(mode, str) and set(mode) & set("wax+"):
        return True
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR))


def stage_of(path: str, store: Path) -> str:
    """Kind of the step whose file it is; `-` for what belongs to none."""
    parts = Path(path).relative_to(store).parts
    name = parts[1] if len(parts) > 1 and parts[0] == ".work" else parts[0] if parts else ""
    kind = name.removeprefix(".").rpartition("-")[0]
    return kind or "-"


def counting(command: Command) -> Callable[[], None]:
    """Counts the operations by stage into `operations.json`."""
    counts: Counter[str] = Counter()

    def prepare() -> None:
        watch(command.store, lambda path: counts.update([stage_of(path, command.store)]))
        original = os._exit

        def leave(code: int) -> None:
            (command.folder / "operations.json").write_text(json.dumps(counts))
            (command.folder / "modules.json").write_text(json.dumps(list(sys.modules)))
            original(code)

        os._exit = leave

    return prepare


def at_operation(
    command: Command, stage: str, number: int, act: Callable[[], None]
) -> Callable[[], None]:
    """Calls `act` before the given operation of a stage, once."""
    seen = 0

    def hook(path: str) -> None:
        nonlocal seen
        if stage_of(path, command.store) == stage:
            seen += 1
            if seen == number:
                act()

    return lambda: watch(command.store, hook)


def die() -> None:
    """As if the power were cut."""
    os.kill(os.getpid(), signal.SIGKILL)


def raising(number: int) -> Callable[[], None]:
    """Fails as the system would."""

    def act() -> None:
        raise OSError(number, os.strerror(number))

    return act


def contents(store: Path) -> dict[str, object]:
    """Every file of every result: text without times, else bytes."""
    files: dict[str, object] = {}
    for path in sorted(store.glob("[!.]*/**/*")):
        if path.is_file() and not path.name.endswith(TIMES):
            name = path.relative_to(store).as_posix()
            files[name] = _timeless(path)
    return files


def _timeless(path: Path) -> object:
    if path.suffix != ".json":
        return path.read_bytes()
    value = read_json(path)
    if path.name == "recipe.json" and isinstance(files := value["files"], dict):
        names: list[JsonValue] = [name for name in sorted(files) if not name.endswith(TIMES)]
        value["files"] = names
    return _without_times(value)


def _without_times(value: JsonValue) -> JsonValue:
    if isinstance(value, dict):
        return {k: _without_times(v) for k, v in value.items() if k != "seconds"}
    return [_without_times(item) for item in value] if isinstance(value, list) else value


@dataclass
class Table:
    """Trials by kind: how many passed, and what failed."""

    reference: Mapping[str, object]
    passed: Counter[str] = field(default_factory=Counter[str])
    failed: list[str] = field(default_factory=list[str])

    def judge(self, kind: str, where: str, command: Command, outcome: Outcome) -> None:
        """Compares the store with an undisturbed one."""
        words = None
        if "Traceback" in outcome.text or outcome.code != 0:
            words = f"exit code {outcome.code}: {outcome.text.strip()[-400:]}"
        else:
            now = contents(command.store)
            due = self.reference
            if kind == FINISHED:  # what was moved aside and nothing needs stays away
                there = {name.partition("/")[0] for name in now}
                due = {name: v for name, v in due.items() if name.partition("/")[0] in there}
            differ = sorted(n for n in {*now, *due} if now.get(n) != due.get(n))
            if differ:
                words = f"other content: {', '.join(differ[:4])}"
        if words is None:
            self.passed[kind] += 1
        else:
            self.failed.append(f"{kind}, {where}: {words}")

    def lines(self) -> Iterator[str]:
        names = {*self.passed, *(line.partition(",")[0] for line in self.failed)}
        for kind in sorted(names):
            bad = sum(line.startswith(f"{kind},") for line in self.failed)
            yield f"{kind:28} {self.passed[kind]:4} passed {bad:4} failed"
        yield from self.failed


class Torture:
    """All trials in one folder, drawn from one seed."""

    def __init__(self, folder: Path, seed: int, overrides: Sequence[str] = ()) -> None:
        self.folder = folder
        self.random = random.Random(seed)
        self.model = folder / "model"
        _random_model(self.model)
        self.arguments = (f"model.path={self.model}", *overrides)
        command = self.command("reference")
        outcome = command.run(counting(command))
        if outcome.code:
            raise RuntimeError(outcome.text)
        self.reference = command
        self.operations = {k: n for k, n in outcome.operations.items() if k != "-"}
        self.table = Table(contents(command.store))
        self.met: Counter[str] = Counter()
        self.hindrance = users.hindrance(Path(dfwe.__file__), self.model / "config.json")
        if self.hindrance is None:
            for name in json.loads((command.folder / "modules.json").read_text()):
                with suppress(ImportError, AttributeError):
                    importlib.import_module(name)  # others may not be able to read it

    def command(self, name: str, *arguments: str) -> Command:
        """The plan on a store of its own."""
        return Command(self.folder / name, (*self.arguments, *arguments))

    def place(self) -> tuple[str, int]:
        """A stage, each as likely, and one of its operations."""
        stage = self.random.choice(sorted(self.operations))
        return stage, self.random.randint(1, self.operations[stage])

    def kills(self, count: int) -> None:
        """Chains of kills, the stages in their order, each rerun until done.

        The starts of a chain are two users' by turns, where this process can act as them.
        """
        if self.hindrance is not None:
            sys.stdout.write(f"kills by one user: acting as others {self.hindrance}\n")
        chain = 0
        while sum(self.met.values()) < count:
            command, places = self.command(f"kill{chain}"), list[str]()
            if self.hindrance is None:
                command.starters = itertools.cycle((users.ALICE, users.BOB))
            for stage in self.operations:
                for part in range(self.random.randint(1, 4), 0, -1):
                    number = self.random.randint(1, max(1, self.operations[stage] // part))
                    outcome = command.run(at_operation(command, stage, number, die))
                    if outcome.code == -signal.SIGKILL:
                        self.met[stage] += 1
                        places.append(f"{stage} {number}")
            kind = "killed" if self.hindrance else "killed, two users"
            self.table.judge(kind, "; ".join(places), command, command.finish())
            shutil.rmtree(command.folder)
            chain += 1

    def errors(self, count: int) -> None:
        """An operation fails as on a full, limited or read-only disk."""
        for trial in range(count):
            number, (stage, at) = self.random.choice(INJECTED), self.place()
            command = self.command(f"error{trial}")
            outcome = command.run(at_operation(command, stage, at, raising(number)))
            kind, where = errno.errorcode[number], f"{stage} {at}"
            if "Traceback" not in outcome.text:
                outcome = command.finish()
            self.table.judge(kind, where, command, outcome)
            shutil.rmtree(command.folder)

    def sizes(self, count: int) -> None:
        """No file may be larger than a limit, in the first run."""
        for trial in range(count):
            limit = self.random.choice([1 << n for n in range(8, 22)])
            command = self.command(f"size{trial}")

            def prepare(limit: int = limit) -> None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            outcome = command.run(prepare)
            if "Traceback" not in outcome.text:
                outcome = command.finish()
            self.table.judge("file-size limit", f"{limit} bytes", command, outcome)
            shutil.rmtree(command.folder)

    def full_disks(self, count: int) -> None:
        """A file system that is too small, then large enough; needs root to mount it."""
        if os.geteuid() != 0:
            sys.stdout.write("full disks are skipped: mounting a file system needs root\n")
            return
        for trial in range(count):
            size = self.random.randint(60, 4000)
            command = self.command(f"full{trial}")
            with _mounted(command.folder, size) as mounted:
                if not mounted:
                    sys.stdout.write("full disks are skipped: nothing can be mounted here\n")
                    return
                outcome = command.run()
                if "Traceback" not in outcome.text:
                    _mount(command.folder, "-o", "remount,size=200m")
                    outcome = command.finish()
                self.table.judge("full disk", f"{size} kB", command, outcome)

    def damages(self, count: int) -> None:
        """A file of a finished or an unfinished store is changed."""
        for trial in range(count):
            command = self.command(f"damage{trial}")
            finished = self.random.random() < 0.5
            if finished:
                shutil.copytree(self.reference.store, command.store)
            else:
                stage, number = self.place()
                command.run(at_operation(command, stage, number, die))
            files = [path for path in sorted(command.store.rglob("*")) if path.is_file()]
            if not files:
                continue
            path = self.random.choice(files)
            how = self.random.choice(["flipped", "cut", "zeros", "emptied", "deleted"])
            where = path.relative_to(command.store)
            result = command.store / where.parts[0] / "recipe.json"  # of a finished result
            kind = FINISHED if result.is_file() else "damaged while unfinished"
            self.damage(path, how)
            outcome = command.finish()
            if kind == FINISHED:  # later stages read not everything: what is left must be named
                command.repair()
                outcome = command.finish()
            self.table.judge(kind, f"{where} {how}", command, outcome)
            shutil.rmtree(command.folder)

    def damage(self, path: Path, how: str) -> None:
        content = bytearray(path.read_bytes())
        if how == "deleted" or not content:
            path.unlink()
            return
        at = self.random.randrange(len(content))
        if how == "flipped":
            content[at] ^= 1 << self.random.randrange(8)
        elif how == "cut":
            content = content[:at]
        else:
            content = bytearray(len(content)) if how == "zeros" else bytearray()
        path.write_bytes(content)

    def crowds(self, count: int, processes: int = 8) -> None:
        """Processes side by side on one plan, some killed; also with locks that do not work."""
        for trial in range(count):
            for locks in (True, False):
                command = self.command(f"crowd{trial}{locks}")
                children = [
                    command.start(None if locks else _useless_locks) for _ in range(processes)
                ]
                for child in self.random.sample(children, processes // 3):
                    time.sleep(self.random.random())
                    os.kill(child, signal.SIGKILL)
                for child in children:
                    os.waitpid(child, 0)
                text = command.output.read_text(errors="replace")
                outcome = command.finish()
                outcome.text += text
                kind = "side by side" if locks else "side by side, no locks"
                self.table.judge(kind, f"{processes} processes", command, outcome)
                shutil.rmtree(command.folder)


def _useless_locks() -> None:
    """Every lock is granted at once, as on a file system without locks."""
    import filelock

    def acquire(lock: filelock.BaseFileLock, **_: object) -> object:
        return filelock.AcquireReturnProxy(lock)

    filelock.FileLock.acquire = acquire  # type: ignore[method-assign]


def _mount(folder: Path, *options: str) -> bool:
    command = ["mount", *options, str(folder)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def _mounted(folder: Path, size: int) -> Generator[bool]:
    """A file system in memory of so many kB; false where it cannot be mounted."""
    folder.mkdir(parents=True)
    mounted = _mount(folder, "-t", "tmpfs", "-o", f"size={size}k", "tmpfs")
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


def _random_model(folder: Path) -> None:
    """A T5 of a few thousand random weights, with the shipped tokenizer."""
    from dfwe.pretraining.span_corruption import build
    from dfwe.weights.loading import load, save

    tokenizer: Any = load(Path(dfwe.__file__).parent / "assets" / "tiny")[1]
    network = build(tokenizer, d_model=16, d_ff=16, layers=1, heads=2, seed=0)
    save(network, tokenizer, folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the trials, prints the table; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="*", help="of the plan, as the command takes them")
    parser.add_argument("--seed", type=int, default=0)
    for name, count in (
        ("kills", 100),
        ("errors", 16),
        ("sizes", 4),
        ("full-disks", 6),
        ("damages", 24),
        ("crowds", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=count)
    options = parser.parse_args(arguments)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for name in ("lightning", "peft", "dfwe.studies.ensembling.results"):
        importlib.import_module(name)
    import torch

    torch.set_num_threads(1)
    gc.freeze()  # the forks share these pages
    with tempfile.TemporaryDirectory(prefix="dfwe-torture-") as folder:
        Path(folder).chmod(0o755)  # a chain of kills is two users'
        torture = Torture(Path(folder), options.seed, options.overrides)
        torture.kills(options.kills)
        torture.errors(options.errors)
        torture.sizes(options.sizes)
        torture.full_disks(options.full_disks)
        torture.damages(options.damages)
        torture.crowds(options.crowds)
    for stage, count in sorted(torture.met.items()):
        sys.stdout.write(f"killed in {stage:18} {count:4}\n")
    for line in torture.table.lines():
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(f"{sum(os.times()[:4]) / 60:.1f} processor minutes\n")
    return 1 if torture.table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
