"""Does the corrected gain's lower bound hold, and the certificate its level? Truth is known here.

Example j of dialogue d is answered rightly at alpha when its difficulty, a standard normal that
is shared in half by the examples of d, is below

    h(alpha) - s w_j . (alpha - best),    h(alpha) = Phi^-1(0.8) - |B (alpha - best)|^2,

with w_j standard normal: examples prefer different mixtures, and the expected accuracy has a
closed form with its optimum of 80 points at `best`. B sets how steep the landscape is. In the
`null` landscape the left side is scaled so that every alpha is right in 80 % of all examples: no
choice gains anything. Nelder-Mead searches as `conf/search` declares it, ties by the margin.

`python benchmarks/coverage.py` writes the tables in docs/notes/selection.md.
"""

import argparse
import logging
import time
from dataclasses import dataclass
from itertools import product
from math import erf, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from dfwe.search.evaluation import Evaluation
from dfwe.search.loop import Result, search
from dfwe.search.nelder_mead import nelder_mead
from dfwe.statistics.counts import DialogueCounts, draw_dialogues
from dfwe.statistics.selection import DRAWS, Certificate, certify, choose, select
from dfwe.tasks.metrics import Accuracy
from friends import show

EXPERTS, PER_DIALOGUE = 5, 2
UNIFORM = EXPERTS  # the trial after the experts
DIALOGUES = (50, 100, 400)
LANDSCAPES = {"steep": 1.9, "flat": 0.6, "null": None}  # the size of B
TOP = NormalDist().inv_cdf(0.8)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """A dev split and its population.

    Args:
        best: (n,), the optimum.
        bowl: B, (n, n); None where every alpha is as good.
        difficulty: (m,), standard normal.
        taste: (m, n), the w of each example.
    """

    best: Floats
    bowl: Floats | None
    difficulty: Floats
    taste: Floats

    @classmethod
    def draw(cls, landscape: str, dialogues: int, seed: int) -> "World":
        rng = np.random.default_rng([1 + dialogues, seed, 1])
        best = rng.dirichlet(np.ones(EXPERTS))
        turn, _ = np.linalg.qr(rng.normal(size=(EXPERTS, EXPERTS)))
        scale = rng.uniform(1 / 3, 1, size=EXPERTS)[:, None]
        size = LANDSCAPES[landscape]
        shared, own = rng.normal(size=dialogues), rng.normal(size=(dialogues, PER_DIALOGUE))
        difficulty = ((shared[:, None] + own) / sqrt(2)).ravel()
        taste = rng.normal(size=(difficulty.size, EXPERTS))
        return cls(best, None if size is None else size * scale * turn, difficulty, taste)

    def margins(self, alpha: Floats) -> Floats:
        """How far each example is from being answered wrongly, (m,)."""
        move = alpha - self.best
        if self.bowl is None:
            return TOP - (self.difficulty + self.taste @ move) / sqrt(1.0 + move @ move)
        return TOP - np.square(self.bowl @ move).sum() - self.taste @ move - self.difficulty

    def points(self, alpha: Floats) -> float:
        """The expected accuracy."""
        if self.bowl is None:
            return 80.0
        move = alpha - self.best
        height = TOP - float(np.square(self.bowl @ move).sum())
        return 50.0 * (1.0 + erf(height / sqrt(2.0 * (1.0 + move @ move))))

    def search(self, without: NDArray[np.bool_] | None = None) -> Result:
        """Nelder-Mead on dev, or without some of its dialogues."""
        rows = slice(None) if without is None else ~np.repeat(without, PER_DIALOGUE)

        def score(alpha: Floats) -> Evaluation:
            margins = self.margins(alpha)[rows]
            return Evaluation(100.0 * (margins > 0).mean(), np.minimum(margins, 0).mean())

        return search(nelder_mead(EXPERTS), score)

    def counted(self, alphas: Floats) -> tuple[DialogueCounts, Floats]:
        """Right answers and log-likelihoods of each alpha and dialogue."""
        margins = np.stack([self.margins(alpha) for alpha in alphas])
        margins = margins.reshape(len(alphas), -1, PER_DIALOGUE)
        right = (margins > 0).sum(axis=2).astype(np.float64)
        sizes = np.full(right.shape[1], float(PER_DIALOGUE))
        sums = np.stack([right, np.broadcast_to(sizes, right.shape)], axis=2)
        return DialogueCounts((Accuracy(),), (sums,), sizes), np.minimum(margins, 0).sum(axis=2)


@dataclass(frozen=True)
class Repeat:
    """One dev split: gains in points, and certificates.

    Args:
        true: of the search's choice over the uniform average and over the best expert, (2,).
        dev: the same on dev.
        corrected: the same, corrected.
        bound: their lower bounds.
        not_to_do: other bounds of the gain over the uniform average, (3,).
        certified: by a search on half of dev, and by the replayed one, (2,).
        wrongly: certified without a true gain, (2,).
        smallest: the least gain that would be certified.
    """

    true: Floats
    dev: Floats
    corrected: Floats
    bound: Floats
    not_to_do: Floats
    certified: Floats
    wrongly: Floats
    smallest: float


