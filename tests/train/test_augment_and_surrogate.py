"""Augmentation keeps landmarks on their pixels; surrogate futures rise at the stated rates."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_train.data import data
from kneerisk_train.data.augment import AugmentConfig, augment
from kneerisk_train.data.knees import Knees
from kneerisk_train.stages import surrogate

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


@given(st.floats(-3, 3), st.floats(0.3, 3), st.floats(-50, 50), st.integers(0, 2**31))
def test_a_similarity_is_found_again(angle, scale, shift, seed):
    points = np.random.default_rng(seed).uniform(0, 223, (16, 2)).astype(np.float32)
    linear = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    target = (points @ linear.T + shift).astype(np.float32)
    matrix = surrogate.fit_similarity(points, target)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-2)


def knees(grades_by_participant):
    participant, side, grade = [], [], []
    for name, (right, left) in grades_by_participant.items():
        participant += [name, name]
        side += ["R", "L"]
        grade += [right, left]
    count = len(grade)
    return Knees(
        participant=np.array(participant),
        side=np.array(side),
        month=np.zeros(count, np.int32),
        pixels=np.zeros((count, 224, 224), np.uint8),
        grade=np.array(grade),
        landmarks=np.zeros((count, 16, 2), np.float32),
        spacing=np.ones((count, 2), np.float32),
    )


def test_donors_have_the_wanted_grade_and_are_the_other_knee_where_that_fits():
    population = knees({"a": (1, 2), "b": (0, 0), "c": (3, 4), "d": (2, 3), "e": (4, 1)})
    landmarks = np.random.default_rng(0).uniform(0, 223, (10, 16, 2)).astype(np.float32)
    rising, wanted = np.array([0, 4, 6, 2, 2]), np.array([2, 4, 3, 1, 3])
    donors = surrogate.choose_donors(population, landmarks, rising, wanted, np.random.default_rng(1))
    assert (population.grade[donors] == wanted).all()
    assert donors[:3].tolist() == [1, 5, 7]


def test_transition_rates_are_read_and_checked(tmp_path):
    path = tmp_path / "rates.csv"
    header = "months,kl_now,p_kl0,p_kl1,p_kl2,p_kl3,p_kl4\n"
    rows = [f"12,{g}," + ",".join(str(p) for p in RATES[g]) + "\n" for g in range(5)]
    path.write_text(header + "".join(rows) + "24,0,1,0,0,0,0\n")
    np.testing.assert_allclose(data.transition_rates(path), RATES)
    path.write_text(header + "".join(rows[:-1]))
    with pytest.raises(UsageError, match="12-month rates"):
        data.transition_rates(path)
