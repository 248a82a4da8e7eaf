"""Stage 2: the U-Net learns v of the future latent, given the current one (arXiv 2506.14560, 2202.00512).

The squared error of v is weighted so that it is one of the change that the U-Net's network predicts, in units
of that change's spread: no time counts more than another (arXiv 2206.00364, section 5).
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from kneerisk.method.diffusion import diffuse, draw_noise, sample
from kneerisk.models.unet import UNet
from kneerisk.models.vqvae import Decoder, Encoder
from kneerisk_train.run.loop import Batch, Stage, channels_last, fit, seed_of
from kneerisk_train.run.pictures import side_by_side
from kneerisk_train.run.session import Session
from kneerisk_train.run.training_log import Picture
from kneerisk_train.stages.futures import Futures, open_futures
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.vqvae import load_autoencoder, radiograph_batches

log = logging.getLogger(__name__)

NAME = "diffusion"
_SHOWN = 6
_SHOWN_STEPS = 16


def train(session: Session) -> UNet:
    """Train the U-Net on pairs of latents; returns the averaged weights."""
    recipe, config = session.recipe, session.recipe.diffusion
    futures: Futures = open_futures(session)
    autoencoder = load_autoencoder(session)
    torch.manual_seed(seed_of(recipe.seed, NAME))
    module = UNet(config.unet)
    size = change_of(futures, recipe.seed)
    if size > 0:
        module.expect_change(size)
    else:
        log.warning("no latent differs between now and later: this VQ-VAE tells no two visits apart")
    if session.initial is not None and not config.anew:
        load_initial(session.initial, {"unet": module})

    def batch(step: int, rng: np.random.Generator) -> Batch:
        drawn = futures.draw(rng, config.optim.batch_size)
        return tuple(torch.from_numpy(array) for array in drawn)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        return {"change": pair_loss(training, module.loss_weight, arrays)}

    stage = Stage(
        name=NAME,
        module=module,
        optim=config.optim,
        batch=batch,
        terms=terms,
        pictures=lambda average: pictures(average, autoencoder.encoder, autoencoder.decoder, session),
        figures_every=config.figures_every,
    )
    trained = fit(session, stage)
    assert isinstance(trained, UNet)
    return trained


def pair_loss(
    unet: Callable[[Tensor, Tensor, Tensor], Tensor], loss_weight: Callable[[Tensor], Tensor], pairs: Batch
) -> Tensor:
    """:func:`velocity_loss` of a drawn batch, at times and from noise drawn here.

    Args:
        unet: (z_t, z0, t) → v.
        loss_weight: of times [B], [B, 1, 1, 1].
        pairs: :class:`kneerisk_train.stages.futures.Drawn` as tensors: the present, then the future.
    """
    current, future = (part.contiguous(memory_format=torch.channels_last) for part in pairs)
    times = torch.rand(len(current), device=current.device)
    return velocity_loss(unet, current, future, times, torch.randn_like(future), loss_weight(times))


def velocity_loss(
    unet: Callable[[Tensor, Tensor, Tensor], Tensor],
    current: Tensor,
    future: Tensor,
    times: Tensor,
    noise: Tensor,
    weight: Tensor,
) -> Tensor:
    """Mean weighted squared error of v, a scalar.

    Args:
        unet: (z_t, z0, t) → v.
        current: z0 float32 [B, C, h, w].
        future: ẑ12 of that shape.
        times: float32 [B] in 0..1.
        noise: standard normal, of the latents' shape.
        weight: [B, 1, 1, 1].
    """
    angle = (0.5 * torch.pi * times)[:, None, None, None]
    noisy, velocity = diffuse(future, noise, torch.cos(angle), torch.sin(angle))
    return (weight * (unet(noisy, current, times).float() - velocity).square()).mean()


def change_of(futures: Futures, seed: int, count: int = 4096) -> float:
    """How much a latent changes within a year, root mean square an element, of ``count`` draws."""
    rng = np.random.default_rng(seed_of(seed, "change"))
    squares = [
        np.square(drawn.future - drawn.current).mean(dtype=np.float64)
        for drawn in (futures.draw(rng, 64) for _ in range(count // 64))
    ]
    return math.sqrt(np.mean(squares))


@torch.no_grad()
def forecast_latents(unet: nn.Module, current: Tensor, noise: npt.NDArray[np.float32], steps: int) -> Tensor:
    """z0 float32 [B, C, h, w] and its noise → ẑ12 of that shape, by the sampler that scoring uses."""

    def velocity(noisy: np.ndarray, condition: np.ndarray, time: np.ndarray) -> np.ndarray:
        arrays = [torch.from_numpy(array).to(current.device) for array in (noisy, condition, time)]
        answer: np.ndarray = unet(*arrays).float().cpu().numpy()
        return answer

    return torch.from_numpy(sample(velocity, current.float().cpu().numpy(), noise, steps)).to(current.device)


@torch.no_grad()
def pictures(unet: nn.Module, encoder: Encoder, decoder: Decoder, session: Session) -> dict[str, Picture]:
    """The first val knees above their forecasts, both as the decoder draws them."""
    crops = session.data.knees["val"].pixels[:_SHOWN]
    latent, _ = encoder(next(radiograph_batches(crops, session)))
    channels_last(unet).eval()

    noise = np.repeat(draw_noise(0, 1, tuple(latent.shape[1:])), len(latent), axis=0)
    forecast = forecast_latents(unet, latent, noise, _SHOWN_STEPS)
    drawn = [decoder(z).float().cpu().numpy()[:, 0] for z in (latent, forecast)]
    now, later = drawn
    return {
        "forecasts": side_by_side(
            ("knees of val now, as the decoder draws them", now), ("their forecasts at 12 months", later)
        )
    }
