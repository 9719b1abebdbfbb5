"""One colour an expert, told apart by the colour-blind."""

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from numpy.typing import ArrayLike

from dfwe.reporting.plots import COLOURS, colours

# Linear RGB as the colour-blind see it: Machado et al. (2009), severity 1.
SIGHT = {
    "trichromat": np.eye(3),
    "protanope": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranope": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
}
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def context(rgb: np.ndarray, sight: ArrayLike) -> np.ndarray:
    """sRGB (n, 3) -> CIE L*a*b* (n, 3), as seen through `sight`."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    t = np.clip(linear @ np.transpose(sight), 0, 1) @ XYZ.T / XYZ.sum(axis=1)
    x, y, z = np.where(t > 0.008856, np.cbrt(t), 7.787 * t + 16 / 116).T
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=1)


def test_colours_follow_the_order_of_first_appearance() -> None:
    labels = ["emory", "emory+sources", "meld", "qa", "reading"]
    assert list(colours(labels).values()) == list(COLOURS[:5])
    assert colours([*labels, *labels]) == colours(labels)
    assert colours(map(str, range(9)))["8"] == COLOURS[0]


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_can_be_told_apart(sight: str) -> None:
    seen = context(np.array([to_rgb(colour) for colour in COLOURS]), SIGHT[sight])
    apart = np.linalg.norm(seen[:, None] - seen, axis=-1)
    assert apart[~np.eye(len(seen), dtype=bool)].min() > 15  # CIE76; 2.3 is just noticeable
