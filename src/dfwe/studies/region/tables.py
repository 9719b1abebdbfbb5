"""A study of regions, or a survey, as tables of what its `results.json` contains."""

from collections.abc import Mapping, Sequence

import numpy as np

from dfwe.reporting.table import Table
from dfwe.reporting.terminal import DASH, points
from dfwe.studies.region.contents import (
    CurvesResults,
    GeometryResults,
    OddsResult,
    PathsResults,
    StudyResults,
    SurveyResults,
    TransferResult,
)
from dfwe.studies.region.geometry import mean_cosine
from dfwe.studies.region.points import REACH
from dfwe.studies.region.statistics import t_interval

NAMED = 6  # checkpoints in a sentence
PLACES = {"first": "first token", "mean": "mean"}  # where a probe reads


def tables(study: StudyResults) -> list[Table]:
    """The tables of what a study has computed so far."""
    computed: list[Table] = []
    if geometry := study["geometry"]:
        computed += [clusters(geometry), similarity(geometry)]
    if paths := study["paths"]:
        computed += [odds(paths), gains(paths), between(paths)]
    if starts := study["transfer"]:
        computed.append(transfer(starts))
    return computed


def answer(study: StudyResults) -> str:
    """What a study shows so far, in a sentence or three."""
    said: list[str] = []
    if geometry := study["geometry"]:
        near = geometry["cosine"]
        inside = float(np.mean([row[name] for name, row in near.items()]))
        across = [x for name, row in near.items() for other, x in row.items() if other != name]
        apart = f", across datasets {np.mean(across):.2f}" if across else ""
        said.append(
            f"Models fine-tuned on one dataset changed in one direction: mean cosine {inside:.2f} "
            f"inside a dataset{apart}."
        )
    if paths := study["paths"]:
        mixed = [
            row["p"]
            for row in paths[0]["odds"]
            if row["level"] == "dataset" and row["a"] == "In'" and row["b"] == "In"
        ]
        if mixed:
            said.append(
                f"A random mixture of a dataset's models has a lower loss than one of them in "
                f"{np.mean(mixed):.0%} of pairs."
            )
    for row in study["transfer"] or ():
        if row["dataset"] == "all" and row["start"] == "centroid" and row["low"] is not None:
            size = "all" if row["size"] is None else str(row["size"])
            said.append(
                f"Training that starts from a centroid of other datasets' models ends "
                f"{row['gain']:+.2f} points from one that starts from the pretrained model "
                f"({row['low']:+.2f} to {row['high']:+.2f}; {size} rows)."
            )
    return " ".join(said) or "Nothing is computed yet."


def survey_answer(survey: SurveyResults) -> str:
    """Which checkpoints belong together, in one sentence."""
    number, found = len(survey["labels"]), survey["regions"]
    if not found:
        return f"None of the {number} checkpoints belong together: averaging them is a risk."
    if not survey["clear"]:
        return (
            f"There are no clear regions: any two of the {number} checkpoints are about equally "
            "alike, so that dev has to decide which to average."
        )
    largest = found[0]["average"]
    names = ", ".join(largest[:NAMED]) + (", ..." if len(largest) > NAMED else "")
    rest = len(survey["outliers"])
    return (
        f"Of {number} checkpoints, {number - rest} lie in {len(found)} "
        f"{'region' if len(found) == 1 else 'regions'}; the {len(largest)} of the largest "
        f"({names}) can be averaged." + (f" {rest} stand apart." if rest else "")
    )


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


def odds(paths: Sequence[PathsResults]) -> Table:
    """P_B(A, B), a row a group, at each readout."""
    rows = paths[0]["odds"]
    pairs = list(dict.fromkeys((row["a"], row["b"]) for row in rows))
    by_group = {
        (place, row["level"], row["group"], row["a"], row["b"]): row
        for place, part in zip(_places(paths), paths, strict=True)
        for row in part["odds"]
    }
    cells = [
        [
            f"family {group}" if level == "family" else str(group),
            *(
                _odds(by_group.get((place, level, group, a, b)))
                for a, b in pairs
                for place in _places(paths)
            ),
        ]
        for level, group in dict.fromkeys((row["level"], row["group"]) for row in rows)
    ]
    note = (
        "P_B(A, B): how often a model of A has a lower generalised loss than one of B, with 95 % "
        "intervals. In: the group's models. In': random convex combinations of them. Ex: models "
        f"of other datasets; in the last row, the pretrained model moved at random.{_read(paths)}"
    )
    columns = ["group", *(f"{a} over {b}{place}" for a, b in pairs for place in _places(paths))]
    return Table(
        "Which models have the lower loss",
        columns,
        cells,
        note=note,
        name="odds",
        last=len({row["group"] for row in rows if row["level"] == "general"}),
        brief=["group", *(f"{a} over {b}" for a, b in pairs[:3])],
    )


