"""Types and ranges of what a person sets: each stands once, at the field that takes it.

A class of settings is a frozen dataclass whose fields are checked strictly by pydantic when it is
built, also by `dataclasses.replace`; arguments of a function are checked by its signature. What
does not fit is a UserError that names the key. Settings pickle without what is cached on them
(data read, digests, places), which another process reads for itself.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, wraps
from types import UnionType
from typing import (
    Annotated,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    dataclass_transform,
    get_args,
    get_origin,
)

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from dfwe.errors import UserError, did_you_mean
from dfwe.plain import is_list, is_mapping


def listed(value: object) -> list[str]:
    """What is given without brackets is a list of one, null an empty one."""
    if value is None:
        return []
    return [str(item) for item in value] if is_list(value) else [str(value)]


Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Points = Annotated[int, Field(ge=2)]  # of a line, ends included
Folds = Annotated[int, Field(ge=2)]  # that dialogues are split into
NAME = "1 to 100 characters on one line, without blanks around them"


def is_name(text: str) -> bool:
    """Whether a text may be what tables, pictures and loggers call something (`NAME`)."""
    return 0 < len(text) <= 100 and text.isprintable() and text == text.strip()


def _checked_name(text: str) -> str:
    if not is_name(text):
        raise PydanticCustomError("name", f"Input should be {NAME}")
    return text


Name = Annotated[str, AfterValidator(_checked_name)]  # of a task, a corpus, a model, for people
Compatibility = Literal["tlidb", None]  # with the paper's code, its defects included
Names = Annotated[Sequence[str], BeforeValidator(listed)]
STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
Class = TypeVar("Class")
Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass_transform(frozen_default=True)
def settings(key: str, *, eq: bool = True) -> Callable[[type[Class]], type[Class]]:
    """A frozen dataclass whose fields are checked as their annotations say.

    Args:
        key: what the configuration calls it, for messages.
        eq: as in `dataclasses.dataclass`.
    """

    def decorate(cls: type[Class]) -> type[Class]:
        checked = dataclass(cls, frozen=True, eq=eq, config=STRICT)
        assert checked is cls
        build = cls.__init__
        names = [item.name for item in fields(checked) if item.init]

        @wraps(build)
        def init(self: Class, *args: object, **values: object) -> None:
            given = {**dict(zip(names, args, strict=False)), **values}
            try:
                build(self, **given)
            except ValidationError as error:
                raise wrong_setting(key, error, given, names) from None

        cls.__init__ = init
        cls.__getstate__ = _declared
        return cls

    return decorate


def _declared(self: object) -> dict[str, object]:
    """The fields of settings, as pickle takes them."""
    assert is_dataclass(self)
    assert not isinstance(self, type)
    return {item.name: getattr(self, item.name) for item in fields(self)}


def check_arguments(
    key: str, function: Callable[..., object], arguments: Mapping[str, object]
) -> None:
    """Check keywords that a configuration gives a function.

    Args:
        key: what the configuration calls the function, for messages.
        function: its annotations are the types and ranges.
        arguments: the keywords given; those without a default may be missing.

    Raises:
        UserError: a keyword is unknown, of another type or out of its range.
    """
    try:
        _model(function, tuple(arguments)).model_validate(dict(arguments))
    except ValidationError as error:
        raise wrong_setting(key, error, arguments, parameters(function)) from None


def checked(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """A function whose arguments are checked as its annotations say, whoever calls it.

    Raises:
        UserError: by a call, an argument is of another type or out of its range.
    """
    signature = inspect.signature(function)

    @wraps(function)
    def call(*args: Given.args, **keywords: Given.kwargs) -> Result:
        check_arguments(function.__name__, function, signature.bind(*args, **keywords).arguments)
        return function(*args, **keywords)

    return call


@cache
def _model(function: Callable[..., object], names: tuple[str, ...]) -> type[BaseModel]:
    """A model of those of the function's keywords that are given."""
    kinds = {name: kind for name, kind in parameters(function).items() if name in names}
    members = {"__module__": __name__, "__annotations__": kinds, "model_config": STRICT}
    name = getattr(function, "__name__", type(function).__name__)
    return type(name, (BaseModel,), members)


def _annotation(function: Callable[..., object], known: inspect.Parameter) -> object:
    """A parameter's type; any where it has none, or one that is imported for type checkers."""
    if not isinstance(known.annotation, str):
        return object if known.annotation is known.empty else _unchecked_calls(known.annotation)
    try:
        return eval(known.annotation, inspect.unwrap(function).__globals__)
    except NameError:
        return object


