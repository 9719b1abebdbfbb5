"""Serves dfwe's command: each request is a fork of this process, which has imported all once.

A request is a line of JSON on standard input (folder, arguments, files for the two outputs), the
answer a line with the exit code.
"""

import json
import os
import sys
import traceback

import lightning  # noqa: F401
import transformers  # noqa: F401
import wandb  # noqa: F401

import dfwe.studies.ensembling.results
import dfwe.studies.region.results  # noqa: F401
from dfwe.cli import main


def run(request):
    """The command in this process; returns its exit code."""
    os.chdir(request["folder"])
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


if __name__ == "__main__":
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            code = run(json.loads(line))
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()
