"""A split shared by several processes: two of one thread are faster than one of two threads."""

import multiprocessing
import os
import signal
import threading
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar, TypeVarTuple

import torch

from dfwe.data.batches import Batch
from dfwe.errors import UserError
from dfwe.signals import SIGNALS

Prediction = TypeVar("Prediction")
Request = TypeVarTuple("Request")


class Workers(Generic[Prediction, *Request]):
    """Forked processes that predict every `count`-th batch, this one being the first of them.

    They share what is memory-mapped, such as the experts' weights, and have a separate model
    to write into. The answers do not depend on the number of processes.

    Args:
        predict: called in each process with its batches and the request.
        count: processes of one thread each; 1 forks none and leaves the threads as they are.
    """

    def __init__(
        self, predict: Callable[[Sequence[Batch], *Request], list[Prediction]], count: int
    ) -> None:
        self.predict = predict
        self.count = count
        self.parts: list[Sequence[Batch]] = []
        self.threads = torch.get_num_threads()
        self.processes: list[BaseProcess] = []
        self.pipes: list[Connection[tuple[*Request], list[Prediction] | Exception]] = []

    @property
    def started(self) -> bool:
        return bool(self.parts)

    def start(self, batches: Sequence[Batch]) -> None:
        """Forks the processes."""
        count = min(self.count, len(batches))
        self.parts = [batches[number::count] for number in range(count)]
        self.threads = torch.get_num_threads()
        if count > 1:
            torch.set_num_threads(1)  # before the fork: OpenMP's threads do not survive it
        context = multiprocessing.get_context("fork")
        for part in self.parts[1:]:
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(self.predict, part, there), daemon=True)
            with warnings.catch_warnings():  # Python 3.12 warns of forks beside other threads
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            self.pipes.append(here)
            self.processes.append(process)

    def stop(self) -> None:
        """Ends the processes at once."""
        for pipe, process in zip(self.pipes, self.processes, strict=True):
            process.kill()
            process.join()
            process.close()
            pipe.close()
        self.pipes, self.processes, self.parts = [], [], []
        torch.set_num_threads(self.threads)

    def __call__(self, *request: *Request) -> list[Prediction]:
        """Predictions of all batches.

        Raises:
            UserError: a worker has ended.
            RuntimeError: a prediction failed in a worker.
        """
        if not self.pipes:
            return self.predict(self.parts[0], *request)
        try:
            for pipe in self.pipes:
                pipe.send(request)
            answers = [_answer(self.predict, self.parts[0], request)]
            answers += [pipe.recv() for pipe in self.pipes]  # all: the next request starts afresh
        except (EOFError, OSError):
            raise UserError(
                "A scoring process was ended, most likely for lack of memory; give the command "
                "again with fewer workers."
            ) from None
        predictions: list[Prediction] = []
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            predictions += answer
        return predictions


def _serve(
    predict: Callable[[Sequence[Batch], *Request], list[Prediction]],
    part: Sequence[Batch],
    pipe: "Connection[list[Prediction] | Exception, tuple[*Request]]",
) -> None:
    """Answers requests until the asking process ends this one, or has ended."""
    for number in SIGNALS:  # sent to all processes of a command; the asking one ends this one
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):  # the asking process has ended
        while True:
            pipe.send(_answer(predict, part, pipe.recv()))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _answer(
    predict: Callable[[Sequence[Batch], *Request], list[Prediction]],
    part: Sequence[Batch],
    request: tuple[*Request],
) -> list[Prediction] | Exception:
    """Predictions, or the error to raise in the asking process."""
    try:
        return predict(part, *request)
    except (UserError, MemoryError) as error:
        return error
    except Exception as error:  # in words: not every exception travels through a pipe
        return RuntimeError(f"{type(error).__name__}: {error}")