def repeat(landscape: str, dialogues: int, seed: int) -> Repeat:
    """All of one dev split."""
    world = World.draw(landscape, dialogues, seed)
    result = world.search()
    alphas = np.stack([trial.alpha for trial in result.trials])
    counts, likelihoods = world.counted(alphas)
    truth = np.array([world.points(alpha) for alpha in alphas])
    dev = np.array([trial.value for trial in result.trials])
    best, everyone = result.best.index, range(len(alphas))
    baselines = [UNIFORM, int(dev[:EXPERTS].argmax())]
    selection = select(counts, likelihoods, everyone, baselines)
    replayed = certificate(world, result, dialogues)
    exact = certificate(world, world.search(without=test_half(dialogues)), dialogues)
    return Repeat(
        true=truth[best] - truth[baselines],
        dev=dev[best] - dev[baselines],
        corrected=np.array([gain.mean for gain in selection.gains]),
        bound=np.array([gain.at_least for gain in selection.gains]),
        not_to_do=other_bounds(counts, selection.chosen, best),
        certified=np.array([exact[0].holds, replayed[0].holds]),
        wrongly=np.array([test.holds and gain <= 0 for test, gain in (exact, replayed)]),
        smallest=exact[0].smallest,
    )


def other_bounds(counts: DialogueCounts, chosen: NDArray[np.intp], best: int) -> Floats:
    """The tenth of the left-out gains; the choice scored in its own resample; alpha fixed."""
    drawn = draw_dialogues(len(counts.sizes), DRAWS)
    left_out = (drawn == 0).astype(np.float64)
    inside, outside = np.empty(DRAWS), np.empty(DRAWS)
    for model in np.unique(chosen).tolist():
        rows = chosen == model
        inside[rows] = counts.score(model, drawn[rows])
        outside[rows] = counts.score(model, left_out[rows])
    uniform = counts.score(UNIFORM, drawn)
    gains = [
        outside - counts.score(UNIFORM, left_out),
        inside - uniform,
        counts.score(best, drawn) - uniform,
    ]
    return np.quantile(gains, 0.1, axis=1)


def test_half(dialogues: int) -> NDArray[np.bool_]:
    """The half of the dialogues that a certificate is about."""
    return np.random.default_rng(0).permutation(dialogues) < dialogues // 2


def certificate(world: World, result: Result, dialogues: int) -> tuple[Certificate, float]:
    """Of the trial that the other half prefers, and its true gain over the uniform average."""
    test = test_half(dialogues)
    alphas = np.stack([trial.alpha for trial in result.trials])
    counts, likelihoods = world.counted(alphas)
    others = (~test).astype(np.float64)[None]
    chosen = int(choose(counts, likelihoods, others, range(len(alphas)))[0])
    rows = counts.sums[0][:, test]
    found = certify(counts.metrics[0], rows[chosen], rows[UNIFORM], counts.sizes[test])
    return found, world.points(alphas[chosen]) - world.points(alphas[UNIFORM])


def tables(repeats: int) -> tuple[str, str]:
    """Of the gains, and of the certificates; a row a setting."""
    gains = [
        "| landscape, dialogues | gain over | true | dev | corrected | bound holds | width | "
        "tenth | in-resample | alpha fixed |",
        "|---|---|" + "---:|" * 8,
    ]
    certificates = [
        "| landscape, dialogues | certified | wrongly | could certify | replayed | wrongly |",
        "|---|" + "---:|" * 5,
    ]
    for setting in product(LANDSCAPES, DIALOGUES):
        rows = [repeat(*setting, seed) for seed in range(repeats)]
        column = {
            name: np.stack([np.asarray(getattr(row, name)) for row in rows])
            for name in Repeat.__dataclass_fields__
        }
        true, bound = column["true"], column["bound"]
        name = "{}, {}".format(*setting)
        for k, over in enumerate(("uniform average", "best expert")):
            means = [f"{column[key][:, k].mean():.2f}" for key in ("true", "dev", "corrected")]
            cells = [name, over, *means, percent(true >= bound, k)]
            cells.append(f"{(true - bound)[:, k].mean():.2f}")
            others = true[:, :1] >= column["not_to_do"]
            cells += [percent(others, j) if k == 0 else "" for j in range(3)]
            gains.append(f"| {' | '.join(cells)} |")
        tested = [percent(column[key], j) for j in (0, 1) for key in ("certified", "wrongly")]
        tested.insert(2, f"{column['smallest'].mean():.1f}")
        certificates.append(f"| {' | '.join([name, *tested])} |")
        print(gains[-2], gains[-1], certificates[-1], sep="\n", flush=True)
    return "\n".join(gains), "\n".join(certificates)


def percent(values: NDArray[np.generic], k: int) -> str:
    """The share of a column that is true."""
    return f"{100 * values[:, k].astype(np.float64).mean():.1f} %"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeats", type=int, default=2000, help="dev splits of each setting")
    repeats = parser.parse_args().repeats
    logging.disable(logging.WARNING)  # searches on small splits repeat their scores
    began = time.process_time()
    for name, table in zip(("gains", "certificates"), tables(repeats), strict=True):
        show("notes/selection.md", table, name)
    print(f"{time.process_time() - began:.0f} s of one core")


if __name__ == "__main__":
    main()
