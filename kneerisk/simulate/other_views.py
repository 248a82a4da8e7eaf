"""Simulated radiographs that show no frontal knee: a knee from the side or along the thigh, and other joints.

Drawn as :mod:`kneerisk.simulate.radiograph` draws knees, from far fewer points: bones whose thickness along
the beam is an ellipse's, in soft tissue, through a vendor's processing. They try a localiser that must
refuse them; nobody should learn anatomy from them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt

from kneerisk.simulate.render import SOFT, Image, bone, trabeculae
from kneerisk.simulate.shape import Points, smooth
from kneerisk.simulate.vendors import LOOKS, add_noise, expose

SPACING_MM = 0.5
Bone = tuple[Points, float, float]
"""Outline [N, 2] in mm about the picture's middle (x right, y down), depth and thickness of its wall, mm."""
Limb = tuple[list[Bone], list[tuple[Points, float]]]
"""Bones, and courses [N, 2] of soft tissue with their width in mm."""


def simulate_other_view(seed: int, part: str) -> Image:
    """One radiograph without a frontal knee.

    Args:
        seed: everything is drawn from it.
        part: one of :data:`PARTS`.

    Returns:
        float32 [H, W] in 0..1, bone bright, :data:`SPACING_MM` mm a pixel.
    """
    rng = np.random.default_rng([seed, 11, sorted(PARTS).index(part)])
    look = LOOKS[int(rng.integers(len(LOOKS)))]
    bones, courses = PARTS[part](rng)
    field_mm = rng.uniform(170, 300), rng.uniform(130, 220)
    size = (round(field_mm[0] / SPACING_MM), round(field_mm[1] / SPACING_MM))
    turn = np.radians(float(rng.normal(0, 6)))
    zoom = float(rng.normal(1, 0.08)) / SPACING_MM
    flip = float(rng.choice([-1.0, 1.0]))
    to_canvas = np.array(
        [
            [zoom * flip * np.cos(turn), -zoom * np.sin(turn), size[1] * rng.uniform(0.42, 0.58)],
            [zoom * flip * np.sin(turn), zoom * np.cos(turn), size[0] * rng.uniform(0.42, 0.58)],
        ]
    )
    tissue = np.zeros(size, np.float32)
    for course, wide in courses:
        tissue = np.maximum(tissue, _tissue(course, wide, to_canvas, size))
    grain = 1 + 0.08 * trabeculae(rng, size, 1 / SPACING_MM)
    skeleton = np.zeros(size, np.float32)
    for outline, depth, wall in bones:
        skeleton += _bone(outline, depth, wall, to_canvas, size, grain)
    attenuation = tissue + skeleton
    signal = expose(attenuation, tissue, look, SPACING_MM, rng)
    return np.asarray(np.clip(add_noise(signal, attenuation, look, rng), 0, 1), np.float32)


def _tissue(course: Points, wide: float, to_canvas: Points, size: tuple[int, int]) -> Image:
    layer = np.zeros(size, np.uint8)
    at = course @ to_canvas[:, :2].T + to_canvas[:, 2]
    cv2.polylines(
        layer, [np.round(at).astype(np.int32)], False, 255, max(1, round(wide / SPACING_MM)), cv2.LINE_AA
    )
    inward = cv2.distanceTransform(layer, cv2.DIST_L2, 5) * SPACING_MM
    half = wide / 2
    return np.asarray(
        2 * SOFT * np.sqrt(np.clip(half**2 - np.clip(half - inward, 0, half) ** 2, 0, None)), np.float32
    )


def _bone(
    outline: Points, depth: float, wall: float, to_canvas: Points, size: tuple[int, int], grain: Image
) -> Image:
    flat = np.ones(size, np.float32)
    rim = min(depth / 2, 14.0)
    drawn, _ = bone(
        outline,
        to_canvas,
        size,
        1 / SPACING_MM,
        depth * flat,
        rim * flat,
        min(wall, 0.45 * rim) * flat,
        grain,
    )
    return drawn


def _rod(
    start: npt.ArrayLike, stop: npt.ArrayLike, shaft: float, near: float, far: float, flare: float = 0.2
) -> Points:
    """A long bone's outline: a shaft between two rounded ends of their own widths."""
    a, b = np.asarray(start, np.float64), np.asarray(stop, np.float64)
    along = b - a
    across = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    at = np.array([0.0, 0.02, 0.5 * flare, flare, 0.5, 1 - flare, 1 - 0.5 * flare, 0.98, 1.0])
    half = np.array([0.6 * near, 0.9 * near, near, shaft, 0.94 * shaft, shaft, far, 0.9 * far, 0.6 * far]) / 2
    middle = a + at[:, None] * along
    outline = np.concatenate([middle + half[:, None] * across, (middle - half[:, None] * across)[::-1]])
    return smooth(np.concatenate([outline, outline[:1]]), steps=6)


