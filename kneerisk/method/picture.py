"""The picture of a forecast: as the decoder draws it, and with the radiograph's own fine texture.

The decoder draws through the codes, which keep shapes and drop the bone's texture, so beside its radiograph a
decoded forecast looks blurred, and a reader may take the blur for a change. What the decoder loses of the
radiograph, radiograph - D(z0), is no part of the forecast. Laid over D(ẑ12), it leaves what the forecast
changed, D(ẑ12) - D(z0), as the only difference between the two pictures.
"""

from __future__ import annotations

import cv2
import numpy as np

from kneerisk.records import FloatArray

_COARSE = 8
"""Pixels a step of the field of shifts, which is smooth."""


def textured(
    radiograph: FloatArray,
    decoded_now: FloatArray,
    decoded_12m: FloatArray,
    landmarks_now: FloatArray,
    landmarks_12m: FloatArray,
) -> FloatArray:
    """D(ẑ12) plus what the decoder loses of the radiograph, which goes along with the landmarks.

    Args:
        radiograph: the equalised crop as the encoder sees it, float32 [S, S] in 0..1.
        decoded_now: D(z0), the same.
        decoded_12m: D(ẑ12), the same.
        landmarks_now: [16, 2] x, y in pixels of the radiograph.
        landmarks_12m: the same in the forecast.

    Returns:
        float32 [S, S], clipped to 0..1: the radiograph itself where the forecast is the latent of now.
    """
    lost = radiograph - decoded_now
    y, x = np.mgrid[: lost.shape[0], : lost.shape[1]].astype(np.float32)
    shift = _shifts(landmarks_12m, landmarks_now - landmarks_12m, lost.shape[0])
    x, y = x + shift[..., 0], y + shift[..., 1]
    moved = cv2.remap(lost, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(np.clip(decoded_12m + moved, 0.0, 1.0), np.float32)


def _shifts(points: FloatArray, shifts: FloatArray, size: int) -> FloatArray:
    """A smooth field [size, size, 2] that has the shifts [N, 2] at the points and fades away from them.

    Inverse distance weighting (Shepard 1968) by the fourth power, and of a standstill as an eighth of the
    picture away.
    """
    places = (np.arange(-(-size // _COARSE)) + 0.5) * _COARSE - 0.5
    x, y = np.meshgrid(places, places)
    away = np.square(x[..., None] - points[:, 0]) + np.square(y[..., None] - points[:, 1])
    weight = 1 / np.square(away + 1.0)
    field = weight @ shifts / (weight.sum(axis=2) + 1 / (size / 8) ** 4)[..., None]
    whole = len(places) * _COARSE
    large = cv2.resize(field.astype(np.float32), (whole, whole), interpolation=cv2.INTER_LINEAR)
    return np.asarray(large[:size, :size], np.float32)
