"""Equalisation: the same crop whatever the exposure."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kneerisk.method.exposure import equalise

levels = arrays(np.uint16, (7, 9), elements=st.integers(0, 4000))


@given(levels)
def test_it_stays_within_bounds_with_mean_one_half(crop):
    standard = equalise(crop)
    assert standard.dtype == np.float32
    assert standard.min() > 0 and standard.max() < 1
    np.testing.assert_allclose(standard.mean(), 0.5, atol=1e-6)


@given(levels, st.floats(0.3, 3), st.floats(0.01, 10), st.floats(-5, 5))
def test_window_and_gamma_leave_it_unchanged(crop, gamma, gain, offset):
    exposed = (gain * (crop / 4096.0) ** gamma + offset).astype(np.float64)
    # Re-exposure may merge neighbouring levels in float32; distinct levels here stay distinct in float64.
    if len(np.unique(exposed)) == len(np.unique(crop)):
        np.testing.assert_allclose(equalise(exposed), equalise(crop), atol=1e-6)


@given(levels)
def test_inverting_the_input_inverts_the_output(crop):
    np.testing.assert_allclose(equalise(65535 - crop), 1 - equalise(crop), atol=1e-6)


@given(levels)
def test_both_depths_agree(crop):
    np.testing.assert_allclose(equalise(crop), equalise(crop.astype(np.float32)), atol=1e-6)


def test_order_is_kept():
    crop = np.arange(12, dtype=np.uint16).reshape(3, 4) * 37
    assert (np.diff(equalise(crop).ravel()) > 0).all()
