from functools import cache

import cv2
import numpy as np
import pytest

from kneerisk.simulate.radiograph import SimulatedRadiograph, simulate_radiograph
from kneerisk.simulate.vendors import LOOKS


@cache
def case(seed: int, severity: float = 0.5) -> SimulatedRadiograph:
    return simulate_radiograph(seed, spacing_mm=0.4, severity_right=severity, severity_left=severity)


def test_the_same_seed_gives_the_same_pixels_and_another_does_not() -> None:
    first, again = (simulate_radiograph(5, spacing_mm=0.6) for _ in range(2))
    np.testing.assert_array_equal(first.pixels, again.pixels)
    assert all(
        np.array_equal(a.landmarks, b.landmarks) for a, b in zip(first.knees, again.knees, strict=True)
    )
    other = simulate_radiograph(6, spacing_mm=0.6)
    assert other.pixels.shape != first.pixels.shape or not np.array_equal(other.pixels, first.pixels)


def test_image_left_is_the_participants_right_and_lateral_is_outward() -> None:
    for seed in range(4):
        simulated = case(seed)
        right, left = simulated.knees
        assert (right.side, left.side) == ("R", "L")
        width = simulated.pixels.shape[1]
        assert right.centre[0] < width / 2 < left.centre[0]
        assert right.landmarks[0, 0] < right.landmarks[8, 0]  # lateral at the left
        assert left.landmarks[0, 0] > left.landmarks[8, 0]


def test_knees_lie_whole_within_the_radiograph() -> None:
    for seed in range(4):
        simulated = case(seed)
        height, width = simulated.pixels.shape
        for knee in simulated.knees:
            assert np.all((knee.landmarks >= 0) & (knee.landmarks < (width, height)))
            np.testing.assert_allclose(knee.centre, knee.landmarks.mean(axis=0), atol=0.1)


def test_clinical_size_and_spacing_are_the_looks_own() -> None:
    simulated = simulate_radiograph(1, look=LOOKS[0], severity_right=1.2)
    assert simulated.pixels.dtype == np.uint16
    assert 1990 < simulated.pixels.shape[0] < 2570
    assert 2400 < simulated.pixels.shape[1] < 2600
    assert simulated.spacing_mm == LOOKS[0].spacing_mm
    assert simulated.pixels.max() <= 2 ** LOOKS[0].bits - 1
    assert simulated.knees[0].kl_grade == 1


def test_bone_is_brighter_than_the_joint_space_at_the_landmarks() -> None:
    """Across F1, F5 (down) and T1, T7 (up) the picture must fall from bone into the joint space."""
    steps = []
    for seed in range(6):
        simulated = case(seed)
        image = cv2.GaussianBlur(simulated.pixels / np.float32(2**simulated.look.bits - 1), (0, 0), 1.0)
        for knee in simulated.knees:
            for bone, across, sign in ((1, 10, 1), (7, 14, 1), (10, 1, -1), (14, 7, -1)):
                x, y = knee.landmarks[bone]
                gap = abs(float(knee.landmarks[across, 1] - y))
                inside = image[round(y + sign * 1.5 / 0.4), round(x)]
                outside = image[round(y - sign * 0.45 * gap), round(x)]
                steps.append(float(inside - outside))
    assert np.mean(np.array(steps) > 0) > 0.95
    assert np.mean(steps) > 0.02


def test_one_person_at_two_severities_differs_in_the_disease_alone() -> None:
    mild, severe = (
        simulate_radiograph(3, spacing_mm=0.6, severity_right=s, severity_left=0.5) for s in (0.5, 4.5)
    )
    np.testing.assert_allclose(mild.knees[1].landmarks, severe.knees[1].landmarks, atol=1e-3)
    assert (mild.knees[0].kl_grade, severe.knees[0].kl_grade) == (0, 4)
    assert np.abs(mild.knees[0].landmarks - severe.knees[0].landmarks).max() > 2


@pytest.mark.parametrize("side", ["R", "L"])
def test_single_view_shows_the_one_knee_asked_for(side: str) -> None:
    simulated = simulate_radiograph(2, view="single", side=side, spacing_mm=0.5)  # type: ignore[arg-type]
    (knee,) = simulated.knees
    assert knee.side == side
    lateral_first = knee.landmarks[0, 0] < knee.landmarks[8, 0]
    assert lateral_first == (side == "R")


def test_shape_can_be_asked_for_and_a_senseless_spacing_is_refused() -> None:
    assert simulate_radiograph(1, shape=(300, 420), spacing_mm=1.0).pixels.shape == (300, 420)
    with pytest.raises(ValueError, match="spacing_mm"):
        simulate_radiograph(1, spacing_mm=0.0)
