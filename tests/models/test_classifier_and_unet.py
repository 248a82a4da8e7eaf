"""The multi-task classifier and the forecasting U-Net."""

import numpy as np
import pytest
import torch

from kneerisk.models import build
from kneerisk.models.classifier import posterior, soft_argmax

SMALL = {
    "stem_channels": 16,
    "stages": [[1, 3, 2, 16, 1], [2, 3, 1, 24, 1], [2, 3, 2, 32, 1], [1, 3, 1, 40, 1]],
    "head_channels": 32,
}


@torch.no_grad()
def test_grades_are_a_distribution_and_landmarks_lie_in_the_crop():
    torch.manual_seed(0)
    p, landmarks = build("classifier_now", SMALL).eval()(torch.randn(3, 8, 28, 28))
    assert p.shape == (3, 5) and landmarks.shape == (3, 16, 2)
    torch.testing.assert_close(p.sum(1), torch.ones(3))
    assert (landmarks > -0.5).all() and (landmarks < 223.5).all()


@torch.no_grad()
def test_what_grades_are_told_by_is_had_without_landmarks_too():
    torch.manual_seed(0)
    module = build("classifier_now", SMALL).eval()
    latent = torch.randn(3, 8, 28, 28)
    torch.testing.assert_close(module.summary(latent), module.read(latent)[0])
    torch.testing.assert_close(module.grade(module.summary(latent)), module.logits(latent)[0])


@torch.no_grad()
def test_a_higher_temperature_flattens_the_grades():
    torch.manual_seed(0)
    module = build("classifier_now", SMALL).eval()
    latent = torch.randn(2, 8, 28, 28)
    sharp = module(latent)[0]
    module.temperature.fill_(3.0)
    assert (module(latent)[0].max(1).values < sharp.max(1).values).all()


@pytest.mark.parametrize(("column", "row"), [(0, 0), (13, 41), (55, 55)])
def test_soft_argmax_finds_a_sharp_peak_in_crop_pixels(column, row):
    heatmaps = torch.full((1, 1, 56, 56), -30.0)
    heatmaps[0, 0, row, column] = 30.0
    place = soft_argmax(heatmaps, 224)[0, 0]
    # A heatmap cell covers four pixels; its middle lies between the second and the third.
    torch.testing.assert_close(place, torch.tensor([column * 4 + 1.5, row * 4 + 1.5]))


def test_the_temperature_and_codes_survive_a_state_dict():
    module = build("classifier_now", SMALL)
    module.temperature.fill_(1.7)
    other = build("classifier_now", SMALL)
    other.load_state_dict(module.state_dict())
    assert other.temperature.item() == pytest.approx(1.7)


def test_caution_flattens_the_unsure_and_leaves_the_order():
    """Of (p, 1 - p) with c: odds to the power of 1 + c log max p."""
    for p in (0.6, 0.99):
        told = posterior(torch.tensor([[p, 1 - p]]).log(), torch.tensor(0.5))[0]
        odds = (p / (1 - p)) ** (1 + 0.5 * np.log(p))
        assert told[0].item() == pytest.approx(odds / (1 + odds), rel=1e-5)
    logits = torch.randn(200, 5)
    torch.testing.assert_close(posterior(logits, torch.tensor(0.0)), logits.softmax(dim=1))
    cautious = posterior(0.2 * logits, torch.tensor(0.6))
    assert (cautious.argsort(dim=1) == logits.argsort(dim=1)).all()


@torch.no_grad()
@pytest.mark.parametrize("size", [8, 28])
def test_the_unet_gives_a_velocity_of_the_latents_shape_from_all_three_inputs(size):
    torch.manual_seed(0)
    module = build("unet", {"channels": 16, "multipliers": [1, 2, 3], "blocks": 2}).eval()
    module.expect_change(0.3)
    noisy, current = torch.randn(2, 2, 8, size, size)
    time = torch.tensor([0.2, 0.9])
    velocity = module(noisy, current, time)
    assert velocity.shape == noisy.shape and velocity.dtype == torch.float32
    for change in ((noisy + 1, current, time), (noisy, current + 1, time)):
        assert not torch.allclose(module(*change), velocity, atol=1e-4)


def test_the_time_reaches_the_unet_once_it_has_learnt():
    torch.manual_seed(0)
    module = build("unet", {"channels": 16, "multipliers": [1, 2]})
    z = torch.randn(4, 8, 8, 8)
    times = torch.linspace(0.1, 0.9, 4)
    optim = torch.optim.Adam(module.parameters(), 3e-3)
    target = times[:, None, None, None].expand_as(z)
    for _ in range(120):
        loss = (module(z * 0, z * 0, times) - target).square().mean()
        optim.zero_grad()
        loss.backward()
        optim.step()
    assert loss.item() < 0.01
