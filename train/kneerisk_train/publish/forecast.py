"""A stack's networks over many knees at once, for publishing and measuring (scoring has its own chain)."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from kneerisk_engines.runner import Runner

from kneerisk.method.diffusion import draw_noise, sample
from kneerisk.method.exposure import equalise
from kneerisk.method.views import mean_posterior, zoomed
from kneerisk.stack.stack import Stack
from kneerisk_train.data.knees import Knees

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Forecast:
    """What the networks say of N knees."""

    latent: Array
    """[N, C, h, w]."""
    novelty: Array
    """[N]."""
    future: Array
    """[N, C, h, w]: one sampled future each."""
    p_now: Array
    """[N, 5]."""
    p_12m: Array
    """[N, 5]."""
    landmarks: Array
    """[N, 16, 2] in crop pixels, now."""


def equalised(crops: npt.NDArray[np.uint8] | Array) -> list[Array]:
    """Crops [N, S, S], uint8 or float32, in the standard grey scale."""
    return [equalise(c.astype(np.uint16) if c.dtype == np.uint8 else c) for c in crops]


class Networks:
    """The opened components of a stack; a context manager."""

    def __init__(self, stack: Stack, backend: str = "cpu", precision: str = "auto", device: str = "cpu"):
        self.stack = stack
        self._open = ExitStack()
        self.runners: Mapping[str, Runner] = {
            name: self._open.enter_context(stack.open(name, backend, precision, device=device))  # type: ignore[arg-type]
            for name in stack.description.components
            if name != "localiser"
        }

    def __enter__(self) -> Networks:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.close()

    def run(self, component: str, arrays: Mapping[str, Array], batch: int = 32) -> dict[str, Array]:
        """A component over arrays of any length."""
        length = len(next(iter(arrays.values())))
        parts = [
            self.runners[component].run({k: a[start : start + batch] for k, a in arrays.items()})
            for start in range(0, length, batch)
        ]
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def grade(self, crops: npt.NDArray[np.uint8] | Array, latent: Array) -> dict[str, Array]:
        """``kl`` and ``landmarks`` now of crops and their latents, ``kl`` averaged over the stack's zooms."""
        now = self.run("classifier_now", {"latent": latent})
        looks = [now["kl"]]
        for zoom in self.stack.description.grade_zooms[1:]:
            seen = np.stack([zoomed(standard, zoom) for standard in equalised(crops)])[:, None]
            z = self.run("encoder", {"radiograph": seen})["latent"]
            looks.append(self.run("classifier_now", {"latent": z})["kl"])
        return now | {"kl": mean_posterior(looks)}

    def encode(self, crops: npt.NDArray[np.uint8] | Array) -> dict[str, Array]:
        """Crops [N, S, S], uint8 or float32, as they are → ``latent`` and ``novelty``."""
        return self.run("encoder", {"radiograph": np.stack(equalised(crops))[:, None]})

    def future(self, latent: Array, steps: int, seed: int = 0) -> Array:
        """One sampled future of each latent, all from the seed's noise, by the U-Net of so many steps."""
        noise = np.repeat(draw_noise(seed, 1, latent.shape[1:]), len(latent), axis=0)
        unet = self.stack.description.forecaster(steps)

        def velocity(noisy: Array, current: Array, time: Array) -> Array:
            return self.run(unet, {"noisy": noisy, "current": current, "time": time})["velocity"]

        return sample(velocity, latent, noise, steps)

    def forecast(self, knees: Knees, steps: int, seed: int = 0) -> Forecast:
        """Everything of every knee."""
        encoded = self.encode(knees.pixels)
        future = self.future(encoded["latent"], steps, seed)
        now = self.grade(knees.pixels, encoded["latent"])
        later = self.run("classifier_12m", {"latent": future})
        return Forecast(
            encoded["latent"], encoded["novelty"], future, now["kl"], later["kl"], now["landmarks"]
        )
