"""What the training scripts share."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from train.loop import Average, Checkpoint, descend, landmark_loss, optimiser, prefetch, soft_grades
from train.recipe import OptimConfig


@given(st.lists(st.integers(0, 4), min_size=1, max_size=9), st.floats(0, 0.4))
def test_soft_grades_are_distributions_that_lend_to_neighbours_only(grades, smoothing):
    grade = torch.tensor(grades)
    target = soft_grades(grade, smoothing)
    torch.testing.assert_close(target.sum(1), torch.ones(len(grades)))
    for row, now in zip(target, grades, strict=True):
        assert row[now] == pytest.approx(1 - smoothing * (2 if now == 1 else 1), abs=1e-5)
        assert all(row[far] == 0 for far in range(5) if abs(far - now) > 1)


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


def test_batches_come_in_order_and_once():
    made = []

    def make(step):
        made.append(step)
        return step * step

    assert list(prefetch(make, 3, 9)) == [9, 16, 25, 36, 49, 64]
    assert made == [3, 4, 5, 6, 7, 8]


def test_an_error_in_a_batch_reaches_the_caller():
    def make(step):
        if step == 2:
            raise OSError("the disk is gone")
        return step

    with pytest.raises(OSError, match="the disk is gone"):
        list(prefetch(make, 0, 5))


def run(steps, path, stop=None):
    """A small training that may be cut off and resumed; returns its losses."""
    torch.manual_seed(0)
    config = OptimConfig(steps=steps, learning_rate=0.05, warmup_steps=2)
    module = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.BatchNorm1d(8), nn.Linear(8, 1))
    average = Average(module, 0.9)
    optim = optimiser(module, config)
    checkpoint = Checkpoint(path, module, average, optim)
    losses = []
    for step in range(checkpoint.resume(), steps):
        if step == stop:
            break
        inputs = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (module(inputs) - inputs.sum(1, keepdim=True)).square().mean()
        descend(loss, module, optim, config, step)
        average.update(module, step)
        losses.append(loss.item())
        checkpoint.save(step + 1, due_only=False)
    return losses, copy.deepcopy(average.module.state_dict())


def test_a_resumed_training_is_the_same_to_the_last_digit(tmp_path):
    whole, weights = run(12, tmp_path / "whole.pt")
    before, _ = run(12, tmp_path / "cut.pt", stop=5)
    after, resumed = run(12, tmp_path / "cut.pt")
    assert before + after == whole
    for name, value in weights.items():
        assert torch.equal(value, resumed[name]), name
