"""A split scored by several processes: two of one thread are faster than one of two threads."""

import multiprocessing
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any

import torch

from dfwe.data.batches import Batch
from dfwe.errors import UserError
from dfwe.scoring.scorer import Predictions

Predict = Callable[..., list[Predictions]]  # batches, then the request -> their predictions


class ParallelScorer:
    """Forked processes that predict every `workers`-th batch, this one being the first of them.

    They share what is memory-mapped, such as the experts' weights, and have a network of their
    own to write into. The answers do not depend on the number of processes. Used in a `with`.

    Args:
        predict: called in each process with its batches and the request.
        batches: on the CPU if there are several workers.
        workers: processes of one thread each; 1 forks none and leaves the threads as they are.
    """

    def __init__(self, predict: Predict, batches: Sequence[Batch], workers: int) -> None:
        workers = min(workers, len(batches))
        self.predict = predict
        self.parts = [list(batches[number::workers]) for number in range(workers)]
        self.threads = torch.get_num_threads()
        self.pipes: list[Connection] = []

    def __enter__(self) -> "ParallelScorer":
        if len(self.parts) > 1:
            torch.set_num_threads(1)  # before the fork: OpenMP's threads do not survive it
        context = multiprocessing.get_context("fork")
        for part in self.parts[1:]:
            here, there = context.Pipe()
            inherited = [*self.pipes, here]
            process = context.Process(
                target=_serve, args=(self.predict, part, there, inherited), daemon=True
            )
            with warnings.catch_warnings():  # Python 3.12 warns of forks beside other threads
                warnings.simplefilter("ignore", DeprecationWarning)
                process.start()
            there.close()
            self.pipes.append(here)
        return self

    def __exit__(self, *unused: object) -> None:
        for pipe in self.pipes:
            pipe.close()  # a worker ends when nobody is left to ask it
        self.pipes = []
        torch.set_num_threads(self.threads)

    def __call__(self, *request: Any) -> list[Predictions]:
        """Predictions of all batches.

        Raises:
            UserError: a worker is gone.
            RuntimeError: a prediction failed in a worker.
        """
        if not self.pipes:
            return self.predict(self.parts[0], *request)
        try:
            for pipe in self.pipes:
                pipe.send(request)
            answers = [_answer(self.predict, self.parts[0], request)]
            answers += [pipe.recv() for pipe in self.pipes]  # all: the next request starts anew
        except (EOFError, OSError):
            raise UserError(
                "A scoring process was ended, most likely for lack of memory; give "
                "the command again with fewer workers."
            ) from None
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        return [found for answer in answers for found in answer]


def _serve(
    predict: Predict, part: list[Batch], pipe: Connection, inherited: list[Connection]
) -> None:
    """Answer requests until the asking process closes its end or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the asking process says when to stop
    for other in inherited:  # else this copy of its end would keep a pipe open
        other.close()
    while True:
        try:
            request = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(predict, part, request))


def _answer(predict: Predict, part: list[Batch], request: Any) -> Any:
    """Predictions, or the error to raise in the asking process."""
    try:
        return predict(part, *request)
    except (UserError, MemoryError) as error:
        return error
    except Exception as error:  # in words: not every exception travels through a pipe
        return RuntimeError(f"{type(error).__name__}: {error}")
