"""A step whose process is killed at a chosen point."""

import os
import signal
import warnings

from dfwe.pipeline.executor import compute


def compute_until_killed(step, context, owner, method, times):
    """Computes a step in a fork that is killed once a method has been called so often."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside other threads
        child = os.fork()
    if child == 0:
        called, run = [], getattr(owner, method)

        def last(*arguments):
            run(*arguments)
            called.append(True)
            if len(called) == times:
                os.kill(os.getpid(), signal.SIGKILL)

        setattr(owner, method, last)
        try:
            compute(step, context)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