def gains(paths: Sequence[PathsResults]) -> Table:
    """By dataset, how far each group's loss lies below the pretrained model's, at each readout."""
    losses = dict(zip(_places(paths), (_by_dataset(part["odds"]) for part in paths), strict=True))
    datasets = list(losses[""])
    columns: dict[str, list[str]] = {"dataset": [*datasets, "all"]}
    for name in ("In", "In'", "Ex"):
        for place, loss in losses.items():
            known = {d: loss[d]["pretrained"] - loss[d][name] for d in datasets if name in loss[d]}
            cells = [f"{known[d]:+.3f}" if d in known else DASH for d in datasets]
            columns[f"{name}{place}"] = [*cells, _mean(list(known.values()))]
    for place, loss in losses.items():
        values = [loss[dataset]["pretrained"] for dataset in datasets]
        columns[f"pretrained{place}"] = [f"{value:.3f}" for value in [*values, np.mean(values)]]
    note = (
        "How far the mean generalised loss of a group lies below the pretrained model's, in nats, "
        "and that loss. All: the mean over datasets, with its 95 % interval by Student's t."
        f"{_read(paths)}"
    )
    return Table(
        "Gain over the pretrained model",
        list(columns),
        list(zip(*columns.values(), strict=True)),
        last=1,
        note=note,
        name="gains",
        brief=list(columns)[: 1 + len(paths)],
    )


def _by_dataset(rows: Sequence[OddsResult]) -> dict[str, dict[str, float]]:
    """Dataset -> group of models -> mean loss."""
    losses: dict[str, dict[str, float]] = {}
    for row in (row for row in rows if row["level"] == "dataset"):
        pair = {row["a"]: row["loss_a"], row["b"]: row["loss_b"]}
        losses.setdefault(row["group"], {}).update(pair)
    return losses


def _mean(gains: Sequence[float]) -> str:
    """A mean with its interval, where there are several values."""
    if not gains:
        return DASH
    mean, (low, high) = t_interval(gains)
    return f"{mean:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")


def between(paths: Sequence[PathsResults]) -> Table:
    """Generalised loss between two models, and where the line beyond them breaks."""
    ways = [part["curves"][way] for part in paths for way in ("line", "extrapolation")]
    kinds = [kind for way in ways for kind in way]
    rows = [
        [kind, *(cell for part in paths for cell in _line(part["curves"], kind))]
        for kind in dict.fromkeys(kinds)
    ]
    note = (
        "Loss in nats, a mean over pairs. A line from t = 0 through t = 1 breaks at the first t "
        f"beyond at which it is worse than the pretrained model; one t a line.{_read(paths)}"
    )
    names = ("ends", "middle", "breaks at t")
    return Table(
        "Between two models and beyond",
        ["pair", *(f"{name}{place}" for place in _places(paths) for name in names)],
        rows,
        note=note,
        name="lines",
        brief=("pair", *names),
    )


def _line(curves: CurvesResults, kind: str) -> list[str]:
    """Losses of a line's ends and middle, and where it breaks."""
    on = curves["line"][kind]["points"] if kind in curves["line"] else []
    middle = min(on, key=lambda row: abs(row["t"] - 0.5), default=None)
    ends = float(np.mean([on[0]["mean"], on[-1]["mean"]])) if on else None
    beyond = curves["extrapolation"].get(kind)
    broken = [] if beyond is None else beyond.get("breaks", [])
    return [
        points(ends),
        points(None if middle is None else middle["mean"]),
        ", ".join(f"> {REACH:g}" if t is None else f"{t:.3g}" for t in broken) or DASH,
    ]


def _places(paths: Sequence[PathsResults]) -> list[str]:
    """What a column's name ends in, for each readout; nothing for the model's."""
    return ["", *(f", {PLACES[part['readout']]}" for part in paths[1:])]


def _read(paths: Sequence[PathsResults]) -> str:
    """A sentence on the readouts, where there are two."""
    if len(paths) == 1:
        return ""
    return f" Probes read the {PLACES[paths[0]['readout']]} of the tokens, or the first token."


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
                known = row["low"] is not None
                noise = f" ({row['low']:+.2f} to {row['high']:+.2f})" if known else ""
                line.append(f"{row['gain']:+.2f}{noise}")
        cells.append(line)
    columns = [
        "dataset",
        "rows",
        first,
        *(name for start in others for name in (start, f"{start}: gain")),
    ]
    note = (
        f"Mean test score ± standard deviation over seeds; gains over the {first} start, paired "
        "by seed, with 95 % intervals, of the last rows over datasets. Rows of training: all are "
        "those that corpus.limit leaves."
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
    advice = "Average the checkpoints of a region; leave outliers out."
    if region_of and not survey["clear"]:
        advice = "No clear regions: let dev decide which checkpoints to average."
    note = (
        f"{advice} The most similar others, with their cosine, are the experts to give DFWE for a "
        "target."
    )
    return Table("Checkpoints", columns, rows, note=note, name="sources", brief=columns[:3])


def _odds(row: OddsResult | None) -> str:
    if row is None:
        return DASH
    noise = "" if row["low"] is None else f" ({row['low']:.2f}-{row['high']:.2f})"
    return f"{row['p']:.2f}{noise}"


def _with_values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items()) or DASH
