"""Metal in a knee, simulated: replaced joints, and the screws, plates and nails that mend a bone.

Shapes are drawn by hand after such radiographs, in joint widths; thickness along the beam and the weakening
by cobalt-chromium, titanium and steel give what shines through. At 60 keV a millimetre of cobalt-chromium
weakens the beam by about 0.9, of steel by 0.95 and of titanium by 0.35 (mass attenuation coefficients of
NIST's tables times density): most implants are as white as the film gets, thin titanium is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.records import Side
from kneerisk.simulate.radiograph import SimulatedRadiograph
from kneerisk.simulate.render import Image
from kneerisk.simulate.shape import Points, smooth

COBALT_CHROMIUM: Final = 0.9
STEEL: Final = 0.95
TITANIUM: Final = 0.35
"""Weakening of the beam per mm, at 60 keV."""
_WIDTH_MM = 79.2
_FINE = 4
"""Fractional bits of the points that OpenCV draws."""


@dataclass(frozen=True, slots=True)
class Part:
    """One piece of metal, in joint widths: x from the image's left, y down, from the joint's middle."""

    outline: Points
    """[N, 2], closed."""
    weakening: float
    """Of the beam through its thickest line: thickness in mm times the metal's weakening per mm."""
    round_edge: bool = False
    """A cylinder across the beam: thin at its edges, as stems and screws are."""


def draw_metal(
    pixels: Image,
    parts: list[Part],
    to_pixels: Points,
    rng: np.random.Generator,
    *,
    white: float | None = None,
    spread: float = 0.0,
) -> Image:
    """Draw metal over a knee as a detector would see it through the bone.

    Args:
        pixels: float32 [H, W] in 0..1, bone bright.
        parts: the metal.
        to_pixels: [2, 3] affine: joint widths (x, y, 1) → pixels.
        rng: draws the film's white, its blur and its processing.
        white: the grey of opaque metal; drawn between the brightest bone and 1 where ``None``.
        spread: at most so much of the metal's slow part is taken out again, as latitude compression does.
    """
    scale = float(np.sqrt(abs(np.linalg.det(to_pixels[:, :2]))))
    weaken = np.zeros(pixels.shape, np.float32)
    for part in parts:
        weaken += _thickness(part, to_pixels, pixels.shape, scale)
    weaken = np.asarray(
        cv2.GaussianBlur(weaken, (0, 0), scale * float(rng.uniform(0.002, 0.006))), np.float32
    )
    brightest = float(np.quantile(pixels, 0.998))
    if white is None:
        white = brightest + (1 - brightest) * float(rng.uniform(0.0, 1.0))
    through = np.exp(-weaken)
    shown = (
        pixels * through
        + white * (1 - through) * (pixels < white)
        + pixels * (1 - through) * (pixels >= white)
    )
    if spread:
        slow = cv2.GaussianBlur(shown - pixels, (0, 0), 0.12 * scale)
        shown = shown - float(rng.uniform(0, spread)) * slow
    shown = shown + rng.normal(0, 0.006, shown.shape) * (1 - through)
    return np.asarray(np.clip(shown, 0, 1), np.float32)


def _thickness(part: Part, to_pixels: Points, shape: tuple[int, ...], scale: float) -> Image:
    mask = np.zeros(shape, np.uint8)
    at = part.outline @ to_pixels[:, :2].T + to_pixels[:, 2]
    cv2.fillPoly(mask, [np.round(at * 2**_FINE).astype(np.int32)], 255, cv2.LINE_AA, _FINE)
    cover = mask.astype(np.float32) / 255
    if not part.round_edge:
        return np.asarray(part.weakening * cover, np.float32)
    inward = cv2.distanceTransform((mask > 127).astype(np.uint8), cv2.DIST_L2, 5)
    radius = max(float(inward.max()), 1.0)
    chord = np.sqrt(np.clip(1 - (1 - np.clip(inward / radius, 0, 1)) ** 2, 0, 1))
    return np.asarray(part.weakening * np.maximum(chord, 0.3 * cover), np.float32)


def total(rng: np.random.Generator) -> list[Part]:
    """A total replacement: femoral shell, tibial tray, keel; the plastic between them shows no metal."""
    return [
        *_femoral(rng),
        *_tibial(rng, 0.45 + float(rng.uniform(0, 0.04)), 0.0, stem=rng.uniform(0.3, 0.5)),
    ]


