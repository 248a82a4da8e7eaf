import json

import numpy as np
import pytest
from kneerisk_engines.errors import ArrayMismatchError
from kneerisk_engines.plain import from_plain, to_plain
from kneerisk_engines.spec import Arrays, ArraySpec, ComponentSpec

SPEC = ComponentSpec(
    "unet", (ArraySpec("noisy", (2, 4, 4)), ArraySpec("time")), (ArraySpec("velocity", (2, 4, 4)),)
)


def good(batch: int = 3) -> dict[str, np.ndarray]:
    return {"noisy": np.zeros((batch, 2, 4, 4), np.float32), "time": np.zeros(batch, np.float32)}


def test_batch_size_is_that_of_every_input() -> None:
    assert SPEC.check_inputs(good(5)) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"noisy": np.zeros((3, 2, 4, 4))}, r"input 'noisy'.*float64.*astype\('float32'\)"),
        ({"noisy": np.zeros((3, 2, 4, 5), np.float32)}, r"'noisy'.*\[B, 2, 4, 4\].*\[3, 2, 4, 5\]"),
        ({"noisy": np.zeros((2, 4, 4), np.float32)}, "'noisy'"),
        ({"noisy": np.zeros((0, 2, 4, 4), np.float32)}, "B of at least 1"),
        ({"time": np.zeros((3, 1), np.float32)}, "'time'"),
        ({"time": np.zeros(2, np.float32)}, "differ in batch size.*'time': 2"),
        ({"time": [0.0, 0.0, 0.0]}, "'time'.*got a list"),
        ({"tiem": np.zeros(3, np.float32)}, "no input named tiem"),
    ],
)
def test_the_offending_array_is_named(change: dict[str, np.ndarray], says: str) -> None:
    with pytest.raises(ArrayMismatchError, match=says):
        SPEC.check_inputs(good() | change)


def test_a_missing_array_is_named() -> None:
    arrays = good()
    del arrays["time"]
    with pytest.raises(ArrayMismatchError, match="lacks the input time"):
        SPEC.check_inputs(arrays)


def test_outputs_must_have_as_many_items_as_the_inputs() -> None:
    with pytest.raises(ArrayMismatchError, match="given 3 items and returned 2"):
        SPEC.check_outputs({"velocity": np.zeros((2, 2, 4, 4), np.float32)}, batch=3)


def test_plain_values_bring_the_spec_back() -> None:
    arrays = SPEC.to_arrays()
    plain = json.loads(json.dumps(to_plain(arrays)))
    assert from_plain(dict[str, Arrays], plain, "unet") == arrays
    assert ComponentSpec.from_arrays("unet", **arrays) == SPEC


@pytest.mark.parametrize(
    "make",
    [
        lambda: ArraySpec("a b"),
        lambda: ArraySpec("a", (0,)),
        lambda: ArraySpec("a", (), "float64"),  # type: ignore[arg-type]
        lambda: ComponentSpec("c", (), (ArraySpec("a"),)),
        lambda: ComponentSpec("c", (ArraySpec("a"),), (ArraySpec("a"),)),
        lambda: ComponentSpec("c", (ArraySpec("a"), ArraySpec("a")), (ArraySpec("b"),)),
    ],
)
def test_an_impossible_spec_is_refused(make) -> None:
    with pytest.raises(ValueError):
        make()
