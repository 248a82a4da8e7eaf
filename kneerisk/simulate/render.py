"""From a knee's outlines to attenuation: what the detector would see before any processing.

All drawing happens on a float32 canvas of attenuation (a log signal, so overlapping tissues add).  Thickness
across an outline is that of an elliptic cross section; bone has a thin dense shell, whose path is longest at
the edge and gives the bright cortical line, around trabecular bone with a fine, mostly vertical texture.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.simulate.shape import KneeShape, Points

Image = npt.NDArray[np.float32]

# Attenuation beyond that of soft tissue, per mm (chosen by eye against real radiographs).
TRABECULAR = 0.0080
CORTICAL = 0.042
SOFT = 0.0165
_LINE = 0.19  # what a line of full strength seen through the bone adds


def draw_knee(
    canvas: Image, shape: KneeShape, to_canvas: Points, rng: np.random.Generator, texture: float
) -> None:
    """Add one knee's bones to ``canvas`` [H, W] in place.

    ``to_canvas`` [2, 3] maps mm of the right-knee frame to canvas pixels (it mirrors, turns and scales);
    ``texture`` scales the trabecular pattern (1 is usual).
    """
    corners = np.array([[x, y, 1.0] for x in (-64.0, 64.0) for y in (-215.0, 215.0)]) @ to_canvas.T
    height, width = canvas.shape
    left, top = np.maximum(np.floor(corners.min(0)).astype(int), 0)
    right, bottom = np.minimum(np.ceil(corners.max(0)).astype(int) + 1, (width, height))
    if right - left < 8 or bottom - top < 8:
        return
    px_per_mm = float(np.sqrt(abs(np.linalg.det(to_canvas[:, :2]))))
    local = to_canvas.copy()
    local[:, 2] -= (left, top)
    size = (int(bottom - top), int(right - left))
    ys = _along(local, size)
    grain = trabeculae(rng, size, px_per_mm)
    grain = 1 + texture * 0.08 * grain

    # At the joint a bone ends like a plate, at its full depth within a few mm; its shaft is a thick tube.
    far = np.abs(ys)
    shell = np.interp(far, (0, 8, 30, 60, 100, 200), (0.05, 0.12, 0.32, 1.2, 3.2, 4.2)).astype(np.float32)
    total = np.zeros(size, np.float32)
    rim = np.interp(far, (0, 6, 25, 60, 100), (4, 6, 13, 15, 14)).astype(np.float32)
    depth = np.interp(ys, (-100, -50, -25, 0), (29, 40, 50, 44)).astype(np.float32)
    femur, inside = bone(shape.femur, local, size, px_per_mm, depth, rim, shell, grain)
    total += femur * (1 - _notch(shape, local, size))
    rim = np.interp(far, (0, 5, 20, 60, 100), (3, 5, 13, 15, 14)).astype(np.float32)
    depth = np.interp(ys, (0, 12, 40, 90), (43, 40, 34, 28)).astype(np.float32)
    tibia, inside_t = bone(shape.tibia, local, size, px_per_mm, depth, rim, shell, grain)
    total += tibia
    flat = np.ones(size, np.float32)
    fibula, _ = bone(shape.fibula, local, size, px_per_mm, 11 * flat, 6 * flat, 0.6 * shell + 0.1, grain)
    total += fibula
    patella, _ = bone(shape.patella, local, size, px_per_mm, 11 * flat, 9 * flat, 0.06 * flat, grain)
    total += patella
    skeleton = np.maximum(inside, inside_t)
    total += _seen_through(shape, local, size, px_per_mm) * skeleton * (0.75 + 0.25 * grain)
    canvas[top:bottom, left:right] += total


def soft_tissue(
    size: tuple[int, int], axis: Points, half_width: Points, px_per_mm: float, rng: np.random.Generator
) -> Image:
    """One leg's soft tissue as attenuation [H, W].

    ``axis`` [H] and ``half_width`` [H] are the leg's centre and half-width in pixels for every row; fat
    under the skin attenuates less than muscle.
    """
    x = np.arange(size[1], dtype=np.float32)[None]
    u = np.abs(x - axis[:, None].astype(np.float32)) / half_width[:, None].astype(np.float32)
    fat = float(rng.uniform(0.08, 0.2))
    depth = 1.7 * float(half_width.mean()) / px_per_mm
    skin = np.sqrt(np.clip(1 - u * u, 0, None))
    muscle = np.sqrt(np.clip(1 - (u / (1 - fat)) ** 2, 0, None))
    return np.asarray(SOFT * depth * (0.55 * skin + 0.45 * muscle), np.float32)


def _along(to_canvas: Points, size: tuple[int, int]) -> Image:
    """The knee frame's y in mm at every pixel of a patch."""
    inverse = np.linalg.inv(np.vstack([to_canvas, [0, 0, 1]]))[1]
    rows, cols = np.arange(size[0])[:, None], np.arange(size[1])[None]
    return np.asarray(inverse[0] * cols + inverse[1] * rows + inverse[2], np.float32)


