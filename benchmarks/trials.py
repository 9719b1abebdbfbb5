"""What a trial costs beside its score, the more of them there are: new, replayed, with answers.

`python benchmarks/trials.py` prints a table in Markdown; a search whose cost for each trial is
constant has the same milliseconds in every row. They are of processor time: waiting for the disk,
thrice a trial, comes to it. The last column is the memory that the record of the choice takes
beside the trials.
"""

import argparse
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from time import process_time

import numpy as np

from dfwe.data.dialogue import Example
from dfwe.search import Answers, Evaluation, Ledger, search
from dfwe.search.baselines import dirichlet
from dfwe.search.simplex import Strategy
from dfwe.stages.selection import selection_record
from dfwe.statistics.bootstrap import errors_from
from dfwe.tasks.answers import Label
from dfwe.tasks.metrics import Accuracy
from dfwe.tasks.task import Task

LABELS = ("anger", "joy", "neutral")
TASK = Task("moods", "moods", lambda *unused: [], Label(), [Accuracy()], 5, LABELS)


def examples(number: int) -> tuple[Example, ...]:
    """Of dialogues with ten lines each."""
    rng = np.random.default_rng(0)
    labels = rng.choice(LABELS, number).tolist()
    return tuple(
        Example(str(k), str(k // 10), "", "mood:", label, (label,), LABELS)
        for k, label in enumerate(labels)
    )


def scorer(dev: tuple[Example, ...]) -> Callable[[np.ndarray], Evaluation]:
    """Answers that depend on alpha, with the likelihood of every option."""
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(5, len(dev), len(LABELS)))
    golds = [LABELS.index(example.target) for example in dev]

    def score(alpha: np.ndarray) -> Evaluation:
        mixed = np.tensordot(alpha, logits, axes=1)
        likelihoods = mixed - np.log(np.exp(mixed).sum(axis=1, keepdims=True))
        texts = tuple(LABELS[k] for k in mixed.argmax(axis=1))
        gold = likelihoods[np.arange(len(dev)), golds].tolist()
        answers = Answers(texts, tuple(gold), tuple(map(tuple, likelihoods.tolist())))
        right = np.mean([text == e.target for text, e in zip(texts, dev, strict=True)])
        return Evaluation(100 * float(right), float(np.mean(gold)), answers=answers)

    return score


def one_by_one(n: int, trials: int) -> Strategy:
    """Random search that asks for one alpha at a time."""
    yield n
    for alpha in np.random.default_rng(0).dirichlet(np.ones(n), trials - n - 1):
        yield alpha[None]
    return None


def seconds(work: Callable[[], object]) -> float:
    began = process_time()
    work()
    return process_time() - began


def megabytes(work: Callable[[], object]) -> float:
    """The most memory that the work has at a time."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 1e6


def row(trials: int, dev: tuple[Example, ...]) -> tuple[list[float], float]:
    """Seconds of new trials one by one and in a batch, of a replay, of standard errors, of the
    record of the choice; the megabytes of the record."""
    score = scorer(dev)
    alphas = np.random.default_rng(0).dirichlet(np.ones(5), trials)
    alone = seconds(lambda: [score(alpha) for alpha in alphas])
    followed: list[float] = []

    def run(strategy: Strategy, path: Path) -> object:
        return search(
            strategy,
            score,
            ledger=Ledger(path),
            on_trial=lambda trial, best: followed.append(best.value),
        )

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trials.jsonl"
        new = seconds(lambda: run(one_by_one(5, trials), path))
        replay = seconds(lambda: run(one_by_one(5, trials), path))
        batch = seconds(
            lambda: run(dirichlet(5, evaluations=trials), Path(folder) / "batch.jsonl")
        )
        result = search(one_by_one(5, trials), score, ledger=path)
    errors = seconds(lambda: errors_from(TASK, result.trials, dev, result.best.index))
    assert len(followed) == 3 * trials

    def record() -> object:
        return selection_record(TASK, dev, result, "score")

    return [new - alone, batch - alone, replay, errors, seconds(record)], megabytes(record)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, nargs="+", default=[1000, 2500, 5000, 10000])
    parser.add_argument("--examples", type=int, default=50)
    options = parser.parse_args()
    dev = examples(options.examples)
    print("| trials | new, ms each | in one batch | replayed | errors | record | its memory, MB |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for trials in options.trials:
        times, memory = row(trials, dev)
        each = [f"{1000 * value / trials:.2f}" for value in times]
        print(f"| {trials:,} | {' | '.join(each)} | {memory:.0f} |")


if __name__ == "__main__":
    main()