def _curve(points: str) -> Points:
    """A smooth line through points written as ``x y, x y``: [N, 2] in mm."""
    return smooth([[float(value) for value in point.split()] for point in points.split(",")])


def _oval(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> Points:
    angle = np.linspace(0, 2 * np.pi, 48)
    points = np.stack([rx * np.cos(angle), ry * np.sin(angle)], axis=1)
    return points @ _turn(turn).T + (x, y)


def _turn(angle: float) -> Points:
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def lateral_knee(rng: np.random.Generator) -> Limb:
    """A knee from the side, bent by 10 to 70 degrees: condyles on one another, the patella in front."""
    bend = float(rng.uniform(0.17, 1.2))
    femur = (
        _curve(
            "-14 -190, -14 -70, -20 -48, -29 -30, -28 -10, -14 3, 4 7, 22 2, 33 -14, 31 -32, 19 -44, "
            "13 -70, 12 -190"
        )
        @ _turn(bend / 2).T
    )
    tibia = (
        _curve(
            "-22 14, 0 12, 25 15, 25 26, 17 45, 12 90, 11 200, -11 200, -13 90, -19 58, -27 40, "
            "-26 24, -22 14"
        )
        @ _turn(-bend / 2).T
    )
    fibula = _rod((21, 24), (17, 200), 9, 15, 10, 0.1) @ _turn(-bend / 2).T
    patella = _oval(-43, -20, 10, 21, 0.15) @ _turn(bend / 4).T
    shift = rng.normal(0, 2.5, 2)
    bones = [
        (femur, 34.0, 2.2),
        (femur + shift, 34.0, 2.2),
        (tibia, 42.0, 2.0),
        (fibula, 12.0, 2.5),
        (patella, 34.0, 1.0),
    ]
    thigh, calf = (
        np.array([[0, -200], [0, 0]]) @ _turn(bend / 2).T,
        np.array([[0, 0], [6, 210]]) @ _turn(-bend / 2).T,
    )
    return bones, [(thigh, 120.0), (calf, 98.0)]


def skyline(rng: np.random.Generator) -> Limb:
    """A kneecap over its groove, along the thigh."""
    groove = _curve("-44 20, -40 -2, -26 -10, -8 -3, 2 3, 14 -4, 30 -13, 43 -2, 46 22, 30 42, -28 42, -44 20")
    cap = _curve("-24 -28, -8 -36, 10 -36, 24 -26, 6 -12, 0 -9, -10 -14, -24 -28")
    return [(groove, 50.0, 1.5), (cap + rng.normal(0, 2, 2), 30.0, 1.2)], [
        (np.array([[-20.0, 20], [20, 20]]), 130.0)
    ]


def hand(rng: np.random.Generator) -> Limb:
    """A hand, palm down, with the wrist."""
    fingers = ((34, 22, 16), (42, 27, 18), (46, 30, 18), (42, 27, 18), (32, 20, 16))
    bones, courses = _rays(rng, (64, 58, 57, 53, 42), fingers, 0.2)
    radius, ulna = _rod((-8, 44), (-10, 180), 15, 29, 18, 0.12), _rod((19, 46), (16, 180), 11, 15, 14, 0.1)
    return [*bones, (radius, 19.0, 3.0), (ulna, 14.0, 2.5)], [
        *courses,
        (np.array([[0.0, 190], [0, 10]]), 62.0),
    ]


def foot(rng: np.random.Generator) -> Limb:
    """A foot from above."""
    toes = ((34, 22, 4), (24, 10, 9), (22, 9, 8), (20, 8, 8), (17, 7, 7))
    bones, courses = _rays(rng, (62, 74, 70, 68, 68), toes, 0.07)
    heel = _curve("-6 42, 16 44, 20 70, 14 104, -4 106, -10 76, -6 42")
    talus, leg = _oval(-6, 56, 17, 20), _rod((-4, 60), (-2, 200), 24, 40, 30, 0.15)
    bones += [(heel, 40.0, 1.5), (talus, 30.0, 1.5), (leg, 34.0, 3.0)]
    return bones, [*courses, (np.array([[0.0, 95], [0, 10]]), 70.0)]


def _rays(
    rng: np.random.Generator, bases: tuple[int, ...], rows: tuple[tuple[int, ...], ...], spread: float
) -> Limb:
    bones: list[Bone] = []
    courses = [(np.array([[0.0, 20], [0, -35]]), 78.0)]
    for ray, (base, row) in enumerate(zip(bases, rows, strict=True)):
        angle = (ray - 2) * spread * float(rng.uniform(0.8, 1.3)) + (0.25 - spread if ray == 0 else 0)
        along = np.array([np.sin(angle), -np.cos(angle)])
        start = np.array([(ray - 2) * 14.0, 12.0 + abs(ray - 2) * 3])
        wide = 11.0 if ray else 13.0
        knuckles = [start]
        for length in (base, *row):
            stop = start + length * along
            bones.append((_rod(start, stop - 2 * along, 0.6 * wide, 1.25 * wide, 1.2 * wide), wide, 2.0))
            start, wide = stop, 0.86 * wide
            knuckles.append(stop)
        courses.append((np.array(knuckles), 20.0))
    for row_y, many in ((22.0, 4), (34.0, 3)):
        for index in range(many):
            x = (index - (many - 1) / 2) * 15 + float(rng.normal(0, 1.5))
            bones.append(
                (_oval(x, row_y + float(rng.normal(0, 1.5)), 8.5, 7, float(rng.uniform(0, 3))), 17.0, 1.2)
            )
    return bones, courses


def ankle(rng: np.random.Generator) -> Limb:
    """An ankle from the front: the tibia's flat end over the talus, the fibula beside it."""
    talus = _curve("-18 4, -8 2, 8 2, 18 4, 22 20, 14 34, -14 34, -22 20, -18 4")
    tibia = _curve(
        "-21 14, -19 2, -17 -3, 15 -3, 18 -18, 13 -50, 12 -190, -12 -190, -14 -50, -24 -18, -26 6, -21 14"
    )
    fibula = _curve("22 22, 28 14, 28 -8, 23 -45, 22 -190, 31 -190, 32 -45, 35 -6, 31 17, 22 22")
    heel = _oval(float(rng.normal(2, 2)), 52, 19, 20)
    bones = [(talus, 40.0, 1.3), (tibia, 34.0, 2.5), (fibula, 14.0, 2.5), (heel, 45.0, 1.2)]
    return bones, [(np.array([[0.0, -200], [2, 20]]), 82.0), (np.array([[0.0, 10], [0, 60]]), 74.0)]


def elbow(rng: np.random.Generator) -> Limb:
    """An elbow from the front: the humerus flares to its condyles, ulna and radius below."""
    humerus = _curve(
        "-11 -190, -11 -55, -20 -28, -31 -13, -28 -3, -18 4, -6 1, 2 -2, 12 6, 24 2, 27 -12, "
        "20 -28, 11 -55, 11 -190"
    )
    ulna, radius = _rod((10, -8), (9, 190), 13, 25, 14, 0.16), _rod((-15, 9), (-9, 190), 11, 21, 14, 0.08)
    lean = _turn(float(rng.normal(-0.17, 0.06)))
    bones = [(humerus, 24.0, 2.6), (ulna @ lean.T, 20.0, 2.2), (radius @ lean.T, 15.0, 2.0)]
    return bones, [(np.array([[0.0, -200], [0, 0]]), 92.0), (np.array([[0.0, 0], [0, 200]]) @ lean.T, 80.0)]


def hip(rng: np.random.Generator) -> Limb:
    """A hip from the front: socket, head, neck, trochanters and shaft."""
    femur = _curve(
        "-12 190, -15 60, -22 42, -8 20, 13 -4, 16 -20, 30 -38, 20 -50, 2 -46, -8 -28, -24 -22, "
        "-40 -12, -43 14, -34 40, -30 70, -28 190, -12 190"
    )
    socket = _curve("-2 -62, 22 -64, 46 -52, 66 -30, 74 12, 52 18, 46 -14, 34 -38, 16 -54, -2 -62")
    wing = _curve("6 -60, -12 -110, 10 -170, 80 -180, 74 -60, 40 -54, 6 -60")
    seat = _curve("50 18, 66 20, 62 62, 40 66, 36 44, 50 18")
    size = float(rng.uniform(22, 26))
    head = _oval(22, -24, size, size)
    bones = [(femur, 30.0, 3.0), (head, 40.0, 1.2), (socket, 34.0, 1.8), (wing, 18.0, 2.0), (seat, 22.0, 1.8)]
    return bones, [(np.array([[20.0, -190], [10, 0], [-10, 200]]), 190.0)]


PARTS: Final[dict[str, Callable[[np.random.Generator], Limb]]] = {
    "lateral knee": lateral_knee,
    "skyline": skyline,
    "hand": hand,
    "foot": foot,
    "ankle": ankle,
    "elbow": elbow,
    "hip": hip,
}
"""What a frontal knee is not."""
