"""Where the models of a store lie: do DFWE's fine-tuned models cluster by target or by expert?

`python tools/stored_region.py STORE` looks at every fine-tuned model of the store's most used
pretrained model, and at the experts on a single task; nothing is trained or scored.
"""

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfwe.errors import UserError
from dfwe.pipeline.provenance import Provenance
from dfwe.pipeline.store import PROVENANCE, RECIPE, RECORD, WEIGHTS, StoredRecipe
from dfwe.stages.train import Train, TrainRecord
from dfwe.studies.region.backbones import backbone_row, load_backbone
from dfwe.studies.region.geometry import agreement, cosine, distances, gram, spectral, variance
from dfwe.training.freezing import backbone_prefix
from dfwe.weights.layout import Layout
from dfwe.weights.rows import stored_row
from dfwe.weights.space import row_of


@dataclass(frozen=True)
class Trained:
    """A trained model of the store."""

    folder: Path
    start: str  # the name of what it was trained from
    label: str
    target: str
    tasks: int


def trained(store: Path) -> dict[str, Trained]:
    """Name -> model, of those that were trained from another result and have their weights."""
    models: dict[str, Trained] = {}
    for path in sorted(store.glob(f"{Train.kind}-*/{RECIPE}")):
        recipe, folder = StoredRecipe.read(path), path.parent
        tasks = recipe.settings["train"]
        assert isinstance(tasks, dict)
        if recipe.parents and (folder / WEIGHTS).is_file():
            models[folder.name] = Trained(
                folder,
                recipe.parents[0],
                Provenance.read(folder / PROVENANCE).label,
                TrainRecord.read(folder / RECORD).monitor,
                len(tasks),
            )
    return models


def products(models: list[Trained], base: Path) -> np.ndarray:
    """Inner products (n, n) of the models' task vectors."""
    network, _ = load_backbone(base)
    layout, prefix = Layout.of(network), backbone_prefix(network)
    rows = (stored_row(m.folder) for m in models)
    thetas = [backbone_row(x, m.folder, layout, prefix) for x, m in zip(rows, models, strict=True)]
    return gram(thetas, row_of(network, layout))


def report(store: Path) -> None:
    """Prints how the store's models cluster.

    Raises:
        UserError: no expert was trained from a pretrained model of the store.
    """
    models = trained(store)
    experts = {name: m for name, m in models.items() if m.start not in models}
    if not experts:
        raise UserError(
            f"{store} has no expert that was trained from a pretrained model in it; name the "
            "store of a study whose base comes from stage=pretrain."
        )
    base = Counter(m.start for m in experts.values()).most_common(1)[0][0]
    experts = {name: m for name, m in experts.items() if m.start == base}
    tuned = [m for m in models.values() if m.start in experts]
    targets = sorted({m.target for m in tuned})
    tuned = sorted(tuned, key=lambda m: (m.target, m.label))
    inner = products(tuned, store / base)
    similar, apart = cosine(inner), distances(inner)
    print(f"{len(tuned)} fine-tuned models, {len(targets)} targets")
    for name, truth in (
        ("target", [m.target for m in tuned]),
        ("expert", [m.label for m in tuned]),
    ):
        clusters = agreement(spectral(similar, len(set(truth))).tolist(), truth)
        same = np.array([[a == b for a in truth] for b in truth])
        inside, across = same & ~np.eye(len(truth), dtype=bool), ~same
        print(
            f"by {name}: accuracy {clusters.accuracy:.2f}, F1 {clusters.f1:.2f}, "
            f"ARI {clusters.ari:.2f}; "
            f"cosine inside {similar[inside].mean():.2f}, across {similar[across].mean():.2f}; "
            f"distance {apart[inside].mean():.2f}, {apart[across].mean():.2f}"
        )
    for target in targets:
        members = [i for i, m in enumerate(tuned) if m.target == target]
        print(f"  {target}: {len(members)} models, variance {variance(inner, members):.2f}")
    single = sorted((m for m in experts.values() if m.tasks == 1), key=lambda m: m.label)
    between = cosine(products(single, store / base))
    print("cosine of experts on a single task")
    for m, row in zip(single, between, strict=True):
        print(f"  {m.label:12s} " + " ".join(f"{value:5.2f}" for value in row))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path)
    report(parser.parse_args().store)
