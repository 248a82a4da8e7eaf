"""Augmentation of crops that stays in the right-knee frame: no mirroring, small rotations, other exposures.

An augmented crop is moved (:func:`draw_affine`), then exposed anew (:func:`expose`): what another film,
detector or processing of the same knee would have made of it.  :func:`augment_twice` gives the moved crop
both as it was exposed and exposed anew, for losses that ask a knee to stay the same knee.

Every draw comes from the generator that is passed in, so that a resumed training sees the same crops.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.method.exposure import equalise

_SIDE = 224


@dataclass(frozen=True)
class AugmentConfig:
    """Largest change of each kind; 0 turns it off.  Pixels are those of a crop of 224 a side."""

    rotation_degrees: float = 8.0
    scale: float = 0.12
    aspect: float = 0.10
    shift_px: float = 10.0
    field: float = 0.35
    """Of a smooth multiplicative brightness field, in log units."""
    blur_px: float = 0.8
    noise: float = 0.03
    """Standard deviation of pixel noise after equalisation, at most."""
    erase: float = 0.25
    """Probability that a random rectangle is replaced by its mean."""
    looks: float = 0.0
    """Probability of another system's look: each of the changes below, every second time."""
    resolution: float = 1.6
    """Coarsest pixels, in pixels of the crop, that a look may have."""
    sharpen: float = 1.2
    """Largest amount of unsharp masking, with a radius of 0.7 to 6 pixels."""
    flatten: float = 0.5
    """Largest share of the slow variation (a quarter of the crop) taken out: latitude compression."""
    grain: float = 0.05
    """Standard deviation, at most, of noise before equalisation, in units of four times the crop's own."""
    clip: float = 0.06
    """Largest share of the pixels that the window cuts off, at the dark and at the bright end each."""
    curve: float = 0.35
    """Largest log of the exponent of a contrast curve after equalisation: other surroundings, other ranks."""
    collimation: float = 0.12
    """Widest border, as a share of the crop, that a collimator covers, at one or two sides."""


