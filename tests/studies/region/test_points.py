"""Lines, hulls, noise and P_B against hand counts."""

import numpy as np
import pytest
import torch

from dfwe.studies.region.config import Settings
from dfwe.studies.region.points import (
    breaks,
    centroid,
    extrapolation,
    groups,
    hulls,
    interior,
    line,
    lines,
    perturbed,
    singles,
)
from dfwe.studies.region.statistics import (
    better,
    better_interval,
    curves,
    mean_interval,
    odds,
    t_interval,
)

OWNERS = ("a", "a", "b", "b", "c", "c")
SETTINGS = Settings(
    seeds=(0, 1),
    families={"f": ("a", "b")},
    interior=3,
    perturbed=2,
    pairs=2,
    points=3,
    extrapolation=1,
    steps=4,
)


def test_p_b_is_the_share_of_pairs():
    assert better([1, 2], [3, 4]) == 1.0
    assert better([1, 5], [3, 4]) == 0.5
    assert better([1, 3], [3, 4]) == (1 + 1 + 0.5 + 1) / 4  # a tie counts half
    assert better([np.inf], [1.0]) == 0.0
    assert better([2], [1, 2, 3]) == 1 - better([1, 2, 3], [2])


def test_p_b_of_rows_is_that_of_each_row():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 4, (5, 3)), rng.integers(0, 4, (5, 6))
    pairs = np.sign(b[:, None, :] - a[:, :, None])
    assert better(a, b) == pytest.approx((1 + pairs.mean((1, 2))) / 2)


def test_intervals_hold_what_they_are_of():
    rng = np.random.default_rng(0)
    a, b = rng.normal(0, 1, 40), rng.normal(0.5, 1, 40)
    low, high = better_interval(a, b)
    assert low < better(a, b) < high
    assert better_interval([1, 2], [3, 4]) == (1.0, 1.0)
    mean, (low, high) = mean_interval(a)
    assert mean == pytest.approx(a.mean())
    assert low == pytest.approx(mean - 1.96 * a.std() / 40**0.5, abs=0.1)
    assert high == pytest.approx(mean + 1.96 * a.std() / 40**0.5, abs=0.1)


def test_a_single_value_has_no_interval():
    """Commit 60dbe5b: one from it to itself."""
    nothing = (None, None)
    assert mean_interval([2.0]) == t_interval([2.0]) == (2.0, nothing)
    assert better_interval([1], [2]) == nothing
    assert better_interval([1, 3], [2]) == (0.0, 1.0)  # the one model as it is


def test_a_line_goes_through_both_models_and_beyond():
    alphas = line(4, 0, 2, [0, 0.25, 1, 3])
    assert alphas.tolist() == [[1, 0, 0, 0], [0.75, 0, 0.25, 0], [0, 0, 1, 0], [-2, 0, 3, 0]]
    t = extrapolation(10, 32)
    assert (t[0], t[9], t[10], t[-1]) == pytest.approx((-31, 0, 1, 32))
    assert np.log(t[11:] / t[10:-1]).std() == pytest.approx(0, abs=1e-12)  # log steps
    assert (1 - t[:10][::-1]) == pytest.approx(t[10:])


def test_a_hull_is_the_members_alone_on_the_simplex():
    alphas = interior(6, [1, 4], 50, seed=0)
    assert alphas.sum(1) == pytest.approx(np.ones(50))
    assert (alphas >= 0).all()
    assert not alphas[:, [0, 2, 3, 5]].any()
    assert centroid(4, [0, 3]).tolist() == [0.5, 0, 0, 0.5]


def test_noise_moves_a_base_by_the_norm_asked_for():
    base = torch.arange(1000.0)
    one, other = perturbed(base, 3.0, 0), perturbed(base, 3.0, 1)
    assert float((one - base).norm()) == pytest.approx(3.0, rel=1e-4)
    assert not torch.equal(one, other)
    assert torch.equal(one, perturbed(base, 3.0, 0))


def test_a_line_breaks_where_it_first_gets_worse_than_the_limit():
    assert breaks([-2, 0, 1, 2, 4], [9, 1, 1, 2, 5], 3) == 4
    assert breaks([1, 2], [1, 1], 3) is None
    assert breaks([1, 2], [1, np.inf], 3) == 2


def test_points_cover_each_group_once():
    assert groups("abc", SETTINGS) == {
        "dataset": {"a": ("a",), "b": ("b",), "c": ("c",)},
        "family": {"f": ("a", "b")},
        "general": {"all": ("a", "b", "c")},
    }
    points = [p for part in (singles, hulls, lines) for p in part(OWNERS, "abc", SETTINGS)]
    assert len({p.name for p in points}) == len(points)
    assert {k: sum(p.kind == k for p in points) for k in ("in", "interior", "noise")} == {
        "in": 6,
        "interior": 3 * 5,
        "noise": 2,
    }
    same = [p for p in points if p.kind == "line" and p.group == "same dataset"]
    assert len(same) == 2 * 3
    assert all(len(p.probes) == 1 for p in same)
    across = [p for p in points if p.kind == "extrapolation" and p.group == "across"]
    assert [p.t for p in across] == pytest.approx(extrapolation(4, 32).tolist())


def test_tables_are_hand_counts():
    points = [p for part in (singles, hulls, lines) for p in part(OWNERS, "abc", SETTINGS)]
    losses = {(p.name, d): 5.0 for p in points for d in p.probes}
    for i, owner in enumerate(OWNERS):
        losses[f"in/{i}", owner] = 1.0 + i % 2  # 1 and 2 on its dataset
    for k in range(3):
        losses[f"interior/dataset/a/{k}", "a"] = 1.5
    table = {(r.level, r.group, r.a, r.b): r for r in odds(points, losses, OWNERS, SETTINGS)}
    assert table["dataset", "a", "In'", "In"].p == 0.5
    assert table["dataset", "a", "In", "Ex"].p == 1.0
    assert table["dataset", "b", "In'", "In"].p == 0.0
    assert table["general", "all", "In", "Ex"].loss_a == pytest.approx((5 + 5 + 1.5) / 3)
    assert table["general", "all", "In", "pretrained"].p == 1.0
    across = curves("line", points, losses)["across"]
    assert [point.t for point in across.points] == [0, 0.5, 1]
    assert across.breaks is None
    assert curves("extrapolation", points, losses)["same dataset"].breaks == (None,)
