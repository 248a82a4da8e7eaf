"""Dataclasses ⇄ plain values, for JSON and YAML: strict, by cattrs.

What a file on disk may hold is what a dataclass declares.  A key that is missing or unknown and a value of
another type are errors that name their place, and nothing is converted in silence: the text ``"3"`` is no
number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import is_dataclass
from enum import Enum, StrEnum
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin

if TYPE_CHECKING:
    from cattrs import Converter

T = TypeVar("T")


def to_plain(value: object) -> Any:
    """A dataclass, or anything that holds some → dicts, lists, text and numbers; a path becomes its text."""
    return _converter().unstructure(value)


def from_plain(kind: type[T], values: object, where: str) -> T:
    """Read what :func:`to_plain` gave of a dataclass.

    Args:
        kind: the dataclass, or a ``dict`` of some.  What its ``__post_init__`` refuses is refused here.
        values: dicts, lists, text and numbers, such as ``json.loads`` gives.  A dataclass among them that is
            one already is taken as it is.
        where: what the values are, for the message.

    Raises:
        ValueError: names, each with its place, every key that is missing or unknown and every value that is
            of another type or refused.
    """
    from cattrs import transform_error

    try:
        return _converter().structure(values, kind)
    except Exception as error:  # cattrs gathers the exceptions of all fields in groups
        lines = transform_error(error, where, lambda error, kind: _in_words(error))
    placed = (line.rpartition(" @ ") for line in lines)
    raise ValueError("; ".join(f"{place}: {words}" for words, _, place in placed))


@cache
def _converter() -> Converter:
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn

    converter = Converter(unstruct_collection_overrides={tuple: list})
    converter.register_structure_hook(str, _exactly("text", str))
    converter.register_structure_hook(int, _exactly("a whole number", int))
    converter.register_structure_hook(float, _exactly("a number", float, int))
    converter.register_structure_hook(bool, _exactly("true or false", bool))
    converter.register_structure_hook(Path, lambda value, _: Path(converter.structure(value, str)))
    converter.register_unstructure_hook(Path, str)
    converter.register_unstructure_hook(StrEnum, lambda value: value.value)
    converter.register_structure_hook_func(_is_choice, _one_of)

    def structure_tuple(value: Any, kind: Any) -> Any:
        parts = get_args(kind)
        if not isinstance(value, list | tuple):
            raise ValueError(f"{value!r} is not a list")
        if Ellipsis not in parts and len(value) != len(parts):
            raise ValueError(f"{value!r} does not hold {len(parts)} values")
        items: Any = list[parts[0]]  # type: ignore[valid-type]
        return tuple(converter.structure(value, items))

    converter.register_structure_hook_func(_origin_is(tuple), structure_tuple)

    @converter.register_structure_hook_factory(is_dataclass)
    def _(kind: type) -> Callable[[Any, Any], Any]:
        read: Callable[[Any, Any], Any] = make_dict_structure_fn(
            kind, converter, _cattrs_forbid_extra_keys=True
        )
        return lambda value, _: value if isinstance(value, kind) else read(value, kind)

    return converter


def _origin_is(origin: Any) -> Callable[[Any], bool]:
    return lambda kind: get_origin(kind) is origin


def _exactly(words: str, *kinds: type) -> Callable[[Any, Any], Any]:
    def read(value: Any, wanted: Any) -> Any:
        if type(value) not in kinds:
            raise ValueError(f"{value!r} is not {words}")
        return wanted(value) if issubclass(wanted, Enum) else value

    return read


def _is_choice(kind: Any) -> bool:
    """Whether a type is a Literal, or a union of several and perhaps ``None``."""
    if get_origin(kind) in (Union, UnionType):
        return all(part is NoneType or get_origin(part) is Literal for part in get_args(kind))
    return get_origin(kind) is Literal


def _one_of(value: Any, kind: Any) -> Any:
    parts = get_args(kind) if get_origin(kind) is not Literal else (kind,)
    allowed = [choice for part in parts for choice in (get_args(part) or (None,))]
    if value not in allowed:
        raise ValueError(f"{value!r} is not one of {', '.join(map(repr, allowed))}")
    return value


def _in_words(error: BaseException) -> str:
    from cattrs.errors import ForbiddenExtraKeysError

    if isinstance(error, KeyError):
        return "is missing"
    if isinstance(error, ForbiddenExtraKeysError):
        return f"has unknown keys {', '.join(sorted(error.extra_fields))}"
    if isinstance(
        error, AttributeError | TypeError
    ):  # cattrs takes any mapping and any list by their methods
        return f"is of another type ({error})"
    return str(error)
