"""Records of every kind, as JSON of their schema and of others, read by the standard library."""

import importlib
import json
import math
from functools import cache, partial
from types import NoneType, UnionType
from typing import Annotated, Literal, NamedTuple, Union, get_args, get_origin

from fuzzing import damaged, mutated, texts
from hypothesis import strategies as st

from dfwe.pipeline.record import Record

MODULES = ("reporting.results", "pipeline.provenance", "pipeline.store", "search.ledger")
STAGES = ("evaluate", "import_checkpoint", "interpolate", "merge", "pretrain", "probe", "train")
STUDIES = ("ensembling.comparison", "region.losses", "region.stages", "region.statistics")


class Case(NamedTuple):
    """What is read, and the file's content."""

    schema: type[Record]
    content: bytes


def schemas():
    """Every kind of record, in the order of their names."""
    for name in (*MODULES, *(f"stages.{x}" for x in STAGES), *(f"studies.{x}" for x in STUDIES)):
        importlib.import_module(f"dfwe.{name}")
    found, pending = {}, [Record]
    while pending:
        for kind in pending.pop().__subclasses__():
            if kind.__module__.startswith("dfwe."):
                found[f"{kind.__module__}.{kind.__qualname__}"] = kind
                pending.append(kind)
    return [found[name] for name in sorted(found)]


SCHEMAS = schemas()


def numbers():
    return st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-9, 9))


def plain(annotation):
    """JSON of a field's type."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return (
            st.lists(numbers(), max_size=3)
            if inner[0] is not float and "ndarray" in str(inner[0])
            else plain(inner[0])
        )
    if origin in (Union, UnionType):
        return st.one_of([plain(item) for item in inner])
    if origin is Literal:
        return st.sampled_from(inner)
    if origin in (list, tuple):
        if origin is tuple and inner[-1] is not Ellipsis:
            return st.tuples(*map(plain, inner)).map(list)
        return st.lists(plain(inner[0]), max_size=3)
    if origin is dict:
        keys = st.sampled_from(get_args(inner[0])) if get_origin(inner[0]) is Literal else texts()
        return st.dictionaries(keys, plain(inner[1]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, Record):
        return documents(annotation)
    simple = {
        float: numbers(),
        int: st.integers(-9, 9),
        str: texts(),
        bool: st.booleans(),
        NoneType: st.none(),
    }
    return simple.get(annotation, st.one_of(texts(), st.lists(st.integers(0, 3), max_size=2)))


@cache
def documents(schema):
    """JSON of a record; fields with a default may be left out."""
    fields = schema.__pydantic_fields__
    required, optional = {}, {}
    for name, field in fields.items():
        annotation = (
            Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation
        )
        (required if field.is_required() else optional)[name] = plain(annotation)
    return st.fixed_dictionaries(required, optional=optional)


@st.composite
def sound(draw):
    schema = draw(st.sampled_from(SCHEMAS))
    return Case(schema, json.dumps(draw(documents(schema))).encode())


@st.composite
def unsound(draw):
    case = draw(sound())
    how = draw(st.sampled_from(["value", "value", "value", "bytes", "special"]))
    if how == "bytes":
        return case._replace(content=draw(damaged(case.content)))
    tree = draw(mutated(json.loads(case.content)))
    text = json.dumps(tree)
    if how == "special":
        number = draw(
            st.sampled_from(
                [
                    "NaN",
                    "Infinity",
                    "1e999",
                    "-1e999",
                    '"NaN"',
                    "[" * 300 + "]" * 300,
                    "1" * 500,
                    '"\\ud800"',
                    "[[1], [1, 2]]",
                    '{"a": 1}',
                    '["1"]',
                    "[true]",
                ]
            )
        )
        text = json.dumps(draw(mutated(json.loads(case.content), st.just("\0here")))).replace(
            '"\\u0000here"', number
        )
    return case._replace(content=text.encode())


def judge(folder, case):
    """What is read is what the file says, number by number."""
    path = folder / "record.json"
    path.write_bytes(case.content)
    record = case.schema.read(path)
    said = json.loads(case.content.decode(), parse_constant=lambda word: 1 / 0)
    agree(json.loads(record.model_dump_json()), said)
    record.write(path)
    assert case.schema.read(path).model_dump_json() == record.model_dump_json()
    return True


def agree(read, said):
    """Every value that the file has is there, of its type; what it leaves out has its default."""
    if isinstance(said, dict):
        for name, value in said.items():
            agree(read[name], value)
    elif isinstance(said, list):
        assert len(read) == len(said)
        for value, other in zip(read, said, strict=True):
            agree(value, other)
    else:
        assert read == (float(said) if isinstance(read, float) else said)
        assert isinstance(read, bool) == isinstance(said, bool)
        assert not isinstance(read, float) or math.isfinite(read)


def test_records_are_read_as_written_or_refused_in_a_sentence(tmp_path, fuzz):
    fuzz("records", partial(judge, tmp_path), sound(), unsound())
