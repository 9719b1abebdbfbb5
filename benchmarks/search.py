"""A whole search: ours against a state-dict sum and TLiDB's scoring of each alpha."""

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from friends import interleaved, network, row, spread, task_examples, tokenizer_of
from interpolate import make_experts, naive
from scoring import plain, tlidb

EXPERTS = 5


def rows(shape: str = "small", examples: int = 8, evaluations: int = 7) -> list[dict[str, Any]]:
    """Row of a search on emory; cost is linear in evaluations, so few say it."""
    from safetensors.torch import load_file

    from dfwe.model.batches import evaluation_batches
    from dfwe.model.decoding import Greedy
    from dfwe.model.encode import encode
    from dfwe.model.pretrained import fuse_gelu
    from dfwe.model.scoring import evaluate
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

        def ours(alpha: Any) -> Measure:
            space.write(alpha, net)
            found = evaluate(net, batches, encoded, task, Greedy())
            return Measure(found.score, found.loglik)

        def theirs(alpha: Any) -> float:
            naive(states, module, alpha)
            tlidb(module, eights, task.max_new_tokens)
            return 0.0

        ways = {
            name: lambda score=score: search(nelder_mead(EXPERTS, evaluations=evaluations), score)
            for name, score in (("ours", ours), ("tlidb", theirs))
        }
        seconds = interleaved(ways, rounds=1, warm=False)
    note = (f"flan-t5-{shape} shape, {evaluations} evaluations, {EXPERTS} experts, {examples} dev "
            "examples of emory, greedy, fp32, one thread")  # fmt: skip
    return [row("search/tlidb", seconds["ours"], seconds["tlidb"], note)]
