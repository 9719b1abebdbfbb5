"""A whole search: ours against a state-dict sum and TLiDB's scoring of each alpha."""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from friends import interleaved, network, row, spread, task_examples, tokenizer_of
from interpolate import make_experts, naive
from scoring import plain, tlidb

EXPERTS = 5


def rows(shape: str = "small", examples: int = 16, evaluations: int = 6) -> list[dict[str, Any]]:
    """Rows of a search on emory, by one process and by two; cost is linear in evaluations."""
    from safetensors.torch import load_file

    from dfwe.model.batches import evaluation_batches
    from dfwe.model.decoding import Greedy
    from dfwe.model.encode import encode
    from dfwe.model.pretrained import fuse_gelu
    from dfwe.model.scoring import predictions, summarise
    from dfwe.model.shards import Shards
    from dfwe.proposals.loop import Measure, search
    from dfwe.proposals.nelder_mead import nelder_mead
    from dfwe.weights.layout import flatten
    from dfwe.weights.space import WeightSpace

    task, train = task_examples("emory", "train")
    task = replace(task, max_new_tokens=min(12, task.max_new_tokens))
    dev = spread(task_examples("emory", "dev")[1], examples)
    encoded = encode(dev, tokenizer_of(train), max_input=512, max_target=128)
    batches, eights = evaluation_batches(encoded), plain(encoded, 8)
    net = fuse_gelu(network(shape))
    flatten(net)
    with tempfile.TemporaryDirectory() as folder:
        module, folders = make_experts(Path(folder), shape)
        space = WeightSpace.from_pretrained(folders)
        states = [load_file(path / "model.safetensors") for path in folders]

        def predict(part: Any, alpha: Any) -> Any:
            space.write(alpha, net)
            return predictions(net, part, encoded, task, Greedy())

        def ours(workers: int) -> None:
            with Shards(predict, batches, workers) as shards:

                def score(alpha: Any) -> Measure:
                    found = summarise(shards(alpha), encoded, task)
                    return Measure(found.score, found.loglik)

                search(nelder_mead(EXPERTS, evaluations=evaluations), score)

        def theirs() -> None:
            def score(alpha: Any) -> float:
                naive(states, module, alpha)
                tlidb(module, eights, task.max_new_tokens)
                return 0.0

            search(nelder_mead(EXPERTS, evaluations=evaluations), score)

        ways = {"ours": partial(ours, 1), "tlidb": theirs}
        seconds = interleaved(ways, rounds=1, warm=False)
        walls = {workers: _wall(partial(ours, workers)) for workers in (1, 2)}
    note = (f"flan-t5-{shape} shape, {evaluations} evaluations, {EXPERTS} experts, {examples} dev "
            "examples of emory, greedy, fp32")  # fmt: skip
    return [
        row("search/tlidb", seconds["ours"], seconds["tlidb"], f"{note}, one thread"),
        row("search/workers", walls[2], walls[1],
            f"{note}; two processes of one thread against one, wall-clock"),
    ]  # fmt: skip


def _wall(way: Any) -> float:
    began = perf_counter()
    way()
    return perf_counter() - began
