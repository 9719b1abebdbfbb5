"""Records: what a step measured, stored as JSON and read back as the type it was written as."""

import json
from numbers import Real
from pathlib import Path
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    JsonValue,
    PlainSerializer,
    ValidationError,
)

from dfwe.errors import UserError
from dfwe.plain import is_list


def _array(value: object) -> NDArray[np.float64]:
    if not _are_numbers(value):
        raise ValueError("it is no list of numbers")
    try:
        array = np.asarray(value, dtype=np.float64)
    except OverflowError:
        raise ValueError("it holds a number beyond all floating-point ones") from None
    if not np.isfinite(array).all():
        raise ValueError("it holds a value that is not finite")
    return array


def _are_numbers(value: object) -> bool:
    if is_list(value):
        return all(map(_are_numbers, value))
    return not isinstance(value, bool) and isinstance(value, np.ndarray | Real)


def _finite(value: dict[str, JsonValue]) -> dict[str, JsonValue]:
    json.dumps(value, allow_nan=False)  # raises ValueError
    return value


# A JSON object, its numbers finite as those of every record.
Json = Annotated[dict[str, JsonValue], AfterValidator(_finite)]
# A float64 array of any shape; nested lists in JSON.
Array = Annotated[
    NDArray[np.float64],
    BeforeValidator(_array),
    PlainSerializer(np.ndarray.tolist, return_type=list[object]),
]


class Record(BaseModel):
    """Base class of all that is stored about a result: strict, frozen, finite, no extra fields."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        arbitrary_types_allowed=True,
        ser_json_inf_nan="constants",
    )

    def write(self, path: Path) -> None:
        """Writes the record as JSON.

        Raises:
            ValueError: a value is not finite.
        """
        text = json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)
        path.write_text(text + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """The record in a file.

        Raises:
            PermissionError: this user may not read it.
            UserError: the file is missing, or is no such record.
        """
        try:
            return cls.model_validate_json(path.read_bytes())
        except PermissionError:  # no damage
            raise
        except (OSError, ValidationError) as error:
            raise UserError(
                f"{path} cannot be read as a {cls.__name__} ({_first(error)}); delete the folder "
                f"{path.parent} and run the stage again."
            ) from None


def _first(error: OSError | ValidationError) -> str:
    """What is wrong, in a few words."""
    if isinstance(error, ValidationError):
        details = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, details["loc"]))
        return f"{place}: {details['msg']}" if place else details["msg"]
    return error.strerror or type(error).__name__


class SplitScores(Record):
    """A model's scores on a split.

    Args:
        score: the mean of the metrics, in points.
        metrics: name -> points.
        log_likelihood: the mean over examples of log p(gold answer | source), in nats; None where
            answers alone are known.
    """

    score: float
    metrics: dict[str, float | None]
    log_likelihood: float | None


class Cost(Record):
    """What a result cost beside seconds.

    Args:
        tokens: read by the model, padding left out, over all passes; None where a person's own
            score reads what it will.
        parameters: of the model.
        evaluations: alphas that were scored; 0 for a training.
    """

    tokens: int | None
    parameters: int
    evaluations: int = 0
