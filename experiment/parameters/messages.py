"""How parameters are spoken of: the values allowed, and a mistake as one line."""

import types
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_NOUNS = {int: "an integer", float: "a number", str: "text"}


def names(of: Iterable[Any]) -> str:
    """Names in a row, `none` if there are none."""
    return ", ".join(map(str, of)) or "none"


def own(file: str) -> str:
    """Where to put something of one's own, and what Git must know of it."""
    return f"your own goes into {file}; `git add` a new file before a queued experiment"


def mistake(schema: type[BaseModel], error: Mapping[str, Any]) -> str:
    """One of pydantic's errors of a file: the key, its value and what is allowed."""
    location, value = error["loc"], error["input"]
    name = ".".join(str(part) for part in location if part != "[key]") or "the file"
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            known = names(_section_at(schema, location[:-1]).model_fields)
            return f"{name} is unknown, allowed here: {known}"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
    if location and location[-1] == "[key]":
        return f"{name}: a name is text: put {value!r} in quotes"
    return f"{name} is {shown(value)}, allowed: {_allowed_at(schema, location)}"


def shown(value: Any) -> str:
    """A value as the file has it, in short."""
    if isinstance(value, dict):
        return f"{{{names(value)}}}"
    return "null" if value is None else repr(value)


def meaning(field: FieldInfo) -> str:
    """What a parameter means, with its unit where that is not among the words."""
    extra = field.json_schema_extra
    unit = str(extra["unit"]) if isinstance(extra, dict) else ""
    words = field.description or ""
    return words if not unit or unit in words else f"{words} ({unit})"


def allowed(field: FieldInfo) -> str:
    """The values that a parameter may have, in words."""
    return _words(field.annotation, field.metadata)


def section_of(field: FieldInfo) -> tuple[type[BaseModel] | None, bool]:
    """The section that a key holds, and whether it holds several under names; None: a value."""
    annotation, _ = _plain(field.annotation)
    if get_origin(annotation) is dict:
        inner, _ = _plain(get_args(annotation)[1])
        return (inner, True) if _is_section(inner) else (None, False)
    return (annotation, False) if _is_section(annotation) else (None, False)


def _words(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    annotation, own = _plain(annotation)
    metadata = [*metadata, *own]
    arguments = get_args(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        return " or ".join("null" if a is types.NoneType else _words(a) for a in arguments)
    if get_origin(annotation) is Literal:
        return f"one of {names(arguments)}"
    if get_origin(annotation) is list:
        return f"a list, of each: {_words(arguments[0])}"
    if annotation is bool:
        return "true or false"
    return _NOUNS.get(annotation, "keys with values") + _bounds(metadata)


def _bounds(metadata: Iterable[Any]) -> str:
    words = []
    for bound in (part for entry in metadata for part in getattr(entry, "metadata", [entry])):
        match bound:
            case Ge(low):
                words.append(f"at least {low}")
            case Gt(low):
                words.append(f"above {low}")
            case Le(high):
                words.append(f"at most {high}")
            case Lt(high):
                words.append(f"below {high}")
    return "".join(f", {word}" for word in words)


def _plain(annotation: Any) -> tuple[Any, list[Any]]:
    """An annotation without `Annotated`, and what that said."""
    if get_origin(annotation) is Annotated:
        inner, *metadata = get_args(annotation)
        return inner, metadata
    return annotation, []


def _is_section(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _section_at(schema: type[BaseModel], location: Iterable[Any]) -> type[BaseModel]:
    """The section in which the key of a location lies."""
    section = schema
    for part in location:
        field = section.model_fields.get(str(part))
        inner = section_of(field)[0] if field else None
        section = inner or section
    return section


def _allowed_at(schema: type[BaseModel], location: tuple[Any, ...]) -> str:
    """What is allowed at a location; of an item, what its list allows of each."""
    if not location:
        return "keys with values"
    for end in range(len(location), 0, -1):
        field = _section_at(schema, location[: end - 1]).model_fields.get(str(location[end - 1]))
        if field is not None:
            words = allowed(field)
            below = end < len(location)
            return words.partition("of each: ")[2] if below and "of each: " in words else words
    return "keys with values"
