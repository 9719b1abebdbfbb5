"""What a person waits for before `--help`: ours against importing what training needs."""

import subprocess
import sys
from typing import Any

from friends import interleaved, row

EAGER = "import torch, lightning, transformers.models.t5.modeling_t5, datasets, wandb"


def rows(rounds: int = 2) -> list[dict[str, Any]]:
    """Row of `python -m dfwe.run --help`; the interpreter's start counts on both sides."""

    def command(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, capture_output=True)

    ways = {
        "ours": lambda: command("-m", "dfwe.run", "--help"),
        "eager": lambda: command("-c", EAGER),
    }
    seconds = interleaved(ways, rounds)
    note = "against importing torch, lightning, transformers' T5, datasets, wandb"
    return [row("startup/help", seconds["ours"], seconds["eager"], note)]


if __name__ == "__main__":
    print(rows())
