"""Dataclasses ⇄ plain values: what goes out comes back, and what is wrong is named with its place."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Literal

import pytest
from kneerisk_engines.plain import from_plain, to_plain


class Fruit(StrEnum):
    APPLE = "apple"


@dataclass(frozen=True, slots=True)
class Part:
    width: float


@dataclass(frozen=True, slots=True)
class Thing:
    name: str
    shape: tuple[int, ...]
    path: Path
    part: Part
    pair: tuple[int, int] = (1, 2)
    fruit: Fruit = Fruit.APPLE
    ratio: float | None = None
    kind: Literal["a", "b"] = "a"
    weights: Mapping[str, float] = field(default_factory=dict)
    side: Literal["L", "R"] | Literal["both"] | None = None
    tags: tuple[str, ...] = ()
    ready: bool = False

    def __post_init__(self) -> None:
        if self.name == "forbidden":
            raise ValueError("name 'forbidden' is taken")


# A file's name need not be UTF-8: Python holds such bytes as lone surrogates.
THING = Thing(
    "odd \udcff", (3, 4), Path("/a/b"), Part(2), ratio=0.5, side="both", weights={"x": 1.5}, tags=("t",)
)


def test_what_goes_out_through_json_comes_back_equal() -> None:
    plain = json.loads(json.dumps(to_plain({"one": THING})))
    assert from_plain(dict[str, Thing], plain, "things") == {"one": THING}


def test_plain_values_are_what_json_has() -> None:
    plain = to_plain(THING)
    assert plain["shape"] == [3, 4] and plain["path"] == "/a/b" and plain["part"] == {"width": 2}
    assert type(plain["fruit"]) is str


def test_a_dataclass_that_is_one_already_is_taken_as_it_is() -> None:
    assert from_plain(Thing, to_plain(THING) | {"part": THING.part}, "thing").part is THING.part


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": 3}, "thing.name: 3 is not text"),
        ({"shape": [1, "2", True]}, "thing.shape[1]: '2' is not a whole number; thing.shape[2]: True is not"),
        ({"shape": 4}, "thing.shape: 4 is not a list"),
        ({"tags": "abc"}, "thing.tags: 'abc' is not a list"),
        ({"pair": [1, 2, 3]}, "thing.pair: [1, 2, 3] does not hold 2 values"),
        ({"part": {"width": "2"}}, "thing.part.width: '2' is not a number"),
        ({"part": {}}, "thing.part.width: is missing"),
        ({"ratio": True}, "thing.ratio: True is not a number"),
        ({"ready": 1}, "thing.ready: 1 is not true or false"),
        ({"fruit": "stone"}, "thing.fruit: 'stone' is not a valid Fruit"),
        ({"kind": "c"}, "thing.kind: 'c' is not one of 'a', 'b'"),
        ({"side": "up"}, "thing.side: 'up' is not one of 'L', 'R', 'both', None"),
        ({"weights": {"x": None}}, "thing.weights['x']: None is not a number"),
        ({"weights": [1]}, "thing.weights: is of another type"),
        ({"path": 1}, "thing.path: 1 is not text"),
        ({"zz": 1, "yy": 2}, "thing: has unknown keys yy, zz"),
        ({"name": "forbidden"}, "thing: name 'forbidden' is taken"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        from_plain(Thing, to_plain(THING) | change, "thing")
    assert words in str(caught.value)


def test_everything_that_is_wrong_is_named_at_once() -> None:
    with pytest.raises(ValueError, match=r"thing.name: is missing; .*thing.path: is missing"):
        from_plain(Thing, {"shape": [1]}, "thing")


@pytest.mark.parametrize("values", [None, 3, "text", []])
def test_what_is_no_mapping_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="thing"):
        from_plain(Thing, values, "thing")
