"""Augmentation keeps landmarks on their pixels; rates of change are read and checked."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_train.data import data
from kneerisk_train.data.augment import AugmentConfig, augment

from kneerisk.errors import UsageError

STILL = AugmentConfig(0, 0, 0, 0, 0, 0, 0, 0)
RATES = np.array(
    [
        [0.96, 0.03, 0.01, 0, 0],
        [0, 0.9, 0.08, 0.02, 0],
        [0, 0, 0.93, 0.06, 0.01],
        [0, 0, 0, 0.92, 0.08],
        [0, 0, 0, 0, 1],
    ]
)


@given(st.integers(0, 2**31))
def test_landmarks_move_with_what_they_mark(seed):
    pixels = np.zeros((224, 224), np.uint8)
    spots = np.array([[70, 80], [150, 90], [100, 150]])
    for x, y in spots:
        pixels[y - 2 : y + 3, x - 2 : x + 3] = 255
    config = dataclasses.replace(AugmentConfig(), blur_px=0, noise=0, erase=0, field=0)
    landmarks = np.tile(spots, (6, 1))[:16].astype(np.float32)
    changed, moved = augment(pixels, landmarks, config, np.random.default_rng(seed))
    for x, y in moved[:3].round().astype(int):
        assert changed[y, x] > 0.99


def test_nothing_changes_where_nothing_is_asked():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (224, 224), dtype=np.uint8)
    landmarks = rng.uniform(0, 223, (16, 2)).astype(np.float32)
    changed, moved = augment(pixels, landmarks, STILL, rng)
    np.testing.assert_allclose(moved, landmarks, atol=1e-3)
    order = np.argsort(pixels.ravel(), kind="stable")
    assert (np.diff(changed.ravel()[order]) >= 0).all()


def test_transition_rates_are_read_and_checked(tmp_path):
    path = tmp_path / "rates.csv"
    header = "months,kl_now,p_kl0,p_kl1,p_kl2,p_kl3,p_kl4\n"
    rows = [f"12,{g}," + ",".join(str(p) for p in RATES[g]) + "\n" for g in range(5)]
    path.write_text(header + "".join(rows) + "24,0,1,0,0,0,0\n")
    np.testing.assert_allclose(data.transition_rates(path), RATES)
    path.write_text(header + "".join(rows[:-1]))
    with pytest.raises(UsageError, match="12-month rates"):
        data.transition_rates(path)
