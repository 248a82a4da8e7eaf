"""How a vendor's system turns attenuation into stored pixels: exposure, noise, processing, headers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from kneerisk.simulate.render import Image

Syntax = Literal[
    "explicit-little-endian", "implicit-little-endian", "rle", "jpeg-lossless", "jpeg-ls", "jpeg-2000"
]
SpacingTag = Literal["ImagerPixelSpacing", "PixelSpacing", "none"]


@dataclass(frozen=True, slots=True)
class Look:
    """One vendor's way with an image and its header; the vendors are invented."""

    name: str
    modality: Literal["CR", "DX"]
    bits: int
    photometric: Literal["MONOCHROME1", "MONOCHROME2"]
    syntax: Syntax
    spacing_tag: SpacingTag
    spacing_mm: float
    gamma: float
    flatten: float
    """Share of the slow (20 mm) variation taken out: latitude compression."""
    edge: float
    """Amount of unsharp masking, and its radius."""
    edge_mm: float
    blur_mm: float
    noise: float
    """Standard deviation of the log signal where the beam is unweakened."""
    white_border: bool
    """Whether the field outside the collimator is left white instead of being masked black."""


LOOKS = (
    Look("Borealis CR 30", "CR", 12, "MONOCHROME1", "explicit-little-endian", "ImagerPixelSpacing", 0.17,
         1.0, 0.1, 0.3, 1.2, 0.26, 0.010, True),
    Look("Cassini DR-X", "DX", 14, "MONOCHROME2", "jpeg-lossless", "ImagerPixelSpacing", 0.143,
         0.85, 0.35, 0.9, 2.0, 0.18, 0.012, False),
    Look("Meridian Plate 2", "CR", 12, "MONOCHROME1", "rle", "PixelSpacing", 0.2,
         1.25, 0.0, 0.0, 1.0, 0.34, 0.014, True),
    Look("Orion Digital", "DX", 16, "MONOCHROME2", "jpeg-ls", "PixelSpacing", 0.148,
         1.1, 0.2, 0.5, 1.5, 0.2, 0.008, False),
    Look("Halden Computed", "CR", 12, "MONOCHROME2", "jpeg-2000", "none", 0.175,
         0.7, 0.15, 0.2, 3.0, 0.3, 0.012, False),
    Look("Septima CR", "CR", 12, "MONOCHROME1", "implicit-little-endian", "none", 0.15,
         1.5, 0.25, 0.7, 0.8, 0.22, 0.018, True),
)  # fmt: skip


def expose(
    attenuation: Image, tissue: Image, look: Look, mm_per_px: float, rng: np.random.Generator
) -> Image:
    """Attenuation → processed signal in 0..1, bone bright, both [H, W] float32, before noise.

    ``tissue`` is the soft tissue alone: the window is set on what lies behind skin.
    """
    scatter = float(rng.uniform(0.05, 0.15))
    signal = (1 - scatter) * attenuation + scatter * _slow(attenuation, 25 / mm_per_px)
    signal = np.asarray(cv2.GaussianBlur(signal, (0, 0), max(look.blur_mm / mm_per_px, 0.25)), np.float32)
    slow = _slow(signal, 20 / mm_per_px)
    signal = signal - look.flatten * slow
    if look.edge:
        signal = signal + look.edge * (signal - cv2.GaussianBlur(signal, (0, 0), look.edge_mm / mm_per_px))
    inside = signal[tissue > 0.4 * tissue.max()][::7]
    low, high = np.percentile(inside, (float(rng.uniform(0.2, 8)), float(rng.uniform(98.8, 99.9))))
    span = max(float(high - low), 0.1)
    low = low - span * float(rng.uniform(0.0, 0.7))
    high = high + span * float(rng.uniform(-0.06, 0.45))
    signal = np.clip((signal - low) / (high - low), 0, 1)
    return np.asarray(signal ** (look.gamma * float(rng.lognormal(0, 0.15))), np.float32)


def add_noise(signal: Image, attenuation: Image, look: Look, rng: np.random.Generator) -> Image:
    """Quantum noise, which grows with attenuation, and electronic noise; [H, W] float32, not clipped."""
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise = 0.6 * noise + 0.9 * cv2.GaussianBlur(noise, (0, 0), 0.8)
    strength = look.noise * float(rng.uniform(0.6, 1.5)) * np.exp(0.35 * np.clip(attenuation, 0, 5))
    return np.asarray(signal + 0.25 * strength * noise, np.float32)


def _slow(image: Image, sigma: float) -> Image:
    """A wide Gaussian blur, done small."""
    step = max(int(sigma / 3), 1)
    height, width = image.shape
    small = cv2.resize(image, (max(width // step, 2), max(height // step, 2)), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), sigma / step)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
