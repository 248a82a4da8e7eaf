"""Equalisation: the same crop whatever the exposure."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kneerisk.method.exposure import equalise
from kneerisk.records import GREY_STEPS

levels = arrays(np.uint16, (7, 9), elements=st.integers(0, 4000))


@given(levels)
def test_it_stays_within_bounds_with_mean_one_half(crop):
    standard = equalise(crop)
    assert standard.dtype == np.float32
    assert standard.min() > 0 and standard.max() < 1
    np.testing.assert_allclose(standard.mean(), 0.5, atol=1e-6)


@given(levels, st.floats(0.3, 3), st.floats(0.01, 0.9), st.floats(0, 0.1))
def test_window_and_gamma_leave_it_unchanged(crop, gamma, gain, offset):
    exposed = (gain * (crop / 4096.0) ** gamma + offset).astype(np.float32)
    # Re-exposure may bring neighbouring levels to one step of the grey scale.
    if len(np.unique(np.rint(exposed * GREY_STEPS))) == len(np.unique(crop)):
        np.testing.assert_allclose(equalise(exposed), equalise(crop), atol=1e-6)


@given(levels)
def test_inverting_the_input_inverts_the_output(crop):
    np.testing.assert_allclose(equalise(65535 - crop), 1 - equalise(crop), atol=1e-6)


@given(levels)
def test_both_depths_agree(crop):
    grey = crop.astype(np.float32) / np.float32(GREY_STEPS)
    np.testing.assert_array_equal(equalise(crop), equalise(grey))
    np.testing.assert_allclose(equalise(1 - grey), 1 - equalise(grey), atol=1e-6)


@given(levels, arrays(np.float32, (7, 9), elements=st.floats(-1, 1, width=32)))
def test_what_rounding_parts_has_one_rank(crop, noise):
    """A scale that was turned twice, or resized by another machine, is off by the last bits of a float."""
    grey = crop.astype(np.float32) / np.float32(GREY_STEPS)
    rounded = np.clip(grey + np.float32(2e-7) * noise, 0, 1)
    np.testing.assert_array_equal(equalise(rounded), equalise(grey))


def test_order_is_kept():
    crop = np.arange(12, dtype=np.uint16).reshape(3, 4) * 37
    assert (np.diff(equalise(crop).ravel()) > 0).all()


def test_what_overshoots_the_scale_counts_as_its_end() -> None:
    pixels = np.array([[-0.01, 0.0, 0.5, 1.0, 1.02]], np.float32)
    np.testing.assert_allclose(equalise(pixels), [[0.2, 0.2, 0.5, 0.8, 0.8]])
