"""`results.json` as records: what a run's tables, card and files are written from."""

from dfwe.pipeline.record import Array, Record

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


class TrainedResult(Record):
    """A model that a stage computes: what it is called, and its folder's name in the store.

    Args:
        stage: as in `stage=`.
        label: what tables call it.
        name: kind and address.
        monitor: the task whose dev score selected the epoch; None of a model without epochs.
        dev: that score, in points.
        best_epoch: the epoch that was kept, from 1.
        epochs: how many were trained.
    """

    stage: str
    label: str
    name: str
    monitor: str | None = None
    dev: float | None = None
    best_epoch: int | None = None
    epochs: int | None = None


class MixtureResult(ModelScores):
    """A mixture and its alpha by label."""

    alpha: Named | None


class DfweResult(MixtureResult):
    """DFWE's mixture, and what its search did.

    Args:
        dev_metrics: name -> points on dev, of what the score is the mean of.
        test_metrics: likewise on test.
        failed: candidates, those of the folds' searches too, that could not be scored.
        remeasured: trials that scored otherwise where the search was resumed (`resume=anyway`).
        remark: the strategy's, on how the search went.
    """

    evaluations: int | None
    iterations: int | None
    dev_metrics: dict[str, float | None] | None = None
    test_metrics: dict[str, float | None] | None = None
    failed: int = 0
    remeasured: int = 0
    remark: str | None = None


class CrossFittedResult(Record):
    """The search on dialogues that it has not read, one alpha per fold."""

    score: float
    metrics: dict[str, float]
    alphas: list[Named]
    optimism: float
    evaluations: int


class CertificateRecord(Record):
    """A one-sided sign test, on part of dev, of an alpha that the rest of dev chose.

    Args:
        metric: the share of right answers that it is about.
        alpha: (n,) or (g, n), what is certified: not the search's result.
        exact: whether the search that proposed it has not read this part (`search.folds`); a
            choice among trials that all of dev has steered tells too much.
        gain: over the baseline on this part, in points of the metric.
        wins: dialogues in which it is right more often than the baseline.
        losses: dialogues in which it is right less often.
        p: of the test.
        holds: whether p is small enough.
        smallest: the least gain in points that would hold, if an instance differs per dialogue.
    """

    metric: str
    alpha: Array
    exact: bool
    gain: float
    wins: int
    losses: int
    p: float
    holds: bool
    smallest: float


class CorrectedGain(Record):
    """The gain over a baseline on dialogues that the choice was not made on, in points.

    Args:
        trial: the baseline's index in the ledger.
        gain: the mean over resamples.
        at_least: its lower bound, with 90 %.
        certificate: None where there cannot be one.
    """

    trial: int
    gain: float
    at_least: float
    certificate: CertificateRecord | None


class SelectionResult(Record):
    """The search's choice repeated on resampled dialogues of dev, weights by label.

    Args:
        trials: those that a resample chose, the most frequent first.
        shares: of the resamples that chose each of `trials`.
        mean: of each expert's weight.
        low: its 5 % quantile.
        high: its 95 % quantile.
        score: on the dialogues left out, in points.
        over_uniform: the gain over the uniform average.
        over_best_expert: the gain over the expert that dev prefers.
        no_certificate: why there is no certificate.
    """

    trials: tuple[int, ...]
    shares: Array
    mean: Named
    low: Named
    high: Named
    score: float
    over_uniform: CorrectedGain
    over_best_expert: CorrectedGain
    no_certificate: str | None


class RefitResult(Record):
    """An expert trained on train and dev.

    Args:
        label: its name.
        epochs: that it was trained for; None of a model that is not trained.
        out_of_fold: the score on train and dev of the experts that it stands for, each trained
            without the fold that it answers for, in points.
        test: its own score, in points.
    """

    label: str
    epochs: int | None
    out_of_fold: float
    test: float | None


class KFoldResult(Record):
    """Experts trained on train and dev, mixed by the answers of experts trained without a fold.

    Args:
        folds: how many.
        alpha: of the mixture.
        out_of_fold: its score on train and dev, in points.
        test: its score, in points.
        experts: one by one.
        rank_correlation: Spearman's, of their scores out of fold and on test; None for fewer than
            three, before the test, and where all of one kind are equal.
    """

    folds: int
    alpha: Named
    out_of_fold: float
    test: float | None
    experts: list[RefitResult]
    rank_correlation: float | None


class MethodResult(Record):
    """A method of the comparison: its scores in points and its cost.

    Args:
        delta: test minus that of fine-tuning alone.
        interval: 95 % of `delta`; None of a test split of one dialogue.
    """

    name: str
    dev: float | None
    test: float
    delta: float
    interval: Interval | None
    seconds: float | None
    evaluations: int | None
    tokens: int | None
    flops: int | None


class Part(Record):
    """A part of the gain over fine-tuning, in points, and its 95 % interval, if there is one."""

    delta: float
    interval: Interval | None


class Results(Record):
    """`results.json`: what the store has of a plan; None for what is not computed yet.

    Args:
        settings: key -> value, of what the command set beside task, corpus, model and seed.
        models: every model of the plan that is stored.
        optimism: dev minus test of DFWE, in points.
        delta: test of DFWE minus test of the baseline, in points.
        methods: every method on test, with cost.
        interval: 95 % of `delta`.
        no_interval: why a `delta` has none.
        parts: what the gain consists of.
        k_fold: by the name of a control, what its folds came to.
        seconds: by stage.
        model_dir: the final model's folder.
    """

    task: str
    seed: int
    model: str
    corpus: str
    sources: list[str]
    settings: dict[str, str]
    models: list[TrainedResult]
    experts: list[ExpertResult]
    baseline: ModelScores
    uniform: ModelScores
    dfwe: DfweResult
    one_standard_error: MixtureResult
    likeliest: MixtureResult
    cross_fitted: CrossFittedResult | None
    selection: SelectionResult | None
    optimism: float | None
    delta: float | None
    methods: list[MethodResult] | None
    interval: Interval | None
    no_interval: str | None
    parts: dict[str, Part] | None
    k_fold: dict[str, KFoldResult]
    seconds: dict[str, float | None]
    model_dir: str | None
