"""What a published stack says of a cohort's knees: its own forward pass, as scoring would run it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

from kneerisk.compile import open as door
from kneerisk.method.predict import Forecast, ForecastSettings, ForwardPass
from kneerisk.stack.components import PREDICTING
from kneerisk.stack.stack import Stack
from kneerisk_train.data.knees import Knees

Crops = npt.NDArray[np.uint8] | npt.NDArray[np.float32]


@contextmanager
def open_networks(stack: Stack) -> Iterator[ForwardPass]:
    """A stack's networks and decoder on the CPU."""
    description = stack.description
    with door.open_networks(stack, (*PREDICTING, "decoder")) as runners:
        yield door.forward_pass(description, runners)


def views_of(networks: ForwardPass, crops: Crops) -> npt.NDArray[np.float32]:
    """Crops [N, S, S], uint8 or float32, as they are → what the encoder sees, float32 [N, V, S, S]."""
    return np.stack([networks.views(c.astype(np.uint16) if c.dtype == np.uint8 else c) for c in crops])


def forecast_knees(networks: ForwardPass, knees: Knees, steps: int, seed: int = 0) -> Forecast:
    """Everything of every knee, one future each."""
    return networks.forecast(views_of(networks, knees.pixels), ForecastSettings(steps, seed=seed))


def grade_crops(networks: ForwardPass, crops: Crops) -> dict[str, npt.NDArray[np.float32]]:
    """``kl`` [N, 5] and ``landmarks`` [N, 16, 2] now of crops [N, S, S]."""
    views = views_of(networks, crops)
    return networks.grade([networks.encode(views[:, look])["latent"] for look in range(views.shape[1])])


def usual_forecast(stack: Stack, knees: Knees) -> Forecast:
    """Everything of every knee, as scoring would forecast it unless asked otherwise."""
    with open_networks(stack) as networks:
        return forecast_knees(networks, knees, stack.description.steps)
