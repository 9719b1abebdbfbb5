"""Types and ranges of what a person sets: each stands once, at the field that takes it.

A class of settings is a frozen dataclass whose fields are checked strictly by pydantic when it is
built, also by `dataclasses.replace`; arguments of a function are checked by its signature. What
does not fit is a UserError that names the key. Settings pickle without what is cached on them
(data read, digests, places), which another process reads for itself.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cache, wraps
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.dataclasses import dataclass

from dfwe.errors import UserError

Count = Annotated[int, Field(ge=1)]
Whole = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Points = Annotated[int, Field(ge=2)]  # of a line, ends included
Compatibility = Literal["tlidb", None]  # with the paper's code, its defects included
STRICT = ConfigDict(strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False)
Class = TypeVar("Class", bound=type[Any])


@dataclass_transform(frozen_default=True)
def settings(key: str, *, eq: bool = True) -> Callable[[Class], Class]:
    """A frozen dataclass whose fields are checked as their annotations say.

    Args:
        key: what the configuration calls it, for messages.
        eq: as in `dataclasses.dataclass`.
    """

    def decorate(cls: Class) -> Class:
        checked = dataclass(cls, frozen=True, eq=eq, config=STRICT)
        build = checked.__init__
        names = [item.name for item in fields(checked) if item.init]

        @wraps(build)
        def init(self: Any, *args: Any, **values: Any) -> None:
            given = {**dict(zip(names, args, strict=False)), **values}
            try:
                build(self, **given)
            except ValidationError as error:
                raise wrong_setting(key, error, given) from None

        checked.__init__ = init
        checked.__getstate__ = _declared
        return cast(Class, checked)

    return decorate


def _declared(self: Any) -> dict[str, Any]:
    """The fields of settings, as pickle takes them."""
    return {item.name: getattr(self, item.name) for item in fields(self)}


def check_arguments(key: str, function: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
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
        raise wrong_setting(key, error, arguments) from None


@cache
def _model(function: Callable[..., Any], names: tuple[str, ...]) -> type[BaseModel]:
    """A model of those of the function's keywords that are given."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    kinds: dict[str, Any] = {
        name: (_annotation(function, known), ...)
        for name, known in inspect.signature(function).parameters.items()
        if known.kind in named and name in names
    }
    return create_model(function.__name__, __config__=STRICT, **kinds)


def _annotation(function: Callable[..., Any], known: inspect.Parameter) -> Any:
    """A parameter's type; Any where it has none, or one that is imported for type checkers."""
    if not isinstance(known.annotation, str):
        return Any if known.annotation is known.empty else _unchecked_calls(known.annotation)
    try:
        return eval(known.annotation, inspect.unwrap(function).__globals__)
    except NameError:
        return Any


def _unchecked_calls(annotation: Any) -> Any:
    """The annotation, with the arguments of callables left out: they are not checked."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Callable:
        return Callable
    if origin in (Union, UnionType):
        return Union[tuple(map(_unchecked_calls, inner))]  # noqa: UP007
    return Sequence[_unchecked_calls(inner[0])] if origin is Sequence else annotation


def wrong_setting(key: str, error: ValidationError, given: Mapping[str, Any]) -> UserError:
    """The sentence about the first setting that does not fit.

    Of a setting with several types, each with an error, the one that fits furthest is meant.
    """
    first, *others = error.errors(include_url=False)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):  # a check of several fields together has a sentence already
        return cause
    if first["type"] in ("missing", "missing_argument"):
        return UserError(f"{'.'.join([key, *map(str, first['loc'])])}= is missing; set it.")
    same = [first, *(other for other in others if other["loc"][:1] == first["loc"][:1])]
    first = max(same, key=lambda fault: len(_place(fault["loc"], given)))
    place = ".".join([key, *_place(first["loc"], given)])
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return UserError(f"{place}= is not known; --cfg job shows what can be set.")
    value, message = first["input"], first["msg"]
    if first["type"] == "string_type" and isinstance(value, bool | int | float):
        message += "; quote it, since YAML reads yes, no and numbers otherwise"
    if first["type"] in ("sequence_str", "is_instance_of") and "Sequence" in message:
        message = "Input should be a list"
    if message.startswith("Input should "):
        return UserError(f"{place}={value} {message.removeprefix('Input ')}.")
    return UserError(f"{place}={value} is wrong: {message[0].lower()}{message[1:]}.")


def _place(location: Sequence[int | str], given: Any) -> list[str]:
    """The keys and numbers that lead to a value; pydantic also names the type it tried."""
    place: list[str] = []
    for part in location:
        with suppress(LookupError, TypeError):
            given = given[part]
            place.append(str(part))
    return place
