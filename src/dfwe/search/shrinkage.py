"""Drawing a search's result toward the average, as far as cross-fitting prefers."""

from dfwe.search.evaluation import Alpha, Trial
from dfwe.search.loop import likeliest
from dfwe.search.simplex import Outcome, Strategy

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the average in the result


def drawn_in(alpha: Alpha, share: float) -> Alpha:
    """(1 - share) alpha + share / n, of the shape of alpha, (n,) or (g, n)."""
    return (1.0 - share) * alpha + share / alpha.shape[-1]


def shrunk(inner: Strategy, share: float) -> Strategy:
    """A strategy whose best alpha is drawn toward the average; that alone is its candidate.

    Args:
        inner: the strategy; the best of its candidates, or of all it proposed, is drawn in.
        share: of the average, 0..1; 0 leaves the result as it is.
    """
    trials: list[Trial] = []
    outcome = Outcome()
    try:
        request = next(inner)
        while True:
            evaluations = yield request
            trials += evaluations.trials
            request = inner.send(evaluations)
    except StopIteration as stop:
        outcome = stop.value or outcome
    if outcome.candidates is not None:
        candidates = {alpha.tobytes() for alpha in outcome.candidates}
        trials = [trial for trial in trials if trial.alpha.tobytes() in candidates]
    top = max(trial.value for trial in trials)
    best = likeliest([trial for trial in trials if trial.value == top])
    alphas = drawn_in(best.alpha, share)[None]
    yield alphas
    return Outcome(outcome.iterations, alphas)
