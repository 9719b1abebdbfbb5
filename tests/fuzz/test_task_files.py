"""Task files, built as the command builds them, on a table and on dialogues of a few lines."""

import copy
import json
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import yaml
from fuzzing import junk, mutated, names, texts
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from plain_scores import compare, label_scores, text_scores

from dfwe.cli import _sentence
from dfwe.config import build_task, check_targets, config_folder
from dfwe.data.corpus import TLiDBCorpus
from dfwe.data.table import TableCorpus
from dfwe.errors import UserError

ROWS = [
    {"text": "a {fine} film", "pair": "it is", "label": "good", "mood": "calm"},
    {"text": "dull", "pair": "", "label": "bad", "mood": "so so"},
    {"text": "[b] & $x$", "pair": "ok\nthen", "label": "good", "mood": "so so"},
]
F1 = "dfwe.tasks.metrics.F1"
LABELLED = [{"_target_": F1, "average": x} for x in ("micro", "macro", "weighted")]
LABELLED.append({"_target_": "dfwe.tasks.metrics.Accuracy"})
FREE = [{"_target_": "dfwe.tasks.metrics.ExactMatch"}]
FREE += [{"_target_": "dfwe.tasks.metrics.TokenF1", "average": x} for x in ("macro", "micro")]


class Case(NamedTuple):
    """A task file, and what a model answered."""

    content: str
    answers: list[str]
    plain: dict | None = None  # the file as plain data, where it is a sound one on the table


@st.composite
def tasks(draw):
    """A task on the table, as plain data."""
    column = draw(st.sampled_from(["label", "mood"]))
    free = draw(st.booleans())
    filled = ["{text}", "{pair}", "{mood}", "{{x}}", ": ", "a", "%s", "${x"]
    pieces = st.sampled_from(filled if free else [*filled, "{labels}"])
    known = sorted({row[column] for row in ROWS})
    more = draw(st.lists(names(), max_size=2, unique_by=str.lower))
    labels = known + [name for name in more if name.lower() not in known]
    metrics = draw(
        st.lists(
            st.sampled_from(range(len(FREE if free else LABELLED))),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    read = {
        "_target_": f"dfwe.data.table.{'text' if free else 'classification'}",
        "_partial_": True,
        "context": "".join(draw(st.lists(pieces, min_size=1, max_size=4))).replace("${x", "x"),
        "prompt": "".join(draw(st.lists(pieces, max_size=3))).replace("${x", "x"),
        "answer" if free else "label": column,
    }
    answer = "FreeText" if free else "Label"
    return {
        "_target_": "dfwe.tasks.task.Task",
        "name": draw(names()).replace("${", "$"),
        "title": "films",
        "read": read,
        "labels": [] if free else [x.replace("${", "$") for x in draw(st.permutations(labels))],
        "answer": {"_target_": f"dfwe.tasks.answers.{answer}"},
        "max_new_tokens": draw(st.integers(1, 9)),
        "metrics": [(FREE if free else LABELLED)[number] for number in metrics],
    }


ANSWERS = st.lists(
    st.one_of(st.sampled_from(["good", "BAD", " calm ", "so so", "a fine film", ""]), texts()),
    min_size=len(ROWS),
    max_size=len(ROWS),
)


@st.composite
def sound(draw):
    task = draw(tasks())
    return Case(yaml.safe_dump(task, allow_unicode=True, sort_keys=False), draw(ANSWERS), task)


@cache
def shipped():
    """The package's task files, as plain data."""
    paths = sorted(Path(config_folder(), "task").glob("*.yaml"))
    return [yaml.safe_load(path.read_text()) for path in paths]


VALUES = st.one_of(
    junk(),
    texts(),
    st.sampled_from(["{", "{nowhere}", "tlidb", "${task.nowhere}", "${oc.env:NOWHERE}", "???"]),
    st.sampled_from([{"_target_": "os.getcwd"}, {"_target_": "dfwe.nowhere"}, [{"_target_": F1}]]),
    st.sampled_from([[{"_target_": F1, "average": "x"}], {"_target_": F1, "average": "micro"}]),
    st.sampled_from(["dfwe.tasks.answers.Labels", "dfwe.data.friends.emotion", F1]),
)


@st.composite
def unsound(draw):
    task = draw(st.one_of(tasks(), st.sampled_from(shipped()).map(copy.deepcopy)))
    task = draw(mutated(task, VALUES))
    content = yaml.safe_dump(task, allow_unicode=True, sort_keys=False)
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(content)))
        content = content[:at] + draw(texts()) + content[at:]
    return Case(content, draw(ANSWERS))


def judge(folder, case):
    """Its scores are those of plain code; of any other file, gold answers score 100."""
    try:
        config = OmegaConf.create(
            {"allow": [], "task": OmegaConf.create(yaml.safe_load(case.content))}
        )
        if not OmegaConf.is_dict(config.task):
            raise UserError("Hydra refuses it.")
        check_targets(config, [])
        task = build_task(config.task)
    except (yaml.YAMLError, OmegaConfBaseException) as error:
        raise UserError("Hydra refuses it.") from error
    except Exception as error:
        sentence = _sentence(error)
        if sentence is None:
            raise
        raise UserError(sentence) from error
    corpus = table(folder) if task.title == "films" else sample()
    examples = task.examples(corpus, "test")[:40]
    if case.plain is None:
        told = task.score([example.target for example in examples], examples)
        assert task.compatibility == "tlidb" or {*told.values()} == {100.0}
        return
    read, labels = case.plain["read"], case.plain["labels"]
    assert (task.name, task.max_new_tokens) == (case.plain["name"], case.plain["max_new_tokens"])
    for example, row in zip(examples, ROWS, strict=True):
        context, prompt = (rendered(read[key], row, labels) for key in ("context", "prompt"))
        assert example.source == (f"{context} {prompt}".lstrip() if prompt else context)
    column = read["label"] if labels else read["answer"]
    golds = [[row[column]] for row in ROWS]
    scores = task.score(case.answers, examples)
    if labels:
        compare(scores, label_scores(case.answers, golds, labels))
    else:
        compare(scores, text_scores(case.answers, golds))
    return True


def rendered(template, row, labels):
    """Each of the names in place; no column has braces in its name."""
    for mark, text in (("{{", "\0"), ("}}", "\1")):
        template = template.replace(mark, text)
    parts = {**row, "labels": " or ".join(labels)}
    pieces = template.replace("}", "{").split("{")
    text = "".join(parts[x] if number % 2 else x for number, x in enumerate(pieces))
    return text.replace("\0", "{").replace("\1", "}")


@cache
def table(folder):
    place = folder / "films"
    place.mkdir()
    (place / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return TableCorpus(
        "t", str(folder), ["films"], splits={x: "test" for x in ("train", "dev", "test")}
    )


@cache
def sample():
    return TLiDBCorpus("sample", "shipped:sample_corpus.zip")


def test_task_files_score_right_or_are_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("task files", partial(judge, tmp_path), sound(), unsound())
