"""A study of regions, or a survey, as tables of what its `results.json` contains."""

from collections.abc import Mapping, Sequence

import numpy as np

from dfwe.reporting.table import Table
from dfwe.reporting.terminal import DASH, points
from dfwe.studies.region.contents import (
    CurvesResults,
    GeometryResults,
    OddsResult,
    StudyResults,
    SurveyResults,
    TransferResult,
)
from dfwe.studies.region.geometry import mean_cosine
from dfwe.studies.region.points import REACH


def tables(study: StudyResults) -> list[Table]:
    """The tables of what a study has computed so far."""
    computed: list[Table] = []
    if geometry := study["geometry"]:
        computed += [clusters(geometry), similarity(geometry)]
    if paths := study["paths"]:
        computed += [odds(paths["odds"]), between(paths["curves"])]
    if starts := study["transfer"]:
        computed.append(transfer(starts))
    return computed


def clusters(geometry: GeometryResults) -> Table:
    """How spectral clusters match datasets and families."""
    rows = [
        [f"by {kind}", *(f"{scores[key]:.2f}" for key in ("accuracy", "f1", "ari"))]
        for kind in ("dataset", "family")
        if (scores := geometry["clusters"][kind])
    ]
    note = f"Spectral clustering of {len(geometry['labels'])} task vectors; 1 is perfect."
    return Table("Clusters", ["models", "accuracy", "F1", "ARI"], rows, note=note, name="clusters")


def similarity(geometry: GeometryResults) -> Table:
    """A row a dataset: how alike its models are, how far they moved, who lies nearest."""
    near = geometry["cosine"]
    rows = [
        [
            name,
            f"{row[name]:.2f}",
            f"{np.mean([value for other, value in row.items() if other != name]):.2f}",
            f"{geometry['norm'][name]:.2f}",
            f"{geometry['variance'][name]:.2f}",
            _with_values({other: row[other] for other in geometry["nearest"][name]}),
        ]
        for name, row in near.items()
    ]
    note = (
        "Mean cosine of task vectors inside a dataset and across to others; norm of the task "
        "vectors; mean squared distance from the dataset's centroid. The nearest are the sources "
        "to give DFWE."
    )
    return Table(
        "Datasets",
        ["dataset", "inside", "across", "norm", "variance", "nearest"],
        rows,
        note=note,
        name="similarity",
        brief=("dataset", "inside", "across", "nearest"),
    )


def odds(rows: Sequence[OddsResult]) -> Table:
    """P_B(A, B), a row a group."""
    pairs = list(dict.fromkeys((row["a"], row["b"]) for row in rows))
    by_pair = {(row["level"], row["group"], row["a"], row["b"]): row for row in rows}
    cells = [
        [
            f"family {group}" if level == "family" else str(group),
            *(_odds(by_pair.get((level, group, a, b))) for a, b in pairs),
        ]
        for level, group in dict.fromkeys((row["level"], row["group"]) for row in rows)
    ]
    note = (
        "P_B(A, B): how often a model of A has a lower generalised loss than one of B, with 95 % "
        "intervals. In: the group's models. In': random convex combinations of them. Ex: models "
        "of other datasets; in the last row, the pretrained model moved at random."
    )
    columns = ["group", *(f"{a} over {b}" for a, b in pairs)]
    return Table(
        "Which models have the lower loss",
        columns,
        cells,
        note=note,
        name="odds",
        last=len({row["group"] for row in rows if row["level"] == "general"}),
        brief=columns[:4],
    )


