"""What `results.json` of `stage=region` contains, of a study and of a survey."""

from typing import NotRequired, TypedDict

from dfwe.weights.readout import Readout


class GeometryResults(TypedDict):
    """Similarity of the task vectors, by the names of the datasets.

    Attributes:
        owners: the dataset of each model.
        labels: of the models, in the same order.
        families: of the models, in the same order.
        clusters: dataset or family -> accuracy, F1 and adjusted Rand index of spectral clusters;
            empty where there is nothing to tell apart.
        cosine: dataset -> dataset -> mean over pairs of models.
        norm: dataset -> mean norm of the task vectors.
        distance: dataset -> mean distance between its models, where it has several.
        variance: dataset, or `all` -> mean squared distance from the centroid.
        nearest: dataset -> the most similar ones, best first.
    """

    owners: list[str]
    labels: list[str]
    families: list[str]
    clusters: dict[str, dict[str, float]]
    cosine: dict[str, dict[str, float]]
    norm: dict[str, float]
    distance: dict[str, float]
    variance: dict[str, float]
    nearest: dict[str, list[str]]


class OddsResult(TypedDict):
    """A `losses.OddsRow`."""

    level: str
    group: str
    a: str
    b: str
    p: float
    low: float | None
    high: float | None
    loss_a: float
    loss_b: float


class CurveResults(TypedDict):
    """Loss along lines of one kind.

    Attributes:
        points: t, mean, low and high (nats) of each place, by t.
        breaks: of each line beyond its models, the t at which it breaks; None if it never does.
    """

    points: list[dict[str, float]]
    breaks: NotRequired[list[float | None]]


class CurvesResults(TypedDict):
    """Kind of pair -> loss along lines between two models, and beyond them."""

    line: dict[str, CurveResults]
    extrapolation: dict[str, CurveResults]


class PathsResults(TypedDict):
    """What the probes say at one readout: the model's, or the first token beside it."""

    readout: Readout
    odds: list[OddsResult]
    curves: CurvesResults


class TransferResult(TypedDict):
    """Test scores of one dataset (`all` pools them) and size from one start, in points.

    Attributes:
        size: training rows; None is all.
        sd: standard deviation over seeds; None of a single one.
        gain: on the pretrained start, with its 95 % interval, `low` to `high`; None of one run.
    """

    dataset: str
    size: int | None
    start: str
    mean: float
    sd: float | None
    gain: float
    low: float | None
    high: float | None


class GridModel(TypedDict):
    """A model of the grid: its label, address in the store and dev score in points."""

    label: str
    address: str
    dev: float


class StudyResults(TypedDict):
    """A study; None is what was not computed.

    Attributes:
        sources: dataset -> the experts to give DFWE for it as a target.
    """

    model: str
    corpus: str
    datasets: list[str]
    seeds: list[int]
    grid: list[GridModel]
    sources: dict[str, list[str]] | None
    geometry: GeometryResults | None
    paths: list[PathsResults] | None
    transfer: list[TransferResult] | None


class Region(TypedDict):
    """Checkpoints to average, and their mean squared distance from their centroid."""

    average: list[str]
    variance: float


class SurveyResults(TypedDict):
    """A survey of checkpoints.

    Attributes:
        regions: the largest first.
        outliers: checkpoints in no region.
        clear: whether the checkpoints fall into regions at all.
        sources: checkpoint -> the experts to give DFWE for a target of that name.
        labels: of the n checkpoints.
        cosine: (n, n), of the task vectors.
    """

    regions: list[Region]
    outliers: list[str]
    clear: bool
    sources: dict[str, list[str]]
    labels: list[str]
    cosine: list[list[float]]
