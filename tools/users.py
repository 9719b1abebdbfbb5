"""Two users of one group, as which a fork of a process of root acts: trials of a shared store."""

import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

GROUP = 60_000
ALICE, BOB = 60_001, 60_002  # ids alone: no such accounts are needed
TOGETHER = 0o002  # the umask of who shares files with a group


def become(user: int, umask: int = TOGETHER) -> None:
    """Makes this process, of root, that user's for good."""
    os.setgroups([GROUP])
    os.setgid(user)
    os.setuid(user)
    os.umask(umask)


def shared(folder: Path) -> Path:
    """Gives a folder to the group: what is made inside is the group's too."""
    folder.mkdir(parents=True, exist_ok=True)
    os.chown(folder, ALICE, GROUP)
    folder.chmod(0o2770)
    return folder


def hindrance(*files: Path) -> str | None:
    """Why this process cannot act as others, who must be able to read these files."""
    if os.geteuid() != 0:
        return "needs root"

    def unreadable() -> int:
        return sum(not os.access(path, os.R_OK) for path in files)

    return "other users cannot read dfwe" if acting(ALICE, unreadable) else None


def acting(user: int, work: Callable[[], object], umask: int = TOGETHER) -> int:
    """The exit code of a fork that does a user's work.

    The work's result if it is a number, 0 for any other, 99 where it raises.
    """
    child = _fork(user, work, umask)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextmanager
def living(user: int, work: Callable[[], object], umask: int = TOGETHER) -> Generator[None]:
    """While the block runs, a fork that has done a user's work is alive."""
    done, end = os.pipe(), os.pipe()

    def wait() -> None:
        kept = work()
        os.close(end[1])
        os.write(done[1], b".")
        os.read(end[0], 1)
        del kept

    child = _fork(user, wait, umask)
    try:
        os.close(done[1])
        os.read(done[0], 1)
        yield
    finally:
        for number in (done[0], *end):
            os.close(number)
        os.waitpid(child, 0)


def _fork(user: int, work: Callable[[], object], umask: int) -> int:
    """The id of a new process that ends with the work's result."""
    if child := os.fork():
        return child
    code = 99
    try:
        become(user, umask)
        result = work()
        code = result if isinstance(result, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)
