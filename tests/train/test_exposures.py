"""A knee exposed anew is the same knee: moved alike, and changed by every key of the recipe that says so."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_train.data.augment import AugmentConfig, augment, augment_twice, expose
from kneerisk_train.data.exposures import expose_twice
from kneerisk_train.data.knees import Knees

from kneerisk.method.exposure import equalise

MARKS = np.full((16, 2), 50, np.float32)
NOTHING = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0)
# Another system's look, none of whose changes changes anything.
NO_LOOK = dataclasses.replace(
    NOTHING, looks=1.0, resolution=1.0, sharpen=0, flatten=0, grain=0, clip=0, curve=0, collimation=0
)
STRONG = {
    "resolution": 2.0, "sharpen": 1.0, "flatten": 0.5, "grain": 0.1, "clip": 0.1, "curve": 0.5,
    "collimation": 0.2,
}  # fmt: skip


def crop(seed: int = 0, size: int = 96) -> np.ndarray:
    """Soft shapes and some texture, no two neighbours alike."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    shapes = 0.5 + 0.3 * np.sin(5 * x) * np.cos(7 * y) + 0.02 * rng.standard_normal((size, size))
    return (shapes.clip(0, 1) * 255).astype(np.uint8)


@given(st.integers(0, 2**31))
def test_both_views_are_the_knee_moved_alike(seed):
    config = dataclasses.replace(NOTHING, rotation_degrees=8, scale=0.1, aspect=0.1, shift_px=8)
    views, marks = augment_twice(crop(), MARKS, config, np.random.default_rng(seed))
    alone, marks_alone = augment(crop(), MARKS, config, np.random.default_rng(seed))
    np.testing.assert_array_equal(views[0], views[1])
    np.testing.assert_array_equal(views[0], alone)
    np.testing.assert_array_equal(marks, marks_alone)
    assert not np.array_equal(alone, equalise(crop().astype(np.uint16) * 255))


@given(st.integers(0, 2**31))
def test_the_first_view_keeps_its_own_exposure_and_the_second_does_not(seed):
    config = dataclasses.replace(NOTHING, noise=0.05)
    views, _ = augment_twice(crop(), MARKS, config, np.random.default_rng(seed))
    np.testing.assert_array_equal(views[0], equalise(crop().astype(np.uint16) * 255))
    assert not np.array_equal(views[0], views[1])


def test_what_is_erased_is_erased_from_both_views():
    """The noise tells the views apart everywhere but in the rectangle, where each is flat."""
    config = dataclasses.replace(NOTHING, erase=1.0, noise=0.1)
    views, _ = augment_twice(crop(), MARKS, config, np.random.default_rng(3))
    between = np.round(views[1] - views[0], 5)
    values, counts = np.unique(between, return_counts=True)
    rows, columns = np.nonzero(between == values[counts.argmax()])
    assert counts.max() > 50
    block = np.s_[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert all(np.ptp(view[block]) < 1e-4 for view in views)
    assert views[0][block].size == counts.max()


@pytest.mark.parametrize("key", STRONG)
def test_every_change_of_a_look_changes_the_radiograph(key):
    levels = crop().astype(np.uint16) * 255
    plain = equalise(levels)
    seen = [expose(levels, NO_LOOK, np.random.default_rng(seed)) for seed in range(8)]
    # Rescaled to the full range and nothing else: the ranks stay, but for rounding.
    assert max(np.abs(view - plain).max() for view in seen) < 0.02
    config = dataclasses.replace(NO_LOOK, **{key: STRONG[key]})
    changed = [expose(levels, config, np.random.default_rng(seed)) for seed in range(8)]
    assert max(np.abs(view - plain).max() for view in changed) > 0.03
    assert all(np.isfinite(view).all() and view.min() >= 0 and view.max() <= 1 for view in changed)


@given(st.integers(0, 2**31))
def test_a_brightness_field_dims_and_does_not_saturate(seed):
    config = dataclasses.replace(NOTHING, field=0.5)
    bright = (200 + crop() // 5).astype(np.uint16) * 255
    view = expose(bright, config, np.random.default_rng(seed))
    assert (view == view.max()).mean() < 0.05


def test_a_batch_holds_each_knee_twice_in_one_order():
    pixels = np.stack([crop(seed) for seed in range(3)])
    knees = Knees(
        participant=np.array(["a", "b", "c"]),
        side=np.array(["R", "L", "R"]),
        month=np.zeros(3, np.int32),
        pixels=pixels,
        grade=np.array([0, 1, 2]),
        landmarks=np.stack([MARKS + seed for seed in range(3)]),
        spacing=np.ones((3, 2), np.float32),
    )
    radiographs, landmarks = expose_twice(knees, np.array([2, 0]), NOTHING, np.random.default_rng(0))
    assert radiographs.shape == (4, 1, 96, 96)
    torch.testing.assert_close(radiographs[:2], radiographs[2:])
    torch.testing.assert_close(landmarks[:2], landmarks[2:])
    assert landmarks[0, 0, 0] == 52
    np.testing.assert_array_equal(radiographs[0, 0], equalise(pixels[2].astype(np.uint16) * 255))
