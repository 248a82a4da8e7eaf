"""What the U-Net and the later classifier are taught: known answers, and short trainings that must learn."""

import numpy as np
import pytest
import torch
from kneerisk_train.stages.classifier import moves_loss
from kneerisk_train.stages.diffusion import forecast_latents, pair_loss, velocity_loss
from kneerisk_train.stages.heads import fit_head

from kneerisk.models.classifier import Classifier, ClassifierConfig, LaterClassifier
from kneerisk.models.unet import UNet, UNetConfig

TINY = UNetConfig(latent_channels=2, channels=8, multipliers=(1, 2))
SMALL = ClassifierConfig(
    stem_channels=16,
    stages=((1, 3, 2, 16, 1), (2, 3, 1, 24, 1), (2, 3, 2, 32, 1), (1, 3, 1, 40, 1)),
    head_channels=32,
)


def pair(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(3, count, 2, 8, 8, generator=generator)


def test_the_loss_compares_v_of_the_future_given_the_present():
    current, future, noise = pair()
    times = torch.tensor([0.2, 0.5, 0.9])
    angle = (0.5 * torch.pi * times)[:, None, None, None]
    seen = {}

    def exact(noisy, condition, time):
        seen["noisy"], seen["condition"], seen["time"] = noisy, condition, time
        return torch.cos(angle) * noise - torch.sin(angle) * future

    weight = torch.ones(3, 1, 1, 1)
    assert velocity_loss(exact, current, future, times, noise, weight) == pytest.approx(0)
    torch.testing.assert_close(seen["condition"], current)
    torch.testing.assert_close(seen["noisy"], torch.cos(angle) * future + torch.sin(angle) * noise)
    swapped = velocity_loss(exact, future, current, times, noise, weight)
    assert swapped > 0.1


def test_a_drawn_pair_is_its_present_then_its_future():
    now, later = torch.zeros(4, 8, 8, 8), torch.full((4, 8, 8, 8), 5.0)
    seen = {}

    def unet(noisy, current, times):
        seen["current"], seen["times"], seen["noisy"] = current, times, noisy
        return torch.zeros_like(noisy)

    loss = pair_loss(unet, lambda times: torch.ones(4, 1, 1, 1), (now, later))
    assert loss > 0
    torch.testing.assert_close(seen["current"], now)
    # What is left without the future's share of the signal is noise of the time's spread.
    alpha = torch.cos(0.5 * torch.pi * seen["times"])[:, None, None, None]
    noise = seen["noisy"] - alpha * later
    sigma = torch.sin(0.5 * torch.pi * seen["times"])
    assert (noise.std(dim=(1, 2, 3)) / sigma - 1).abs().max() < 0.3
    assert pair_loss(unet, lambda times: torch.zeros(4, 1, 1, 1), (now, later)) == 0


def test_an_untrained_unet_copies_the_present_in_any_number_of_steps():
    torch.manual_seed(0)
    unet = UNet(TINY).eval()
    unet.expect_change(1e-4)
    current, _, noise = pair()
    for steps in (1, 2, 7):
        found = forecast_latents(unet, current, noise.numpy(), steps)
        torch.testing.assert_close(found, current, atol=1e-3, rtol=0)


@torch.no_grad()
def test_the_forecast_is_the_posterior_mean_of_the_prior_around_the_present():
    """F = 0: x = z0 + k (z_t - alpha z0), k = alpha s^2 / (alpha^2 s^2 + sigma^2)."""
    unet = UNet(TINY).eval()
    unet.expect_change(0.3)
    current, noisy, _ = pair()
    for t in (0.02, 0.4, 0.98, 1.0):
        alpha, sigma = np.cos(0.5 * np.pi * t), np.sin(0.5 * np.pi * t)
        v = unet(noisy, current, torch.full((3,), t))
        k = alpha * 0.09 / (alpha**2 * 0.09 + sigma**2)
        expected = current + k * (noisy - alpha * current)
        torch.testing.assert_close(alpha * noisy - sigma * v, expected, atol=1e-5, rtol=1e-4)
        assert torch.isfinite(v).all()


@torch.no_grad()
def test_small_changes_are_forecast_alike_in_two_steps_and_in_fifty():
    """F = 0 and a small s: whatever the noise, the forecast stays within s of the present."""
    unet = UNet(UNetConfig(latent_channels=8, channels=8, multipliers=(1, 2))).eval()
    unet.expect_change(0.02)
    current, noise = torch.randn(2, 2, 8, 28, 28, generator=torch.Generator().manual_seed(0))
    for steps in (1, 2, 8, 50):
        apart = forecast_latents(unet, current, noise.numpy(), steps) - current
        assert apart.square().mean().sqrt() < 0.03


def test_the_loss_weight_makes_an_error_of_v_one_of_the_change():
    unet = UNet(TINY)
    unet.expect_change(0.3)
    t = torch.tensor([0.1, 0.6])
    alpha, sigma = torch.cos(0.5 * torch.pi * t), torch.sin(0.5 * torch.pi * t)
    expected = (alpha**2 * 0.09 + sigma**2) / 0.09
    torch.testing.assert_close(unet.loss_weight(t)[:, 0, 0, 0], expected)


@torch.no_grad()
def test_the_unet_sees_the_present_beside_the_residual_and_the_time():
    torch.manual_seed(0)
    unet = UNet(TINY).eval()
    unet.expect_change(0.3)
    for module in unet.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            torch.nn.init.normal_(module.weight, 0, 0.2)
    residual, current, other = pair()

    def change(seen, time):
        return unet._change(residual, seen, torch.full((3,), time))

    assert not torch.allclose(change(current, 0.5), change(other, 0.5), atol=1e-3)
    assert not torch.allclose(change(current, 0.5), change(current, 0.1), atol=1e-3)
    blind = UNet(UNetConfig(latent_channels=2, channels=8, multipliers=(1, 2), conditioned=False)).eval()
    blind.load_state_dict(unet.state_dict() | {"change": blind.change})
    t = torch.full((3,), 0.5)
    torch.testing.assert_close(blind(residual, current, t), blind(residual, other, t))


def test_a_unet_learns_the_change_that_its_futures_show():
    """Futures that lie 0.2 above the present: sixty steps must find that, from the present alone."""
    torch.manual_seed(0)
    unet = UNet(TINY)
    unet.expect_change(0.2)
    optim = torch.optim.Adam(unet.parameters(), 3e-3)
    for step in range(60):
        current, _, noise = pair(16, step)
        times = torch.rand(16)
        loss = velocity_loss(unet, current, current + 0.2, times, noise, unet.loss_weight(times))
        optim.zero_grad()
        loss.backward()
        optim.step()
    current, _, noise = pair(8, 99)
    for steps in (1, 2):
        moved = forecast_latents(unet.eval(), current, noise.numpy(), steps) - current
        assert moved.mean().item() == pytest.approx(0.2, abs=0.05)


def test_the_change_must_be_one():
    for size in (0.0, -0.3):
        with pytest.raises(ValueError, match="differ from the present"):
            UNet(TINY).expect_change(size)


@torch.no_grad()
def test_the_later_classifier_answers_a_change_that_never_heals():
    torch.manual_seed(0)
    later = LaterClassifier(SMALL).eval()
    moves, landmarks = later(torch.randn(3, 8, 28, 28))
    assert moves.shape == (3, 5, 5) and landmarks.shape == (3, 16, 2)
    torch.testing.assert_close(moves.sum(2), torch.ones(3, 5))
    assert (moves.tril(-1) == 0).all()
    assert (moves[:, 4, 4] == 1).all()


@torch.no_grad()
def test_it_starts_from_a_populations_moves_and_reads_as_the_classifier_of_now_does():
    torch.manual_seed(0)
    now, later = Classifier(SMALL).eval(), LaterClassifier(SMALL).eval()
    rates = torch.eye(5) * 0.9 + 0.1 * torch.eye(5).roll(1, dims=1)
    rates[4] = torch.eye(5)[4]
    later.start_from(now, rates)
    latent = torch.randn(2, 8, 28, 28)
    moves, landmarks = later(latent)
    torch.testing.assert_close(moves, rates.expand(2, 5, 5), atol=2e-3, rtol=0)
    torch.testing.assert_close(landmarks, now(latent)[1])


def test_the_rows_are_taught_by_their_weight():
    moves = torch.eye(5).expand(2, 5, 5).clone()
    moves[0, 0] = torch.tensor([0.8, 0.2, 0, 0, 0])
    weight = torch.zeros(2, 5)
    weight[0, 0] = 1
    log = torch.log(torch.full((2, 5, 5), 0.2))
    log[0, 0] = torch.log(torch.tensor([0.8, 0.2, 1e-9, 1e-9, 1e-9]))
    entropy = -(0.8 * np.log(0.8) + 0.2 * np.log(0.2))
    assert moves_loss(log, moves, weight).item() == pytest.approx(entropy, abs=1e-5)
    log[0, 0] = torch.log(torch.tensor([0.5, 0.5, 1e-9, 1e-9, 1e-9]))
    assert moves_loss(log, moves, weight).item() > entropy + 0.1
    assert torch.isfinite(moves_loss(torch.full((2, 5, 5), -1e4), moves, weight))


def test_a_head_learns_what_its_lessons_say():
    torch.manual_seed(0)
    later = LaterClassifier(SMALL)
    summary = torch.randn(64, 32)
    wanted = torch.where(summary[:, :1] > 0, 0.4, 0.05)
    moves = torch.eye(5).expand(64, 5, 5).clone()
    moves[:, 0, 0], moves[:, 0, 1] = 1 - wanted[:, 0], wanted[:, 0]
    weight = torch.zeros(64, 5)
    weight[:, 0] = 1
    optim = torch.optim.Adam(later.transition.parameters(), 1e-2)
    for _ in range(150):
        loss = moves_loss(later.moves(summary), moves, weight)
        optim.zero_grad()
        loss.backward()
        optim.step()
    found = later.moves(summary).exp()[:, 0, 1]
    assert found[wanted[:, 0] > 0.3].mean().item() == pytest.approx(0.4, abs=0.05)
    assert found[wanted[:, 0] < 0.3].mean().item() == pytest.approx(0.05, abs=0.03)


class Plain(Classifier):
    """Reads its grades straight off the latent's first channels."""

    def read(self, latent):
        return 3 * latent[:, :32, 0, 0], torch.zeros(len(latent), 16, 2)


@torch.no_grad()
def test_a_head_is_fitted_by_likelihood_not_by_the_best_grade():
    """Labels drawn from softmax(logits / 2 + b): that temperature and those biases are found again."""
    torch.manual_seed(0)
    module = Plain(SMALL).eval()
    latents = torch.randn(3000, 32, 1, 1)
    bias = torch.tensor([0.8, -0.8, 0.3, 0.0, -0.3])
    p = (module.logits(latents)[0] / 2 + bias).softmax(1)
    grade = torch.multinomial(p, 1, generator=torch.Generator().manual_seed(0))[:, 0].numpy()
    fit_head(module, [latents, latents], grade)
    found = (module.logits(latents)[0] / module.temperature).softmax(1)
    assert (found - p).abs().mean() < 0.02
    assert module.temperature.item() == pytest.approx(2.0, rel=0.15)
