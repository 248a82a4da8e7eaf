"""Soft targets and loss terms."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_train.data.labels import LabelConfig, draw_chances
from kneerisk_train.stages.losses import (
    grade_loss,
    landmark_loss,
    soft_grades,
    steadiness_loss,
    stillness_loss,
)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.floats(0, 0.4), st.floats(0, 0.4))
def test_soft_grades_are_distributions_that_lend_to_neighbours_only(grades, smoothing, smoothing_kl1):
    grade = torch.tensor(grades)
    target = soft_grades(grade, LabelConfig(smoothing, smoothing_kl1))
    torch.testing.assert_close(target.sum(1), torch.ones(len(grades)))
    for row, now in zip(target, grades, strict=True):
        assert row[now] == pytest.approx(1 - (smoothing_kl1 if now == 1 else smoothing), abs=1e-5)
        assert all(row[far] == 0 for far in range(5) if abs(far - now) > 1)


def test_far_errors_cost_more_than_near_ones():
    labels = LabelConfig(0, 0)
    near, far = torch.tensor([[0, 0, 9.0, 0, 0]]), torch.tensor([[0, 0, 0, 0, 9.0]])
    truth = torch.tensor([1])
    assert grade_loss(far, truth, labels) > grade_loss(near, truth, labels) + 1
    plain = LabelConfig(0, 0, ordinal_weight=0)
    assert grade_loss(far, truth, plain) == pytest.approx(grade_loss(near, truth, plain))


def test_knees_without_a_grade_count_for_nothing():
    labels = LabelConfig()
    logits = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    with_unknown = grade_loss(logits, torch.tensor([0, -1, 3, -1]), labels)
    assert with_unknown == pytest.approx(grade_loss(logits[[0, 2]], torch.tensor([0, 3]), labels))
    assert grade_loss(logits, torch.full((4,), -1), labels) == 0


def test_only_marked_landmarks_inside_the_crop_count():
    known = torch.full((3, 16, 2), torch.nan)
    known[1] = 100.0
    known[1, 0] = torch.tensor([-5.0, 10.0])
    predicted = known.nan_to_num(7.0).clone()
    assert landmark_loss(predicted, known, 224) == 0
    predicted[1, 3, 0] += 4.0
    predicted[1, 0] += 50.0
    # Fifteen points count; one of their thirty coordinates is 4 px, the unit, away.
    assert landmark_loss(predicted, known, 224).item() == pytest.approx(1 / 30)
    assert landmark_loss(predicted, torch.full_like(known, torch.nan), 224) == 0


def test_balance_draws_rare_grades_more_often():
    grade = np.array([0] * 80 + [4] * 20)
    shares = {balance: draw_chances(grade, balance)[80:].sum() for balance in (0.0, 0.5, 1.0)}
    assert shares[0.0] == pytest.approx(0.2)
    assert shares[0.0] < shares[0.5] < shares[1.0]
    assert shares[1.0] == pytest.approx(0.5)


def test_a_lesson_takes_its_share_of_the_target():
    labels = LabelConfig(0, 0, ordinal_weight=0)
    lesson = torch.tensor([[0.1, 0.2, 0.4, 0.2, 0.1]])
    grade = torch.tensor([0])
    logits = torch.tensor([[1.0, 0.5, -0.2, 0.1, 0.0]])
    reader = -logits.log_softmax(dim=1)[0, 0]
    teacher = -(lesson * logits.log_softmax(dim=1)).sum()
    assert grade_loss(logits, grade, labels, lesson, 0.25) == pytest.approx(0.75 * reader + 0.25 * teacher)
    assert grade_loss(logits, grade, labels, lesson, 0.0) == pytest.approx(reader)


def test_steadiness_is_how_far_grades_are_carried_between_exposures():
    sure = torch.eye(5) * 60
    assert steadiness_loss(sure[[0, 3, 0, 3]]) == pytest.approx(0)
    assert steadiness_loss(sure[[0, 2, 1, 2]]) == pytest.approx(1 / 2)  # one of two knees, by one grade
    assert steadiness_loss(sure[[0, 4]]) == pytest.approx(4)


@given(st.floats(0.1, 10))
def test_stillness_is_a_share_of_the_distance_between_knees(scale):
    first = torch.stack([torch.zeros(2, 3, 3), torch.full((2, 3, 3), 4.0)])
    latents = torch.cat([first, first + 1.0]) * scale
    # Each knee moved by 1; knee 0 lies 5 from the moved knee 1, knee 1 lies 3 from the moved knee 0.
    assert stillness_loss(latents) == pytest.approx(1 / ((25 + 9) / 2), rel=1e-5)
    assert stillness_loss(torch.cat([first, first])) == 0
