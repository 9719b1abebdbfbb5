"""Serves dfwe's command: each request is a fork of this process, which has imported all once.

A request is a line of JSON on standard input (folder, arguments, environment, files for the two
outputs, a signal to send and when), the answer a line with the exit code and the seconds from the
signal on.
"""

import gc
import json
import os
import sys
import time
import traceback
from pathlib import Path

import lightning  # noqa: F401
import peft  # noqa: F401  # which transformers imports late
import transformers  # noqa: F401
import wandb  # noqa: F401

import dfwe.studies.ensembling.results
import dfwe.studies.region.results  # noqa: F401
from dfwe.run import main


def run(request):
    """The command in this process; returns its exit code."""
    os.chdir(request["folder"])
    os.environ.update(request["environment"])
    sys.path[:0] = request["environment"].get("PYTHONPATH", "").split(os.pathsep)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    sys.argv = ["dfwe", *request["arguments"]]
    try:
        main()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def interrupt(child, number, folder, pattern, text, times):
    """Sends a signal once a file in the folder has a text so many times; the time of that."""
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        found = [path.read_text().count(text) for path in Path(folder).glob(pattern)]
        if max(found, default=0) >= times:
            os.kill(child, number)
            break
        time.sleep(0.005)
    return time.monotonic()


if __name__ == "__main__":
    gc.freeze()  # the forks share these pages
    for line in sys.stdin:
        request = json.loads(line)
        if (child := os.fork()) == 0:
            code = run(request)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        began = interrupt(child, *request["signal"]) if "signal" in request else time.monotonic()
        _, status = os.waitpid(child, 0)
        answer = os.waitstatus_to_exitcode(status), time.monotonic() - began
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()
