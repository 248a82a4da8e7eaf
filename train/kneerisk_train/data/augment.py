"""Augmentation of crops that stays in the right-knee frame: no mirroring, small rotations, other exposures.

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
    size = pixels.shape[0]
    matrix = draw_affine(size, config, rng)
    levels = pixels.astype(np.uint16) * 255
    changed = cv2.warpAffine(
        levels, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if config.blur_px and rng.random() < 0.3:
        changed = cv2.GaussianBlur(
            changed, (0, 0), max(config.blur_px * float(rng.random()) * size / _SIDE, 0.1)
        )
    if config.field and rng.random() < 0.5:
        coarse = rng.normal(0.0, config.field, (3, 3)).astype(np.float32)
        field = np.exp(cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC))
        changed = np.clip(changed * field, 0, 65535).astype(np.uint16)
    standard = equalise(changed.astype(np.uint16))
    if config.noise:
        strength = np.float32(config.noise * rng.random())
        standard = standard + strength * rng.standard_normal(standard.shape, dtype=np.float32)
    if config.erase and rng.random() < config.erase:
        height, width = rng.integers(size // 12, size // 4, 2)
        top, left = rng.integers(0, size - height), rng.integers(0, size - width)
        patch = standard[top : top + height, left : left + width]
        patch[...] = patch.mean()
    return standard, move(landmarks, matrix)


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
