"""Table 2 from finished runs: `python benchmarks/table2.py RESULTS.json ... > table.md`.

Adds to each run the test score of always giving the most frequent training answer, and the
scores that the paper published for Flan-T5-base.
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from dfwe.report.tables import markdown

CONF = Path(__file__).parents[1] / "conf"
ORDER = ("emory", "reading", "characters", "qa", "personality", "relations", "meld")
PUBLISHED = {  # arXiv 2307.03506, Table 2
    "emory": {"baseline": 31.167, "dfwe": 34.099},
    "reading": {"baseline": 57.093, "dfwe": 58.888},
    "characters": {"baseline": 62.366, "dfwe": 64.469},
    "qa": {"baseline": 39.758, "dfwe": 41.027},
    "personality": {"baseline": 53.818, "dfwe": 57.636},
    "relations": {"baseline": 37.699, "dfwe": 41.733},
    "meld": {"baseline": 48.037, "dfwe": 52.63},
}


def majority(task: str, corpus: str) -> float:
    """The test score, in points, of the most frequent answer in the training split."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"task={task}", f"corpus={corpus}"])
    read, data = (instantiate(part, _convert_="all") for part in (cfg.task, cfg.corpus))
    targets = Counter(example.target for example in read.examples(data, "train"))
    test = read.examples(data, "test")
    return read.score([targets.most_common(1)[0][0]] * len(test), test)["score"]


def main(paths: list[str]) -> None:
    rows: list[dict[str, Any]] = [json.loads(Path(path).read_text()) for path in paths]
    rows.sort(key=lambda row: ORDER.index(row["task"]))
    rows = [{**row, "majority": majority(row["task"], row["corpus"])} for row in rows]
    friends = all(row["corpus"] == "feta_friends" for row in rows)
    print(markdown(rows, PUBLISHED if friends else None))


if __name__ == "__main__":
    main(sys.argv[1:])
