"""Load: a large table from its file to token ids, and a long dialogue to prompts, peak memory.

Each size runs in a process of its own, which reports its processor seconds and its largest
resident memory: `python benchmarks/tables.py`, or `--table MEGABYTES --kind csv` and
`--turns NUMBER` for others.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np

LABELS = ("negative", "neutral", "positive")
WORDS = 8  # of a row, at least; at most five times as many
KINDS = ("jsonl", "csv")


def sentences(megabytes: int) -> Iterator[tuple[str, str]]:
    """Texts of 8 to 40 words with a label, about so many megabytes of a table."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfw"))
    lengths = rng.integers(2, 10, 5000)
    words = np.array(["".join(rng.choice(letters, n)) for n in lengths])
    size = 0
    while size < megabytes * 10**6:
        counts = rng.integers(WORDS, 5 * WORDS, 1000)
        drawn = words[rng.zipf(1.3, counts.sum()) % len(words)]
        for row, label in zip(
            np.split(drawn, counts.cumsum()[:-1]), rng.choice(LABELS, 1000), strict=True
        ):
            text = " ".join(row)
            size += len(text) + len(label) + 28
            yield text, str(label)


def write(folder: Path, megabytes: int, kind: str) -> None:
    """A table `mood` whose training split has so many megabytes; every other split has one row."""
    place = folder / "mood"
    place.mkdir(parents=True)
    with (place / f"train.{kind}").open("w") as file:
        if kind == "csv":
            file.write("text,label\n")
        for text, label in sentences(megabytes):
            row = (
                f"{text},{label}" if kind == "csv" else json.dumps({"text": text, "label": label})
            )
            file.write(f"{row}\n")


def read(folder: Path) -> int:
    """Read and tokenise the table, as a training does; how many tokens that gives."""
    from functools import partial

    from dfwe.data.table import TableCorpus, classification
    from dfwe.data.tokenization import tokenize
    from dfwe.pretraining.span_corruption import train_tokenizer
    from dfwe.tasks.answers import Label
    from dfwe.tasks.metrics import Accuracy
    from dfwe.tasks.task import Task

    words = [text for text, _ in sentences(1)]
    reader = partial(classification, context="text: {text}", prompt="Out of {labels}, it is")
    task = Task("mood", "mood", reader, Label(), [Accuracy()], 5, list(LABELS))
    corpus = TableCorpus("t", str(folder), ["mood"])
    examples = task.examples(corpus, "train")
    tokenizer: Any = train_tokenizer(words, 8000)
    cache = folder / "tokens"
    return tokenize(examples, tokenizer, max_input=512, max_target=8, cache=cache).tokens


def render(turns: int) -> int:
    """The emotion of every utterance of one dialogue of so many turns; how many examples."""
    from dfwe.data.dialogue import Dialogue, Turn
    from dfwe.data.friends import emotion

    title = "emotion"
    lines = tuple(
        Turn(
            ("Al",),
            f"well number {n} is what I said",
            {title: {"instance_id": f"t{n}", "label": "glad"}},
        )
        for n in range(turns)
    )
    return len(
        emotion([Dialogue("d", lines, {}, {title: {}})], title, ("glad", "sad"), "emotion:")
    )


def row(what: str, *arguments: str) -> str:
    """A row of the table: what a process of this script measured of itself."""
    command = [sys.executable, __file__, *arguments]
    found = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return f"| {what} | {found['seconds']:.3g} | {found['peak']:.2f} | {found['number']:,} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--table", type=int, nargs="*", default=[100, 500])
    parser.add_argument("--kind", choices=KINDS, default="jsonl")
    parser.add_argument("--turns", type=int, nargs="*", default=[250, 1000, 3000])
    parser.add_argument("--read", type=Path)
    parser.add_argument("--render", type=int)
    options = parser.parse_args()
    if options.read or options.render:
        number = read(options.read) if options.read else render(options.render)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(json.dumps({"seconds": process_time(), "peak": peak, "number": number}))
        return
    print("| what | processor seconds | peak, GiB | tokens or examples |\n|---|---:|---:|---:|")
    for size in options.table:
        with tempfile.TemporaryDirectory() as name:
            write(Path(name), size, options.kind)
            print(row(f"table of {size} MB ({options.kind})", "--read", name), flush=True)
    for turns in options.turns:
        print(row(f"dialogue of {turns:,} turns", "--render", str(turns)), flush=True)


if __name__ == "__main__":
    main()