def between(curves: CurvesResults) -> Table:
    """Generalised loss between two models, and where the line beyond them breaks."""
    rows: list[list[str]] = []
    for kind in dict.fromkeys([*curves["line"], *curves["extrapolation"]]):
        on = curves["line"][kind]["points"] if kind in curves["line"] else []
        middle = min(on, key=lambda row: abs(row["t"] - 0.5), default=None)
        ends = float(np.mean([on[0]["mean"], on[-1]["mean"]])) if on else None
        beyond = curves["extrapolation"].get(kind)
        broken = [] if beyond is None else beyond.get("breaks", [])
        rows.append(
            [
                kind,
                points(ends),
                points(None if middle is None else middle["mean"]),
                ", ".join(f"> {REACH:g}" if t is None else f"{t:.3g}" for t in broken) or DASH,
            ]
        )
    note = (
        "Loss in nats, a mean over pairs. A line from t = 0 through t = 1 breaks at the first t "
        "beyond at which it is worse than the pretrained model; one t a line."
    )
    return Table(
        "Between two models and beyond",
        ["pair", "ends", "middle", "breaks at t"],
        rows,
        note=note,
        name="lines",
    )


def transfer(rows: Sequence[TransferResult]) -> Table:
    """Test scores from each start, a row a dataset and size; the mean over datasets apart."""
    by_start = {(row["dataset"], row["size"], row["start"]): row for row in rows}
    first, *others = dict.fromkeys(row["start"] for row in rows)
    places = sorted(
        dict.fromkeys((row["dataset"], row["size"]) for row in rows),
        key=lambda place: place[0] == "all",
    )
    cells: list[list[str]] = []
    for dataset, size in places:
        line = [dataset, "all" if size is None else str(size)]
        for start in (first, *others):
            row = by_start[dataset, size, start]
            several = row["sd"] is not None  # runs
            spread = f" ± {row['sd']:.2f}" if several and dataset != "all" else ""
            line.append(points(row["mean"]) + spread)
            if start != first:
                noise = f" ({row['low']:+.2f} to {row['high']:+.2f})"
                line.append(f"{row['gain']:+.2f}" + (noise if several else ""))
        cells.append(line)
    columns = [
        "dataset",
        "rows",
        first,
        *(name for start in others for name in (start, f"{start}: gain")),
    ]
    note = (
        f"Mean test score ± standard deviation over seeds; gains over the {first} start, paired "
        "by seed, with 95 % intervals. Rows of training: all are those that corpus.limit leaves."
    )
    return Table(
        "Where training starts",
        columns,
        cells,
        note=note,
        name="transfer",
        last=sum(dataset == "all" for dataset, _ in places),
        brief=columns[:5],
    )


def regions(survey: SurveyResults) -> Table:
    """A survey's regions, from its `results.json`."""
    cosines, index = np.array(survey["cosine"]), survey["labels"].index
    rows: list[list[str]] = []
    for number, region in enumerate(survey["regions"], 1):
        members = [index(label) for label in region["average"]]
        rows.append(
            [
                str(number),
                str(len(members)),
                f"{mean_cosine(cosines, members):.2f}",
                f"{region['variance']:.3g}",
            ]
        )
    note = "Cosine: mean over pairs. Variance: mean squared distance from the centroid."
    return Table(
        "Regions", ["region", "checkpoints", "cosine", "variance"], rows, note=note, name="regions"
    )


def sources(survey: SurveyResults) -> Table:
    """A survey's checkpoints by region, each with the others to give DFWE."""
    cosines, index = survey["cosine"], survey["labels"].index
    region_of = {
        label: str(number)
        for number, region in enumerate(survey["regions"], 1)
        for label in region["average"]
    }
    columns = ["checkpoint", "region", "nearest", "second", "third"]
    rows: list[list[str]] = []
    for label in [*region_of, *survey["outliers"]]:
        near = [
            f"{other} {cosines[index(label)][index(other)]:.2f}"
            for other in survey["sources"][label]
        ]
        cells = [label, region_of.get(label, "outlier"), *near]
        rows.append([*cells, *[DASH] * (len(columns) - len(cells))])
    note = (
        "Average the checkpoints of a region; leave outliers out. The most similar others, with "
        "their cosine, are the experts to give DFWE for a target."
    )
    return Table("Checkpoints", columns, rows, note=note, name="sources", brief=columns[:3])


def _odds(row: OddsResult | None) -> str:
    return DASH if row is None else f"{row['p']:.2f} ({row['low']:.2f}-{row['high']:.2f})"


def _with_values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items()) or DASH
