"""A whole search: ours against a state-dict sum and TLiDB's scoring of each alpha."""

import tempfile
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from friends import interleaved, network, row, spread, task_examples, tokenizer_of
from interpolate import ALPHA, make_experts, naive
from scoring import plain, tlidb

EXPERTS = 5


def rows(shape: str = "small", examples: int = 12, evaluations: int = 6) -> list[dict[str, Any]]:
    """Rows of a search on emory (cost is linear in evaluations), and of sharing dev."""
    from safetensors.torch import load_file

    from dfwe.data.tokenization import tokenize
    from dfwe.scoring.decoding import Greedy
    from dfwe.scoring.scorer import Scorer
    from dfwe.search.loop import search
    from dfwe.search.nelder_mead import nelder_mead
    from dfwe.weights.layout import flatten
    from dfwe.weights.loading import fuse_gelu
    from dfwe.weights.space import WeightSpace

    task, train = task_examples("emory", "train")
    task = replace(task, max_new_tokens=min(12, task.max_new_tokens))
    tokenizer, whole = tokenizer_of(train), task_examples("emory", "dev")[1]
    tokenized = tokenize(spread(whole, examples), tokenizer, max_input=512, max_target=128)
    eights = plain(tokenized, 8)
    net = fuse_gelu(network(shape))
    flatten(net)
    with tempfile.TemporaryDirectory() as folder:
        module, folders = make_experts(Path(folder), shape)
        space = WeightSpace.from_pretrained(folders)
        states = [load_file(path / "model.safetensors") for path in folders]

        def theirs(alpha: Any) -> float:
            naive(states, module, alpha)
            tlidb(module, eights, task.max_new_tokens)
            return 0.0

        with Scorer(net, tokenized, task, Greedy(), space=space) as ours:
            ways = {
                name: lambda score=score: search(
                    nelder_mead(EXPERTS, evaluations=evaluations), score
                )
                for name, score in (("ours", ours), ("tlidb", theirs))
            }
            seconds = interleaved(ways, rounds=1, warm=False)
        many = tokenize(spread(whole, 4 * examples), tokenizer, max_input=512, max_target=128)
        alone, shared = (candidate(space, net, many, task, workers) for workers in (1, 2))
    about = f"flan-t5-{shape} shape, {EXPERTS} experts, emory, greedy, fp32"
    return [
        row(
            "search/tlidb",
            seconds["ours"],
            seconds["tlidb"],
            f"{about}, {evaluations} evaluations, {examples} dev examples, one thread",
        ),
        row(
            "search/workers",
            shared,
            alone,
            f"{about}, a candidate on {len(many)} dev examples "
            "by two processes of one thread and by one, wall-clock",
        ),
    ]


def candidate(space: Any, net: Any, tokenized: Any, task: Any, workers: int) -> float:
    """Wall-clock seconds of a candidate, the better of two."""
    import numpy as np

    from dfwe.scoring.decoding import Greedy
    from dfwe.scoring.scorer import Scorer

    seconds = []
    with Scorer(net, tokenized, task, Greedy(), space=space, workers=workers) as scorer:
        for alpha in (ALPHA, ALPHA[::-1]):  # an alpha is scored once
            began = perf_counter()
            scorer(np.array(alpha))
            seconds.append(perf_counter() - began)
    return min(seconds)
