"""`results.json` as records: what a run's tables, card and files are written from."""

from dfwe.pipeline.record import Record

Named = dict[str, float] | dict[str, dict[str, float]]  # expert -> weight; or by group
Interval = tuple[float, float]  # 95 %, in points


class ModelScores(Record):
    """A model's scores, in points; None for what is not known yet."""

    dev: float | None
    test: float | None


class ExpertResult(ModelScores):
    """A fine-tuned expert or an imported checkpoint."""

    label: str
    address: str


class MixtureResult(ModelScores):
    """A mixture and its alpha by label."""

    alpha: Named | None


class DfweResult(MixtureResult):
    """DFWE's mixture, and what its search did."""

    evaluations: int | None
    iterations: int | None


class CrossFittedResult(Record):
    """The search on dialogues that it has not read, one alpha per fold."""

    score: float
    metrics: dict[str, float]
    alphas: list[Named]
    optimism: float
    evaluations: int


class MethodResult(Record):
    """A method of the comparison: its scores in points and its cost.

    Args:
        delta: test minus that of fine-tuning alone.
        interval: 95 % of `delta`.
    """

    name: str
    dev: float | None
    test: float
    delta: float
    interval: Interval
    seconds: float | None
    evaluations: int | None
    tokens: int | None
    flops: int | None


class Part(Record):
    """A part of the gain over fine-tuning, in points, and its 95 % interval."""

    delta: float
    interval: Interval


class Results(Record):
    """`results.json`: what the store has of a plan; None for what is not computed yet.

    Args:
        optimism: dev minus test of DFWE, in points.
        delta: test of DFWE minus test of the baseline, in points.
        methods: every method on test, with cost.
        interval: 95 % of `delta`.
        parts: what the gain consists of.
        seconds: by stage.
        model_dir: the final model's folder.
    """

    task: str
    seed: int
    model: str
    corpus: str
    sources: list[str]
    experts: list[ExpertResult]
    baseline: ModelScores
    uniform: ModelScores
    dfwe: DfweResult
    one_standard_error: MixtureResult
    likeliest: MixtureResult
    cross_fitted: CrossFittedResult | None
    optimism: float | None
    delta: float | None
    methods: list[MethodResult] | None
    interval: Interval | None
    parts: dict[str, Part] | None
    seconds: dict[str, float | None]
    model_dir: str | None
