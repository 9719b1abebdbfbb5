"""Synthetic dev splits for searches: accuracies whose expected value is known in closed form.

Example j is answered rightly at alpha when e_j + s w_j . (alpha - best) < g(alpha), with e_j and
w_j standard normal and g(alpha) = G - |B (alpha - best)|^2. So examples prefer different
mixtures, the dev accuracy is a step function, and the expected accuracy has the closed form
100 Phi(g(alpha) / sqrt(1 + s^2 |alpha - best|^2)) with its optimum at `best`; G = Phi^-1(0.8).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from statistics import NormalDist
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_ndtr, ndtr

from dfwe.search.evaluation import Answers, Evaluation

Floats = NDArray[np.float64]
Kind = Literal["interior", "edge", "flat", "few"]
KINDS: tuple[Kind, ...] = ("interior", "edge", "flat", "few")

TOP = NormalDist().inv_cdf(0.8)  # 80 points at the optimum
TASTE = 1.0  # s, how far examples differ in the mixture they prefer
CURVATURE = 1.9  # of B, of condition up to 3: the best expert is about 20 points below the optimum
INSIDE = 1.5  # the Dirichlet distribution's concentration of a flat landscape's optimum
FLAT = 2.0  # points of the best expert below the optimum of a flat landscape, as in real runs
USEFUL = 3  # experts of a landscape with few
HARM = 0.9  # of the others, in the direction that they share


@dataclass(frozen=True)
class Landscape:
    """A dev split and its population.

    Args:
        best: (n,), the optimum.
        bowl: (k, n), B.
        taste: s.
        e: (examples,).
        w: (examples, n).
    """

    best: Floats
    bowl: Floats
    taste: float
    e: Floats
    w: Floats

    def answers(self, alpha: Floats) -> NDArray[np.bool_]:
        """Which of the dev examples are answered rightly, (examples,)."""
        return self._margins(alpha) > 0

    def dev(self, alpha: Floats) -> float:
        """Accuracy on the dev examples, in points."""
        return 100.0 * float(np.mean(self.answers(alpha)))

    def log_likelihood(self, alpha: Floats) -> float:
        """Of the right answers on the dev examples, in nats: a probit whose margins are these."""
        likelihoods: Floats = log_ndtr(self._margins(alpha))
        return float(likelihoods.mean())

    def evaluation(self, alpha: Floats) -> Evaluation:
        """The accuracy with its answers, `right` or `wrong`, and the options' log-likelihoods."""
        margins = self._margins(alpha)
        right: Floats = log_ndtr(margins)
        wrong: Floats = log_ndtr(-margins)
        texts = tuple(RightOrWrong.texts[int(margin <= 0)] for margin in margins)
        options = tuple(zip(right.tolist(), wrong.tolist(), strict=True))
        answers = Answers(texts, tuple(right.tolist()), options)
        return Evaluation(self.dev(alpha), self.log_likelihood(alpha), answers=answers)

    def regret(self, alpha: Floats) -> float:
        """Points of expected accuracy below the optimum."""
        spread = sqrt(1.0 + self.taste**2 * float(np.sum((alpha - self.best) ** 2)))
        return 100.0 * float(ndtr(TOP) - ndtr(self._height(alpha) / spread))

    def _margins(self, alpha: Floats) -> Floats:
        return self._height(alpha) - self.taste * (self.w @ (alpha - self.best)) - self.e

    def _height(self, alpha: Floats) -> float:
        return TOP - float(np.sum((self.bowl @ (alpha - self.best)) ** 2))


class RightOrWrong:
    """What the options of a landscape's examples come to: the first is right."""

    texts: ClassVar[tuple[str, str]] = ("right", "wrong")

    def chosen(self, texts: Sequence[str]) -> NDArray[np.intp]:
        """The number of the option that each answer names, (examples,)."""
        return np.array([self.texts.index(text) for text in texts], dtype=np.intp)

    def smoothed(self, logits: Floats, temperature: float) -> Floats:
        """The expected accuracy in points, (c,), of logits (c, examples, 2)."""
        apart: Floats = expit((logits[..., 0] - logits[..., 1]) / temperature)
        return 100.0 * apart.mean(axis=1)


def landscape(kind: Kind, seed: int, n: int = 5, examples: int = 200) -> Landscape:
    """A landscape of one of these kinds, which its seed decides.

    Args:
        kind: `interior`: the optimum lies inside the simplex; `edge`: two weights are zero;
            `flat`: further inside, and the best expert is `FLAT` points below the optimum;
            `few`: `USEFUL` experts are in the optimum, and the others are worse in one direction.
        seed: of everything drawn.
        n: experts.
        examples: of dev.
    """
    # A trailing zero adds nothing to a seed: [seed, 0] would be the stream of the strategies'
    # `seed`, whose first draw would then be the optimum.
    rng = np.random.default_rng([1 + KINDS.index(kind), seed, 1])
    useful = USEFUL if kind == "few" else n
    shape = np.full(useful, INSIDE if kind == "flat" else 1.0)
    best = np.append(rng.dirichlet(shape), np.zeros(n - useful))
    if kind == "edge":
        best[rng.choice(n, 2, replace=False)] = 0.0
        best /= best.sum()
    turn, _ = np.linalg.qr(rng.normal(size=(n, n)))
    bowl = CURVATURE * rng.uniform(1 / 3, 1, size=n)[:, None] * turn
    if kind == "few":
        bowl = np.concatenate([bowl, HARM * (np.arange(n) >= useful).astype(float)[None]])
    e, w = rng.normal(size=examples), rng.normal(size=(examples, n))
    land = Landscape(best, bowl, TASTE, e, w)
    return flattened(land, FLAT) if kind == "flat" else land


def flattened(land: Landscape, gap: float) -> Landscape:
    """The landscape, drawn out so that its best expert is `gap` points below the optimum."""
    low, high = 0.0, 1.0
    for _ in range(50):
        scale = (low + high) / 2
        drawn = replace(land, bowl=scale * land.bowl, taste=scale * land.taste)
        below = min(drawn.regret(expert) for expert in np.eye(len(land.best)))
        low, high = (scale, high) if below < gap else (low, scale)
    return replace(land, bowl=low * land.bowl, taste=low * land.taste)
