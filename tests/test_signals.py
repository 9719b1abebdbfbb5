"""A signal ends a command with one sentence and its code, whatever the command is doing."""

import os
import signal
import subprocess
import sys
import time

import pytest

SENTENCE = "Stopped by {}; the same command resumes where it was.\n"
BEGIN = """
import hashlib, os, signal, subprocess, sys, time
from dfwe import signals
from dfwe.signals import Stopped, stoppable
signals.PATIENCE = 0.3
def ready():
    print("ready", flush=True)
"""


@pytest.fixture
def stopped():
    """The outputs and the exit code of a script that gets a signal once it is ready."""

    def run(body, number=signal.SIGTERM, times=1):
        process = subprocess.Popen(
            [sys.executable, "-c", BEGIN + body],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        began = time.monotonic()
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.02)
        out, error = process.communicate(timeout=60)
        assert time.monotonic() - began < 5
        return out, error, process.returncode

    return run


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_it_ends_with_a_sentence_and_the_code_of_the_signal(stopped, number):
    body = """
with stoppable():
    try:
        ready()
        time.sleep(60)
    except Exception:
        print("taken for a failure")
    finally:
        print("in order")
"""
    out, error, code = stopped(body, number)
    assert (out, error) == ("in order\n", "\n" + SENTENCE.format(number.name))
    assert code == 128 + number


def test_a_second_signal_does_not_interrupt_what_the_first_has_set_off(stopped):
    body = """
with stoppable():
    try:
        ready()
        time.sleep(60)
    finally:
        time.sleep(0.15)
        print("in order")
"""
    out, error, code = stopped(body, times=4)
    assert (out, code) == ("in order\n", 143)
    assert error.count("Stopped by SIGTERM") == 1


@pytest.mark.parametrize(
    "work",
    [
        "hashlib.pbkdf2_hmac('sha512', bytes(9), bytes(9), 10**9)",
        "while True:\n        try: time.sleep(60)\n        except BaseException: pass",
    ],
    ids=["a long computation", "what swallows errors"],
)
def test_what_does_not_end_by_itself_is_ended(stopped, work):
    out, error, code = stopped(f"with stoppable():\n    ready()\n    {work}")
    assert (out, error, code) == ("", "\n" + SENTENCE.format("SIGTERM"), 143)


def test_what_ends_with_the_interpreter_is_ended_in_order_and_in_time(stopped):
    """An object whose removal takes long, as large models' does; what was said at the end."""
    body = """
import atexit
class Large:
    def __del__(self): time.sleep(60)
with stoppable():
    large = Large()
    atexit.register(print, "at exit")
    ready()
    time.sleep(60)
"""
    out, _, code = stopped(body)
    assert (out, code) == ("at exit\n", 143)


def test_an_error_that_a_library_makes_of_it_is_not_shown(stopped):
    body = """
with stoppable():
    try:
        ready()
        time.sleep(60)
    except BaseException:
        raise ImportError("cannot import name")
"""
    _, error, code = stopped(body)
    assert (error, code) == ("\n" + SENTENCE.format("SIGTERM"), 143)


def test_forked_processes_have_the_usual_handlers(stopped):
    """One that is ended, as multiprocessing does, tells its parent of no signal."""
    body = """
with stoppable():
    child = os.fork()
    if child == 0:
        time.sleep(60)
    time.sleep(0.1)
    os.kill(child, signal.SIGTERM)
    print(os.waitpid(child, 0)[1])
    time.sleep(0.5)
ready()
"""
    process = subprocess.run(
        [sys.executable, "-c", BEGIN + body], capture_output=True, text=True, check=False
    )
    assert (process.stdout, process.stderr, process.returncode) == ("15\nready\n", "", 0)


def test_other_errors_and_codes_are_as_they_are():
    for body, code in (("sys.exit(3)", 3), ("raise ValueError('x')", 1), ("pass", 0)):
        script = f"{BEGIN}\nwith stoppable():\n    {body}"
        command = [sys.executable, "-c", script]
        process = subprocess.run(command, capture_output=True, text=True, check=False)
        assert process.returncode == code
        assert "Stopped" not in process.stderr


def test_a_command_is_stopped_while_it_imports(tmp_path):
    """As soon as the first of the imports of the command line begins."""
    process = subprocess.Popen(
        [sys.executable, "-v", "-m", "dfwe.run", "--help"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "dfwe/cli.py" in line:
            break
    process.send_signal(signal.SIGTERM)
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 143
    assert SENTENCE.format("SIGTERM") in rest
    assert "Traceback" not in rest