def parameters(function: Callable[..., object]) -> dict[str, object]:
    """The keywords of a function or class, each with its type; `object` where it has none.

    Some functions that are written in C say of none.
    """
    try:
        signature = inspect.signature(function)
    except ValueError:
        return {}
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        name: _annotation(function, known)
        for name, known in signature.parameters.items()
        if known.kind in named
    }


def in_words(annotation: object) -> str:
    """A type and its range as a person reads them: `number above 0, or null`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        ranges = [text for item in inner[1:] for text in _range(item)]
        return " ".join([in_words(inner[0]), ", ".join(ranges)]).strip()
    if origin is Literal:
        return " or ".join("null" if value is None else str(value) for value in inner)
    if origin in (Union, UnionType):
        names = dict.fromkeys(in_words(item) for item in inner if item is not type(None))
        return ", or ".join([" or ".join(names), *(["null"] if type(None) in inner else [])])
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"{in_words(inner[1])} by name"
    if isinstance(origin, type) and issubclass(origin, Sequence):
        return f"list: {in_words(inner[0])}"
    if isinstance(annotation, type) and annotation in WORDS:
        return WORDS[annotation]
    return "a part by dotted path (_target_)" if annotation is not object else ""


WORDS: dict[type, str] = {
    bool: "true or false",
    int: "whole number",
    float: "number",
    str: "text",
}


def _range(item: object) -> list[str]:
    """What an annotation says of the range, in words."""
    found: list[str] = []
    for limit in item.metadata if isinstance(item, FieldInfo) else ():
        match limit:
            case Ge(ge=least):
                found.append(f"of at least {least}")
            case Gt(gt=bound):
                found.append(f"above {bound}")
            case Le(le=most):
                found.append(f"at most {most}")
            case Lt(lt=bound):
                found.append(f"below {bound}")
            case _:
                pass
    return found


def _unchecked_calls(annotation: object) -> object:
    """The annotation, with the arguments of callables left out: they are not checked."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Callable:
        return Callable
    if origin in (Union, UnionType):
        return Union[tuple(map(_unchecked_calls, inner))]  # noqa: UP007
    return Sequence[_unchecked_calls(inner[0])] if origin is Sequence else annotation


def unknown_setting(place: str, known: Iterable[str]) -> UserError:
    """The sentence about a key that is not known.

    Args:
        place: the dotted key.
        known: those that could be meant.
    """
    known, parent = list(known), place.rpartition(".")[0]
    there = any(key.startswith(f"{parent}.") for key in known)
    shown = f"dfwe --help {parent}" if there else "dfwe --help"
    near = did_you_mean(place, known)
    return UserError(f"{place}= is not known;{near} `{shown}` shows what can be set.")


def wrong_setting(
    key: str, error: ValidationError, given: Mapping[str, object], known: Iterable[str] = ()
) -> UserError:
    """The sentence about the first setting that does not fit.

    Of a setting with several types, each with an error, the one that fits furthest is meant.

    Args:
        key: what the configuration calls these settings; blank at the top.
        error: pydantic's.
        given: the settings.
        known: the names of those that there are.
    """
    first, *others = error.errors(include_url=False)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):  # a check of several fields together has a sentence already
        return cause
    if first["type"] in ("missing", "missing_argument"):
        return UserError(f"{_dotted(key, *first['loc'])}= is missing; set it.")
    same = [first, *(other for other in others if other["loc"][:1] == first["loc"][:1])]
    first = max(same, key=lambda fault: len(_place(fault["loc"], given)))
    place = _dotted(key, *_place(first["loc"], given))
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return unknown_setting(place, [_dotted(key, name) for name in known])
    value, message = first["input"], first["msg"]
    if first["type"] == "string_type" and isinstance(value, bool | int | float):
        message += "; quote it, since YAML reads yes, no and numbers otherwise"
    if first["type"] in ("sequence_str", "is_instance_of") and "Sequence" in message:
        message = "Input should be a list"
    if message.startswith("Input should "):
        return UserError(f"{place}={value} {message.removeprefix('Input ')}.")
    return UserError(f"{place}={value} is wrong: {message[0].lower()}{message[1:]}.")


def _dotted(*parts: str | int) -> str:
    return ".".join(str(part) for part in parts if part != "")


def _place(location: Sequence[int | str], given: object) -> list[str]:
    """The keys and numbers that lead to a value; pydantic also names the type it tried."""
    place: list[str] = []
    for part in location:
        inner = dict(enumerate(given)) if is_list(given) else given
        if is_mapping(inner) and part in inner:
            given = inner[part]
            place.append(str(part))
    return place