def partial(rng: np.random.Generator) -> list[Part]:
    """A replacement of one compartment: a runner on the condyle and half a tray."""
    side = float(rng.choice([-1.0, 1.0]))
    inner, outer = float(rng.uniform(0.08, 0.14)), float(rng.uniform(0.42, 0.48))
    runner = smooth(
        [
            (inner, -0.02),
            ((inner + outer) / 2, 0.03),
            (outer, -0.02),
            (outer, -0.2 - rng.uniform(0, 0.1)),
            ((inner + outer) / 2, -0.3 - rng.uniform(0, 0.08)),
            (inner, -0.22),
            (inner, -0.02),
        ]
    )
    peg = _bar((inner + 0.16, -0.2), (inner + 0.14, -0.36), 0.07)
    top = float(rng.uniform(0.1, 0.13))
    tray = np.array(
        [(inner - 0.05, top), (outer + 0.01, top), (outer + 0.01, top + 0.055), (inner - 0.05, top + 0.05)]
    )
    keel = np.array([(inner, top), (inner + 0.05, top), (inner + 0.05, top + 0.17), (inner, top + 0.2)])
    flip = np.array([side, 1.0])
    return [
        Part(runner * flip, 12 * COBALT_CHROMIUM),
        Part(peg * flip, 5 * COBALT_CHROMIUM, round_edge=True),
        Part(tray * flip, 30 * float(rng.choice([TITANIUM, COBALT_CHROMIUM]))),
        Part(keel * flip, 15 * TITANIUM),
    ]


def stemmed(rng: np.random.Generator) -> list[Part]:
    """A revision: a total replacement whose stems leave the crop, at times joined by a hinge."""
    parts = [*_femoral(rng), *_tibial(rng, 0.47, 0.01, stem=rng.uniform(0.7, 1.4))]
    lean = float(rng.normal(0, 0.04))
    parts.append(
        Part(_bar((0, -0.3), (lean, -float(rng.uniform(0.8, 1.4))), 0.15), 14 * TITANIUM, round_edge=True)
    )
    if rng.random() < 0.4:
        parts.append(Part(_bar((0, -0.25), (0, 0.16), 0.24), 30 * COBALT_CHROMIUM))
    return parts


def screws(rng: np.random.Generator) -> list[Part]:
    """One to four screws across the upper tibia or a condyle, or a graft's two, seen along or end on."""
    metal = float(rng.choice([TITANIUM, STEEL]))
    parts = []
    for index in range(int(rng.integers(1, 5))):
        y = float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.17, 0.42)) + 0.03 * index
        start = np.array([float(rng.choice([-1.0, 1.0])) * float(rng.uniform(0.35, 0.5)), y])
        length, lean = float(rng.uniform(0.3, 0.8)), float(rng.normal(0, 0.15))
        stop = start + np.array([-np.sign(start[0]) * length, lean])
        wide = float(rng.uniform(0.045, 0.085))
        parts.append(Part(_bar(start, stop, wide, thread=True), wide * _WIDTH_MM * metal, round_edge=True))
        parts.append(Part(_bar(start, start + 0.06 * (stop - start) / length, 1.7 * wide), 6 * metal))
    return parts


def plate(rng: np.random.Generator) -> list[Part]:
    """A plate along the tibia's or the femur's side, with its screws."""
    metal = float(rng.choice([TITANIUM, STEEL]))
    side, way = float(rng.choice([-1.0, 1.0])), float(rng.choice([-1.0, 1.0]))
    outer = float(rng.uniform(0.4, 0.48))
    inner_end = outer - float(rng.uniform(0.18, 0.28))
    wide = float(rng.uniform(0.045, 0.1))
    spine = smooth(
        [
            (outer, 0.14 * way),
            (outer - 0.01, 0.25 * way),
            (inner_end + 0.03, 0.5 * way),
            (inner_end, 1.1 * way),
        ]
    )
    outline = np.concatenate([spine, spine[::-1] - (wide, 0)])
    flip = np.array([side, 1.0])
    parts = [Part(outline * flip, 11 * metal)]
    for index in range(int(rng.integers(2, 6))):
        at = spine[min(len(spine) - 1, 3 + 5 * index)]
        length = float(rng.uniform(0.3, 0.75)) if index < 3 else float(rng.uniform(0.25, 0.35))
        thick = float(rng.uniform(0.04, 0.065))
        bar = _bar(at, at - (length, rng.normal(0, 0.03)), thick, thread=True)
        parts.append(Part(bar * flip, thick * _WIDTH_MM * metal, round_edge=True))
    return parts


def nail(rng: np.random.Generator) -> list[Part]:
    """A nail in the tibia's or the femur's shaft, with one or two bolts across."""
    metal = float(rng.choice([TITANIUM, STEEL]))
    way = float(rng.choice([-1.0, 1.0]))
    start = float(rng.uniform(0.12, 0.25)) * way
    x, lean = float(rng.normal(0, 0.04)), float(rng.normal(0, 0.05))
    wide = float(rng.uniform(0.11, 0.15))
    parts = [Part(_bar((x, start), (x + lean, 1.5 * way), wide), 7 * metal, round_edge=True)]
    for index in range(int(rng.integers(1, 3))):
        y = start + (0.12 + 0.15 * index) * way
        bolt = _bar((x - 0.3, y), (x + 0.32, y + rng.normal(0, 0.04)), 0.055, thread=True)
        parts.append(Part(bolt, 4.5 * metal, round_edge=True))
    return parts


