"""Where the models of a store lie: do DFWE's fine-tuned models cluster by target or by expert?

`python benchmarks/region_store.py STORE` looks at every fine-tuned model of the store's most used
pretrained model, and at the experts on a single task; nothing is trained or scored.
"""

import argparse
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfwe.studies.region.backbones import backbone_row, load_backbone
from dfwe.studies.region.geometry import agreement, cosine, distances, gram, spectral, variance
from dfwe.weights.layout import Layout
from dfwe.weights.space import row_of


@dataclass(frozen=True)
class Made:
    """A trained model of the store."""

    folder: Path
    stage: str
    start: str  # the address of what it was trained from
    label: str
    target: str
    tasks: int


def trained(store: Path) -> dict[str, Made]:
    """Address -> model, of the stages experts and finetune."""
    found = {}
    for path in store.glob("*/recipe.json"):
        recipe, scores = json.loads(path.read_text()), path.with_name("scores.json")
        if recipe["stage"] in ("experts", "finetune") and recipe["parents"]:
            noted = json.loads(scores.read_text())
            found[recipe["address"]] = Made(
                path.parent,
                recipe["stage"],
                recipe["parents"][0],
                noted["label"],
                noted["monitor"],
                len(recipe["settings"]["train"]),
            )
    return found


def products(models: list[Made], base: Path) -> np.ndarray:
    """Inner products (n, n) of the models' task vectors."""
    network, _ = load_backbone(base)
    layout, prefix = Layout.of(network), f"{network.base_model_prefix}."
    return gram([backbone_row(m.folder, layout, prefix) for m in models], row_of(network, layout))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    store = parser.parse_args().store
    made = trained(store)
    experts = {address: m for address, m in made.items() if m.stage == "experts"}
    base = Counter(m.start for m in experts.values()).most_common(1)[0][0]
    experts = {address: m for address, m in experts.items() if m.start == base}
    tuned = [m for m in made.values() if m.start in experts]
    targets = sorted({m.target for m in tuned})
    tuned = sorted(tuned, key=lambda m: (m.target, m.label))
    held = products(tuned, store / base)
    similar, apart = cosine(held), distances(held)
    print(f"{len(tuned)} fine-tuned models, {len(targets)} targets")
    for name, truth in (
        ("target", [m.target for m in tuned]),
        ("expert", [m.label for m in tuned]),
    ):
        found = agreement(spectral(similar, len(set(truth))).tolist(), truth)
        same = np.array([[a == b for a in truth] for b in truth])
        inside, across = same & ~np.eye(len(truth), dtype=bool), ~same
        print(
            f"by {name}: accuracy {found.accuracy:.2f}, F1 {found.f1:.2f}, ARI {found.ari:.2f}; "
            f"cosine inside {similar[inside].mean():.2f}, across {similar[across].mean():.2f}; "
            f"distance {apart[inside].mean():.2f}, {apart[across].mean():.2f}"
        )
    for target in targets:
        mine = [i for i, m in enumerate(tuned) if m.target == target]
        print(f"  {target}: {len(mine)} models, variance {variance(held, mine):.2f}")
    single = sorted((m for m in experts.values() if m.tasks == 1), key=lambda m: m.label)
    between = cosine(products(single, store / base))
    print("cosine of experts on a single task")
    for m, row in zip(single, between, strict=True):
        print(f"  {m.label:12s} " + " ".join(f"{value:5.2f}" for value in row))


if __name__ == "__main__":
    main()
