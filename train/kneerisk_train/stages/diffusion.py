"""Stage 2: the U-Net learns v of the future latent, given the current one (arXiv 2506.14560, 2202.00512)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kneerisk.method.diffusion import diffuse, draw_noise, sample
from kneerisk.models.unet import UNet
from kneerisk.models.vqvae import Decoder, Encoder
from kneerisk_train.run.loop import Batch, Stage, channels_last, fit, seed_of
from kneerisk_train.run.pictures import side_by_side
from kneerisk_train.run.session import Session
from kneerisk_train.run.training_log import Picture
from kneerisk_train.stages.coding import latents_of
from kneerisk_train.stages.futures import Futures, open_futures
from kneerisk_train.stages.initial import load_initial
from kneerisk_train.stages.vqvae import load_autoencoder, radiograph_batches

NAME = "diffusion"
_SHOWN = 6
_SHOWN_STEPS = 16


def train(session: Session) -> UNet:
    """Train the U-Net on pairs of latents; returns the averaged weights."""
    recipe, config = session.recipe, session.recipe.diffusion
    futures: Futures = open_futures(session)
    autoencoder = load_autoencoder(session)
    quantiser = autoencoder.encoder.quantiser
    torch.manual_seed(seed_of(recipe.seed, NAME))
    module = UNet(config.unet)
    if session.initial is not None:
        load_initial(session.initial, {"unet": module})

    def batch(step: int, rng: np.random.Generator) -> Batch:
        drawn = futures.draw(rng, config.optim.batch_size)
        return torch.from_numpy(drawn.current), torch.from_numpy(drawn.future)

    def terms(training: nn.Module, arrays: Batch) -> dict[str, Tensor]:
        current, future = (latents_of(quantiser, codes) for codes in arrays)
        times = torch.rand(len(current), device=current.device)
        alpha = torch.cos(0.5 * torch.pi * times)[:, None, None, None]
        sigma = torch.sin(0.5 * torch.pi * times)[:, None, None, None]
        noisy, velocity = diffuse(future, torch.randn_like(future), alpha, sigma)
        return {"velocity": F.mse_loss(training(noisy, current, times).float(), velocity)}

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


@torch.no_grad()
def pictures(unet: nn.Module, encoder: Encoder, decoder: Decoder, session: Session) -> dict[str, Picture]:
    """The first val knees above their forecasts, both as the decoder draws them."""
    crops = session.data.knees["val"].pixels[:_SHOWN]
    latent, _ = encoder(next(radiograph_batches(crops, session)))
    channels_last(unet).eval()

    def velocity(noisy: np.ndarray, current: np.ndarray, time: np.ndarray) -> np.ndarray:
        arrays = [torch.from_numpy(array).to(latent.device) for array in (noisy, current, time)]
        answer: np.ndarray = unet(*arrays).float().cpu().numpy()
        return answer

    current = latent.float().cpu().numpy()
    noise = np.repeat(draw_noise(0, 1, current.shape[1:]), len(current), axis=0)
    forecast = torch.from_numpy(sample(velocity, current, noise, _SHOWN_STEPS)).to(latent.device)
    drawn = [decoder(z).float().cpu().numpy()[:, 0] for z in (latent, forecast)]
    return {"forecasts": side_by_side(*drawn)}