Draw = Callable[[np.random.Generator], list[Part]]
JOINTS: Final[dict[str, Draw]] = {"total": total, "partial": partial, "stemmed": stemmed}
"""Replaced joints: no grade is to be read."""
HARDWARE: Final[dict[str, Draw]] = {"screws": screws, "plate": plate, "nail": nail}
"""Metal beside a joint that is still there."""


def _femoral(rng: np.random.Generator) -> list[Part]:
    edge, notch = float(rng.uniform(0.43, 0.49)), float(rng.uniform(0.07, 0.12))
    top, deep = -float(rng.uniform(0.28, 0.42)), -float(rng.uniform(0.14, 0.26))
    half = [(notch, -0.05), (0.19, 0.015), (0.33, 0.015), (edge, -0.06), (edge, -0.2), (0.36, top)]
    half = [(0.9 * notch, deep), *half, (0.14, top - 0.06)]
    mirrored = [(-x, y) for x, y in reversed(half)]
    outline = smooth([*half, *mirrored, half[0]])
    # The condyles stand deep along the beam; the flange in front is a sheet.
    side = edge - 0.01
    lobe = smooth(
        [(notch, -0.04), (0.27, 0.012), (side, -0.05), (side, -0.18), (0.27, -0.22), (notch, -0.16)]
    )
    lobes = [lobe, lobe * (-1, 1)]
    sheet = float(rng.uniform(2.0, 4.0)) * COBALT_CHROMIUM
    return [Part(outline, sheet), *(Part(lobe, 15 * COBALT_CHROMIUM) for lobe in lobes)]


def _tibial(rng: np.random.Generator, half: float, drop: float, *, stem: float) -> list[Part]:
    top = 0.1 + drop + float(rng.uniform(0, 0.03))
    metal = float(rng.choice([TITANIUM, COBALT_CHROMIUM]))
    thick = float(rng.uniform(0.045, 0.065))
    tray = np.array(
        [
            (-half, top),
            (half, top),
            (half, top + 0.8 * thick),
            (half - 0.03, top + thick),
            (-half + 0.03, top + thick),
            (-half, top + 0.8 * thick),
        ]
    )
    wing = float(rng.uniform(0.18, 0.3))
    fins = np.array([(-wing, top + thick), (wing, top + thick), (0.07, top + 0.24), (-0.07, top + 0.24)])
    wide = float(rng.uniform(0.13, 0.2))
    post = _bar((0, top), (float(rng.normal(0, 0.015)), top + float(stem)), wide)
    return [Part(tray, 40 * metal), Part(fins, 3.0 * metal), Part(post, 12 * metal, round_edge=True)]


def _bar(start: npt.ArrayLike, stop: npt.ArrayLike, wide: float, *, thread: bool = False) -> Points:
    """A rod's outline, a closed polygon [N, 2]; a screw's has a thread."""
    first, last = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    along = last - first
    length = float(np.linalg.norm(along))
    across = np.array([-along[1], along[0]]) / max(length, 1e-9)
    steps = np.linspace(0, 1, 2 if not thread else max(4, round(length / 0.018)))
    half = np.full(len(steps), wide / 2)
    if thread:
        half = half * np.where(np.arange(len(steps)) % 2, 1.0, 0.72)
    middle = first + steps[:, None] * along
    return np.concatenate([middle + half[:, None] * across, (middle - half[:, None] * across)[::-1]])


def with_implants(simulated: SimulatedRadiograph, sides: tuple[Side, ...]) -> SimulatedRadiograph:
    """The radiograph with a simulated total replacement drawn over the knees of ``sides``."""
    if not sides:
        return simulated
    top = 2**simulated.look.bits - 1
    pixels = simulated.pixels.astype(np.float32) / np.float32(top)
    for index, knee in enumerate(simulated.knees):
        if knee.side in sides:
            rng = np.random.default_rng([simulated.seed, 5, index])
            pixels = draw_metal(pixels, total(rng), joint_frame(knee.landmarks), rng, white=1.0)
    return replace(simulated, pixels=np.round(pixels * top).astype(np.uint16))


def joint_frame(landmarks: npt.NDArray[np.floating]) -> Points:
    """[2, 3] affine from joint widths to pixels, of a knee of either side by its 16 landmarks [16, 2]."""
    points = landmarks.astype(np.float64)
    across = points[8] - points[0]
    if across[0] < 0:
        across = -across
    down = np.array([-across[1], across[0]])
    return np.column_stack([across, down, points.mean(axis=0)])
