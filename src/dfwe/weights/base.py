"""theta_0 of checkpoints that a person brings: what they were fine-tuned from, as one of them."""

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from dfwe.errors import UserError
from dfwe.weights.adapters import read_checkpoint
from dfwe.weights.layout import Layout
from dfwe.weights.loading import config_of, family_of, load_network
from dfwe.weights.rows import Row, row_of
from dfwe.weights.space import WeightSpace

if TYPE_CHECKING:
    from torch import Tensor


def base_row(name: str | Path, like: str | Path) -> tuple[Row, frozenset[str]]:
    """The row of a base in the layout of a model that was fine-tuned from it.

    Args:
        name: of the base: a folder, a Hub id.
        like: the fine-tuned model.

    Returns:
        The row, and the names of the tensors that the base lacks, whose values are random: an
        encoder's head, where the base has none for as many labels.

    Raises:
        UserError: the base cannot be read so, or is of another architecture or size.
    """
    import torch

    base, tuned = read_checkpoint(name), read_checkpoint(like)
    kind, dtype = family_of(tuned), torch.float32
    if kind == "encoder":
        labels = config_of(tuned).num_labels
        loaded = load_network(base, kind, dtype=dtype, other_head=True, num_labels=labels)
    else:
        loaded = load_network(base, kind, dtype=dtype)
    return row_of(base, loaded), loaded.fresh


def check_base(name: str | Path, like: str | Path, layout: Layout) -> None:
    """Check that a model can be the base of checkpoints.

    Args:
        name: of the base.
        like: one of the checkpoints.
        layout: theirs.

    Raises:
        UserError: it cannot be read, or is of another architecture or size.
    """
    row, _ = base_row(name, like)
    shapes = dict(zip(row.layout.names, row.layout.shapes, strict=True))
    for tensor, shape in zip(layout.names, layout.shapes, strict=True):
        if shapes.pop(tensor, None) != shape:
            shapes[tensor] = shape
    if shapes:
        raise UserError(
            f"base={name} is of another architecture or size than {like} ('{min(shapes)}' differs)"
            "; name the model that the checkpoints were fine-tuned from."
        )


def theta_0(row: Row, missing: Collection[str], space: WeightSpace) -> "Tensor":
    """The base (P,), with the average of the space's rows where it has no values of its own."""
    theta = row.theta.clone() if missing else row.theta
    for name, start, stop, _ in space.layout.spans():
        if name in missing:
            rows = [expert[start:stop] for expert in space.rows]
            theta[start:stop] = sum(rows[1:], rows[0].clone()) / space.n
    return theta


def merged(
    rule: "Callable[[WeightSpace, Tensor], Tensor]",
    space: WeightSpace,
    base: "Tensor",
    missing: Collection[str],
) -> "Tensor":
    """A merge of the tensors that the base has; the others stay as they are in `base`, (P,).

    Args:
        rule: experts, theta_0 -> theta, as in `dfwe.weights.merge`.
        space: the experts.
        base: theta_0 (P,).
        missing: names of the tensors that no task vector has.
    """
    import torch

    if not missing:
        return rule(space, base)
    kept = [span for span in space.layout.spans() if span[0] not in missing]
    layout = Layout(tuple(name for name, *_ in kept), tuple(shape for *_, shape in kept))

    def shared(theta: "Tensor") -> "Tensor":
        return torch.cat([theta[start:stop] for _, start, stop, _ in kept])

    part = rule(WeightSpace([*map(shared, space.rows)], layout, space.labels), shared(base))
    theta, place = base.clone(), 0
    for _, start, stop, _ in kept:
        theta[start:stop] = part[place : place + stop - start]
        place += stop - start
    return theta
