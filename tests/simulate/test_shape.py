import numpy as np
import pytest

from kneerisk.simulate.shape import MAX_SEVERITY, KneeShape, grade_of, knee_shape, smooth


def knee(person: int, severity: float) -> KneeShape:
    return knee_shape(np.random.default_rng(person), severity)


def joint_space(shape: KneeShape) -> float:
    """The narrower of the medial and lateral heights, mm."""
    lm = shape.landmarks
    return float(min(lm[7, 1] - lm[14, 1], lm[1, 1] - lm[10, 1]))


def test_grade_is_the_whole_part_of_severity() -> None:
    assert [grade_of(s) for s in (0, 0.99, 1, 2.5, 3.999, MAX_SEVERITY)] == [0, 0, 1, 2, 3, 4]
    for bad in (-0.1, 5.0, float("nan")):
        with pytest.raises(ValueError, match="severity"):
            grade_of(bad)


@pytest.mark.parametrize("person", range(12))
def test_joint_space_never_widens_as_severity_rises(person: int) -> None:
    widths = [joint_space(knee(person, s)) for s in np.linspace(0, MAX_SEVERITY, 21)]
    assert np.all(np.diff(widths) <= 1e-9)
    assert widths[-1] < widths[0] - 1.0


def test_mean_joint_space_and_spurs_follow_the_grade() -> None:
    people = range(40)
    spaces = [np.mean([joint_space(knee(p, g + 0.5)) for p in people]) for g in range(5)]
    widths = [np.mean([np.ptp(knee(p, g + 0.5).landmarks[:9, 0]) for p in people]) for g in range(5)]
    assert np.all(np.diff(spaces) < 0)
    assert np.all(np.diff(widths) > -1e-9)
    assert widths[4] > widths[0] + 2


@pytest.mark.parametrize("severity", [0.2, 2.4, 4.9])
def test_landmarks_lie_on_their_bones_outlines(severity: float) -> None:
    for person in range(8):
        shape = knee(person, severity)
        for points, outline in ((shape.landmarks[:9], shape.tibia), (shape.landmarks[9:], shape.femur)):
            away = np.linalg.norm(points[:, None] - outline[None], axis=2).min(axis=1)
            assert away.max() < 1.5


def test_landmarks_run_from_lateral_to_medial_with_the_femur_above() -> None:
    for person in range(20):
        lm = knee(person, 4.5).landmarks
        assert np.all(np.diff(lm[:9, 0]) > 0)
        assert np.all(np.diff(lm[9:, 0]) > 0)
        assert np.all(lm[[9, 10, 14, 15], 1] < lm[[0, 1, 7, 8], 1])
        assert lm[12, 1] < lm[4, 1]


def test_smooth_passes_through_its_points() -> None:
    points = np.array([[0.0, 0.0], [1.0, 2.0], [3.0, 1.0], [4.0, 4.0]])
    curve = smooth(points, steps=5)
    assert curve.shape == (16, 2)
    np.testing.assert_allclose(curve[::5], points, atol=1e-9)