def augment(
    pixels: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """One crop [S, S] and its landmarks [16, 2] (x, y; may be NaN) → an equalised, changed copy of both.

    Returns:
        float32 [S, S] in 0..1, and landmarks in its pixels.
    """
    matrix = draw_affine(pixels.shape[0], config, rng)
    standard = expose(_moved(pixels, matrix), config, rng)
    _erase(standard[None], config, rng)
    return standard, move(landmarks, matrix)


def augment_twice(
    pixels: npt.NDArray[np.uint8],
    landmarks: npt.NDArray[np.float32],
    config: AugmentConfig,
    rng: np.random.Generator,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """As :func:`augment`, of one and the same moved crop as it was exposed and as it might have been.

    Returns:
        float32 [2, S, S] in 0..1, the crop's own exposure first, and landmarks [16, 2] that hold for both.
    """
    matrix = draw_affine(pixels.shape[0], config, rng)
    moved = _moved(pixels, matrix)
    standard = np.stack([equalise(moved), expose(moved, config, rng)])
    _erase(standard, config, rng)
    return standard, move(landmarks, matrix)


def expose(
    levels: npt.NDArray[np.uint16], config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Grey levels [S, S] in 0..65025 → a re-exposed and equalised copy, float32 [S, S] in about 0..1."""
    size = levels.shape[0]
    changed = levels
    looks = bool(config.looks) and rng.random() < config.looks
    if looks:
        changed = _processed(changed, config, rng)
    if config.blur_px and rng.random() < 0.3:
        sigma = max(config.blur_px * float(rng.random()) * size / _SIDE, 0.1)
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), sigma), np.uint16)
    if config.field and rng.random() < 0.5:
        coarse = rng.normal(0.0, config.field, (3, 3)).astype(np.float32)
        field = np.exp(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
        # Scaled to fit, not cut off: a field dims, and only a window saturates.
        dimmed = changed * field
        changed = (dimmed * min(1.0, 65535 / max(float(dimmed.max()), 1.0))).astype(np.uint16)
    standard = equalise(changed.astype(np.uint16))
    if looks and rng.random() < 0.5:
        standard **= np.float32(np.exp(rng.uniform(-1, 1) * config.curve))
    if config.noise:
        strength = np.float32(config.noise * rng.random())
        standard = standard + strength * rng.standard_normal(standard.shape, dtype=np.float32)
    return standard


def _processed(
    levels: npt.NDArray[np.uint16], config: AugmentConfig, rng: np.random.Generator
) -> npt.NDArray[np.uint16]:
    """Another system's resolution, grain, latitude, sharpness, window, collimator, each every second time."""
    size = levels.shape[0]
    image = levels.astype(np.float32)
    spread = float(image.std()) + 1.0
    if rng.random() < 0.5:
        small = max(8, round(size / rng.uniform(1.0, max(config.resolution, 1.0))))
        coarse = cv2.resize(image, (small, small), interpolation=cv2.INTER_AREA)
        image = np.asarray(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC), np.float32)
    if rng.random() < 0.5:
        grain = rng.standard_normal(image.shape, dtype=np.float32)
        if rng.random() < 0.5:
            grain = np.asarray(2 * cv2.GaussianBlur(grain, (0, 0), 0.8), np.float32)
        image += np.float32(4 * spread * config.grain * rng.random()) * grain
    if rng.random() < 0.5:
        little = cv2.resize(image, (size // 8, size // 8), interpolation=cv2.INTER_AREA)
        slow = cv2.resize(cv2.GaussianBlur(little, (0, 0), size / 32), (size, size))
        image -= np.float32(config.flatten * rng.random()) * (slow - slow.mean())
    if rng.random() < 0.5:
        radius = float(np.exp(rng.uniform(np.log(0.7), np.log(6.0)))) * size / _SIDE
        image += np.float32(config.sharpen * rng.random()) * (image - cv2.GaussianBlur(image, (0, 0), radius))
    low, high = np.float32(image.min()), np.float32(image.max())
    if rng.random() < 0.5:
        low, high = np.quantile(
            image[::4, ::4], (config.clip * rng.random(), 1 - config.clip * rng.random())
        ).astype(np.float32)
    scaled = (image.clip(low, high) - low) * np.float32(65535 / max(float(high - low), 1.0))
    if rng.random() < 0.5:
        level = 65535.0 if rng.random() < 0.3 else 0.0
        for side in rng.choice(4, int(rng.integers(1, 3)), replace=False):
            # A view onto the picture turned so that the side in question is its first rows.
            np.rot90(scaled, side)[: int(config.collimation * rng.random() * size)] = level
    return np.asarray(scaled, np.uint16)


def _moved(pixels: npt.NDArray[np.uint8], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.uint16]:
    size = pixels.shape[0]
    levels = pixels.astype(np.uint16) * 255
    return cv2.warpAffine(  # type: ignore[return-value]
        levels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )


def _erase(standard: npt.NDArray[np.float32], config: AugmentConfig, rng: np.random.Generator) -> None:
    """One rectangle of the crops [V, S, S], the same in all, to each one's mean there; in place."""
    if not config.erase or rng.random() >= config.erase:
        return
    size = standard.shape[-1]
    height, width = rng.integers(size // 12, size // 4, 2)
    top, left = rng.integers(0, size - height), rng.integers(0, size - width)
    patch = standard[:, top : top + height, left : left + width]
    patch[...] = patch.mean(axis=(1, 2), keepdims=True)


def move(landmarks: npt.NDArray[np.float32], matrix: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Points [K, 2] by an affine [2, 3]."""
    moved: npt.NDArray[np.float32] = (landmarks @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)
    return moved


def draw_affine(size: int, config: AugmentConfig, rng: np.random.Generator) -> npt.NDArray[np.float64]:
    """Crop pixel → augmented crop pixel, [2, 3], about the crop's centre: :func:`augment`'s first draw."""
    angle = np.deg2rad(rng.uniform(-1, 1) * config.rotation_degrees)
    scale = np.exp(rng.uniform(-1, 1) * config.scale)
    aspect = np.exp(rng.uniform(-1, 1) * config.aspect)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([scale * aspect, scale / aspect])
    centre = np.full(2, (size - 1) / 2)
    shift = centre - linear @ centre + rng.uniform(-1, 1, 2) * config.shift_px * size / _SIDE
    return np.column_stack([linear, shift])
