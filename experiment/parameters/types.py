"""Sections of parameters, and the values that their keys may have."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticUndefined

from errors import UserError


def names(of: Iterable[Any]) -> str:
    """Names in a row, `none` if there are none."""
    return ", ".join(map(str, of)) or "none"


class InvalidParameter(UserError):
    """Parameters that are missing, unknown, or have values that are not allowed, one a line."""


class Section(BaseModel):
    """Keys with values, read strictly: no other keys, no other types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def key(meaning: str, unit: str = "", default: Any = PydanticUndefined, **bounds: Any) -> Any:
    """A parameter: its meaning, unit, default (none: it must be stated) and bounds."""
    if unit and unit not in meaning:
        meaning += f" ({unit})"
    return Field(default, description=meaning, **bounds)


class Entries(dict[str, Any]):
    """Entries under names of the user's choice; a name that is not there is a user's mistake."""

    def __missing__(self, name: str) -> Any:
        raise InvalidParameter(f"params.yaml: there is no {name!r} in: {names(self)}")


NAMES = (
    "a name has letters, digits, - and _, does not begin with -, and is neither a number nor None"
)


def _name(name: str) -> str:
    if not re.fullmatch(r"\w[\w-]*", name) or name.isdigit() or name == "None":
        raise ValueError(NAMES)
    return name


Name = Annotated[str, AfterValidator(_name)]
T = TypeVar("T")
Named = Annotated[dict[Name, T], AfterValidator(Entries)]
Probability = Annotated[float, Field(ge=0, le=1)]
Part = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
BelowOne = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(gt=0, le=1e6)]
Few = Annotated[int, Field(ge=1, le=99)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
