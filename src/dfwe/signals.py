"""Signals that end a run: with one sentence and the code 128 + signal, and nothing lost.

Python calls a handler between two of its own steps, so that a long computation delays it: a thread
that the system tells at once ends what does not end by itself.
"""

import atexit
import os
import signal
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PATIENCE = 3.0  # seconds that a process has to end by itself


class Stopped(BaseException):
    """A signal asks this process to end; no failure of what it interrupts, so no Exception."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.code = 128 + number

    def __str__(self) -> str:
        name = signal.Signals(self.args[0]).name
        return f"Stopped by {name}; the same command resumes where it was."


class _State:
    """Whether signals raise `Stopped`, the one that has, and whether that was said."""

    installed = False
    received: int | None = None
    said = False


@contextmanager
def stoppable() -> Generator[None]:
    """From here on a signal raises `Stopped`; when the block ends so, the process does.

    For a command's whole work, in the main thread. Forked processes have the usual handlers.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    os.register_at_fork(after_in_child=_uninstall)
    atexit.register(_end)  # before all others, so that it is called behind them
    _State.installed, _State.received, _State.said = True, None, False
    for number in SIGNALS:
        signal.signal(number, _raise)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    try:
        yield
    except BaseException as error:
        stopped = stopped_by(error)
        if stopped is None:
            raise
        _say(stopped)
        sys.exit(stopped.code)
    _uninstall()


def stopped_by(error: BaseException) -> Stopped | None:
    """The signal behind an error, whatever a library has made of it; None without one."""
    if isinstance(error, Stopped):
        return error
    if _State.received is not None:
        return Stopped(_State.received)
    return Stopped(signal.SIGINT) if isinstance(error, KeyboardInterrupt) else None


def _raise(number: int, frame: FrameType | None) -> None:
    if _State.received is None:  # a second one does not interrupt what the first has set off
        _State.received = number
        raise Stopped(number)


def _watch(reader: int) -> None:
    """Ends the process some seconds after a signal, wherever it is then."""
    while (number := os.read(reader, 1)[0]) not in SIGNALS:
        continue
    time.sleep(PATIENCE)
    stopped = Stopped(number)
    _say(stopped)
    os._exit(stopped.code)


def _end() -> None:
    """Ends the process without taking down the interpreter, which takes seconds."""
    if _State.received is not None:
        with suppress(OSError):  # nobody reads
            sys.stdout.flush()
        os._exit(Stopped(_State.received).code)


def _say(stopped: Stopped) -> None:
    if not _State.said:
        _State.said = True
        with suppress(OSError):  # nobody listens
            os.write(2, f"\n{stopped}\n".encode())


def _uninstall() -> None:
    """The handlers that a Python process begins with."""
    if _State.installed:
        _State.installed, _State.received = False, None
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