def _pixels(points: Points, to_canvas: Points) -> npt.NDArray[np.int32]:
    """Points in mm → OpenCV's fixed-point pixels with 4 fractional bits."""
    mapped = points @ to_canvas[:, :2].T + to_canvas[:, 2]
    return np.round(mapped * 16).astype(np.int32)


def bone(
    outline: Points,
    to_canvas: Points,
    size: tuple[int, int],
    px_per_mm: float,
    depth: Image,
    rim: Image,
    shell: Image,
    grain: Image,
) -> tuple[Image, Image]:
    """A bone's attenuation beyond soft tissue, and its soft mask (0..1).

    ``depth`` is its thickness along the beam in mm, reached ``rim`` mm inside the outline; ``shell`` the
    thickness of its dense wall in mm.
    """
    mask = np.zeros(size, np.uint8)
    cv2.fillPoly(mask, [_pixels(outline, to_canvas)], 255, cv2.LINE_AA, 4)
    cover = np.asarray(mask.astype(np.float32) / 255, np.float32)
    d = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    edge = np.maximum(d - 0.5, 0) + np.minimum(cover, 0.5)
    d = np.asarray(cv2.GaussianBlur(edge, (0, 0), 0.6), np.float32) / np.float32(px_per_mm)
    chord = depth * _ellipse(d / rim)
    inner = depth * (1 - shell / rim) * _ellipse((d - shell) / (rim - shell))
    body = TRABECULAR * inner * grain + CORTICAL * (chord - inner)
    return np.asarray(body * np.minimum(cover * 2, 1), np.float32), np.asarray(cover, np.float32)


def _ellipse(inward: Image) -> Image:
    """Height of a quarter ellipse at ``inward`` of its way from the edge (0) to the full depth (1)."""
    u = 1 - np.clip(inward, 0, 1)
    return np.asarray(np.sqrt(1 - u * u), np.float32)


def _notch(shape: KneeShape, to_canvas: Points, size: tuple[int, int]) -> Image:
    """Share of femoral bone missing above the notch's apex, where the roof slants away (0..0.4)."""
    apex = shape.landmarks[12] + (0, -5.0)
    return _blob(to_canvas, size, (float(apex[0]), float(apex[1])), (7.5, 8.0)) * np.float32(0.3)


def _blob(
    to_canvas: Points, size: tuple[int, int], centre: tuple[float, float], half: tuple[float, float]
) -> Image:
    """A Gaussian spot of the knee frame on a patch."""
    inverse = np.linalg.inv(np.vstack([to_canvas, [0, 0, 1]]))
    rows, cols = np.arange(size[0], dtype=np.float32)[:, None], np.arange(size[1], dtype=np.float32)[None]
    x = (inverse[0, 0] * cols + inverse[0, 1] * rows + inverse[0, 2] - centre[0]) / half[0]
    y = (inverse[1, 0] * cols + inverse[1, 1] * rows + inverse[1, 2] - centre[1]) / half[1]
    return np.asarray(np.exp(-0.5 * (x * x + y * y)), np.float32)


def _seen_through(shape: KneeShape, to_canvas: Points, size: tuple[int, int], px_per_mm: float) -> Image:
    """Inner lines and subchondral density."""
    out = np.zeros(size, np.float32)
    for points, thickness, strength in shape.lines:
        layer = np.zeros(size, np.uint8)
        width = max(round(thickness * px_per_mm), 1)
        cv2.polylines(layer, [_pixels(points, to_canvas)], False, 255, width, cv2.LINE_AA, 4)
        out += layer.astype(np.float32) * np.float32(strength * _LINE / 255)
    sharp = cv2.GaussianBlur(out, (0, 0), max(0.2 * px_per_mm, 0.3))
    wide = cv2.GaussianBlur(out, (0, 0), max(1.1 * px_per_mm, 0.3))
    out = 0.9 * sharp + 0.6 * wide
    for x, y, a, b, strength in shape.sclerosis:
        out += _blob(to_canvas, size, (x, y), (a * 0.75, b * 0.75)) * np.float32(strength * 0.2)
    return np.asarray(out, np.float32)


def trabeculae(rng: np.random.Generator, size: tuple[int, int], px_per_mm: float) -> Image:
    """Trabecular pattern, about 0 ± 1: mostly vertical struts, some crossing ones, and patches."""
    white = rng.standard_normal(size, dtype=np.float32)
    s = px_per_mm
    upright = cv2.GaussianBlur(white, (0, 0), sigmaX=max(0.16 * s, 0.3), sigmaY=1.1 * s)
    upright = upright - cv2.GaussianBlur(white, (0, 0), sigmaX=0.6 * s, sigmaY=1.4 * s)
    across = cv2.GaussianBlur(white[::-1, ::-1], (0, 0), sigmaX=0.9 * s, sigmaY=max(0.22 * s, 0.3))
    out = 0.85 * upright / upright.std() + 0.35 * across / across.std()
    for mm, weight in ((4.0, 0.45), (15.0, 0.6)):
        step = max(round(mm * s), 1)
        coarse = (size[0] // step + 2, size[1] // step + 2)
        out += weight * cv2.resize(
            rng.standard_normal(coarse, dtype=np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
        )
    return np.asarray(out, np.float32)
