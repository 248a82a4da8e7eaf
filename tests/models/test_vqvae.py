"""The encoder, its codebooks and the decoder: shapes, gradients, and what the graph must promise."""

import pytest
import torch

from kneerisk.models import build
from kneerisk.models.vqvae import Encoder, EncoderConfig, ProductQuantiser


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(EncoderConfig()).eval()


@torch.no_grad()
def test_latents_are_eight_times_smaller_a_side_with_unit_mean_square(encoder):
    latent, novelty = encoder(torch.rand(2, 1, 224, 224))
    assert latent.shape == (2, 8, 28, 28)
    assert novelty.shape == (2,)
    torch.testing.assert_close(latent.square().mean(), torch.tensor(1.0), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_latent_is_made_of_codes_alone(encoder):
    radiograph = torch.rand(1, 1, 64, 64)
    latent, _ = encoder(radiograph)
    codes = encoder.quantise(radiograph).indices
    torch.testing.assert_close(latent, encoder.quantiser.embed(codes))


@torch.no_grad()
def test_a_knee_keeps_its_latent_whatever_stands_beside_it(encoder):
    radiographs = torch.rand(3, 1, 64, 64)
    together, _ = encoder(radiographs)
    alone, _ = encoder(radiographs[1:2])
    assert (together[1:2] == alone).float().mean() > 0.999


def test_codes_are_the_nearest_on_the_sphere():
    torch.manual_seed(1)
    quantiser = ProductQuantiser(2, 16, 4).eval()
    latent = quantiser.to_sphere(torch.randn(2, 8, 3, 3))
    indices = quantiser.assign(latent)
    for group in range(2):
        vectors = latent[:, 4 * group : 4 * group + 4].permute(0, 2, 3, 1)
        distance = (vectors[..., None, :] - quantiser.codebook[group]).square().sum(-1)
        assert torch.equal(distance.argmin(-1), indices[:, group])


def test_gradients_pass_straight_through_the_codebooks():
    torch.manual_seed(2)
    quantiser = ProductQuantiser(2, 16, 4).eval()
    features = torch.randn(1, 8, 2, 2, requires_grad=True)
    weight = torch.randn(1, 8, 2, 2)
    quantised = quantiser(features)
    (quantised.latent * weight).sum().backward()
    straight = torch.autograd.grad((quantiser.to_sphere(features) * weight).sum(), features)[0]
    torch.testing.assert_close(features.grad, straight)


def test_training_moves_the_codes_towards_what_they_stand_for():
    torch.manual_seed(3)
    quantiser = ProductQuantiser(1, 8, 4, decay=0.8).train()
    centres = quantiser.to_sphere(torch.randn(1, 4, 1, 5)).expand(16, 4, 40, 5)
    first = quantiser(centres).commitment.item()
    for _ in range(60):
        last = quantiser(centres + 0.01 * torch.randn(centres.shape)).commitment.item()
    assert last < 0.05 * first
    lengths = quantiser.codebook.norm(dim=-1)
    torch.testing.assert_close(lengths, torch.full_like(lengths, 2.0))


def test_novelty_grows_with_the_distance_from_the_training_statistics(encoder):
    with torch.no_grad():
        plain = torch.rand(4, 1, 64, 64)
        statistics = encoder.statistics(encoder.features(plain))
        fitted = Encoder(EncoderConfig()).eval()
        fitted.load_state_dict(encoder.state_dict())
        fitted.novelty_mean.copy_(statistics.mean(0))
        assert (fitted(torch.zeros(1, 1, 64, 64))[1] > fitted(plain)[1].max()).all()


@torch.no_grad()
def test_the_decoder_gives_back_the_size():
    picture = build("decoder", {"latent_channels": 8, "width": 32, "blocks": 1}).eval()(
        torch.randn(2, 8, 5, 7)
    )
    assert picture.shape == (2, 1, 40, 56)


def test_strides_that_do_not_make_eight_are_refused():
    with pytest.raises(ValueError, match="16"):
        EncoderConfig(stages=((1, 3, 2, 16, 1), (6, 3, 2, 24, 2), (6, 5, 2, 40, 2)))


def test_an_unknown_component_is_refused():
    with pytest.raises(ValueError, match="oracle"):
        build("oracle", {})
