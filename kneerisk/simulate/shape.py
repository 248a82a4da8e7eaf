"""The simulated knee's anatomy: outlines and KNEEL landmarks in mm, shaped by one hidden severity.

Frame: the right knee seen from the front.  The origin lies midway between the tibial margins T0 and T8;
x runs from lateral to medial (to the image's right), y down.

Where the numbers come from.  ``_MEAN`` and ``_MODES`` summarise the 526 landmark sets of KNEEL (Tiulpin,
Melekhov & Saarakkala 2019, arXiv 1907.12237; research use) on Chen's crops (doi 10.17632/56rmx5bjcr.1,
CC BY 4.0).  Each set was put into mm by its crop's spacing, left knees mirrored, then turned until T0-T8 was
level, centred on its midpoint and scaled to the common width of 79.2 mm.  ``_MEAN`` is the mean over KL 0 and
1; ``_MODES`` are the first six principal components (77 % of the variance) of what is left after each grade's
own mean, one standard deviation long.  Width over knees: 79.2 ± 7.4 mm, 78.0 at KL 0 and 1.  The joint space
T7-F5 fell from 5.1 mm (KL 0) to 2.7 ± 2.2 mm (KL 4).  The outlines beyond the landmarks, the spurs and the
other signs are drawn by hand after such radiographs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Points = npt.NDArray[np.float64]

MAX_SEVERITY = 4.99

_WIDTH_MM = 79.2
# fmt: off
_MEAN = (
    -39.6, 0.0, -27.3, 0.0, -15.1, -2.4, -5.2, -10.2, 0.9, -8.1, 7.8, -11.3, 14.7, -1.0, 27.2, 1.1,
    39.6, 0.0, -37.3, -7.6, -26.2, -6.1, -13.5, -10.6, -0.1, -18.9, 13.7, -9.9, 26.8, -3.8, 39.4, -5.8,
)
_MODES = (
    (0.0, 0.0, -0.4, -0.8, -0.7, -1.1, -0.8, -0.9, -0.3, -1.0, 0.2, -1.1, -0.1, -0.8, -0.1, -0.5, 0.0, 0.0,
     -0.8, -1.8, -1.1, -1.5, -0.8, -1.4, 0.0, -1.3, 0.2, -0.7, 0.2, -0.1, 0.3, 0.2),
    (0.0, 0.0, 0.3, -0.1, 0.6, -0.3, 0.9, -0.5, 0.8, -0.6, 0.9, -0.4, 0.7, -0.5, 0.4, -0.4, 0.0, 0.0,
     0.8, 0.0, 0.9, 0.0, 1.0, -0.2, 1.4, 0.0, 1.5, -0.4, 1.3, -0.4, 1.0, -0.4),
    (0.0, 0.0, 0.3, -0.1, 0.5, -0.3, 0.7, -0.6, 0.5, -0.4, 0.3, -0.2, 0.3, -0.2, 0.2, -0.1, 0.0, 0.0,
     -0.5, 1.0, -0.2, 0.5, -0.4, 0.2, -1.3, -0.6, -0.4, -0.6, 0.0, -0.8, -0.2, -1.2),
    (0.0, 0.0, -0.2, -0.2, -0.4, -0.3, -0.5, -0.2, 0.1, -0.1, 0.9, 0.2, 0.7, 0.0, 0.4, 0.0, 0.0, 0.0,
     -0.4, 0.4, -0.5, 0.1, -0.7, 0.2, 0.0, 1.3, 0.5, 0.3, 0.3, 0.0, -0.2, 0.0),
    (0.0, 0.0, -0.4, 0.2, -0.7, 0.4, -1.0, 0.5, -0.4, 0.1, -0.2, 0.0, -0.1, -0.1, -0.1, -0.1, 0.0, 0.0,
     0.1, 0.5, -0.1, 0.4, 0.0, 0.2, 0.1, -0.6, 0.4, -0.3, 0.5, -0.3, 0.6, -0.6),
    (0.0, 0.0, 0.1, 0.2, 0.2, 0.2, 0.1, 0.1, 0.2, 0.4, 0.6, 0.4, 0.4, 0.4, 0.2, 0.4, 0.0, 0.0,
     -0.3, -0.1, -0.3, 0.1, -0.1, 0.0, 0.0, -1.1, 0.3, 0.2, 0.3, 0.5, -0.2, 0.3),
)
# fmt: on


@dataclass(frozen=True, slots=True)
class KneeShape:
    """One knee in mm, right-knee frame.  Outlines are closed polygons [N, 2] (x, y)."""

    severity: float
    landmarks: Points
    """[16, 2]: T0-T8, F0-F6, each on its bone's outline."""
    femur: Points
    tibia: Points
    fibula: Points
    patella: Points
    lines: tuple[tuple[Points, float, float], ...]
    """Open polylines seen through the bone: (points [N, 2], thickness mm, strength 0..1)."""
    sclerosis: tuple[tuple[float, float, float, float, float], ...]
    """Dense (or, negative, cystic) bone: (x, y, half-width x, half-width y, strength)."""
    varus_deg: float
    """The femur's lean at the knee; positive opens the lateral side."""


def _by(x: float, y: float) -> Points:
    """A step in mm."""
    return np.array([x, y], np.float64)


def grade_of(severity: float) -> int:
    """Kellgren-Lawrence grade of a severity in [0, 5): its whole part, so it never falls as that rises."""
    if not 0 <= severity < 5:
        raise ValueError(f"severity must lie in [0, 5), got {severity}")
    return int(severity)


def smooth(points: npt.ArrayLike, steps: int = 10) -> Points:
    """Centripetal Catmull-Rom curve through ``points`` [N, 2]: [(N-1)·steps + 1, 2], all of them on it."""
    p = np.asarray(points, np.float64)
    p = np.concatenate([2 * p[:1] - p[1:2], p, 2 * p[-1:] - p[-2:-1]])
    knot = np.concatenate([[0.0], np.cumsum(np.sqrt(np.linalg.norm(np.diff(p, axis=0), axis=1)) + 1e-6)])
    p0, p1, p2, p3 = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    t0, t1, t2, t3 = (knot[i : len(knot) - 3 + i, None, None] for i in range(4))
    t = t1 + (t2 - t1) * (np.arange(steps) / steps)[None, :, None]
    a1 = ((t1 - t) * p0 + (t - t0) * p1) / (t1 - t0)
    a2 = ((t2 - t) * p1 + (t - t1) * p2) / (t2 - t1)
    a3 = ((t3 - t) * p2 + (t - t2) * p3) / (t3 - t2)
    b1 = ((t2 - t) * a1 + (t - t0) * a2) / (t2 - t0)
    b2 = ((t3 - t) * a2 + (t - t1) * a3) / (t3 - t1)
    curve = ((t2 - t) * b1 + (t - t1) * b2) / (t2 - t1)
    return np.asarray(np.concatenate([curve.reshape(-1, 2), p[-2:-1]]))


def knee_shape(rng: np.random.Generator, severity: float, width_mm: float = 78.0) -> KneeShape:
    """Draw a person's knee from ``rng`` at ``severity`` in [0, 5), the tibia ``width_mm`` wide.

    With a generator in the same state only the disease changes: the joint space narrows, spurs grow and
    bone hardens monotonically with severity.
    """
    grade_of(severity)
    scale = width_mm / _WIDTH_MM
    scores = np.clip(rng.normal(size=len(_MODES)), -2.2, 2.2)
    lateral_disease = rng.random() < 0.15
    habit = rng.normal(size=24)  # this person's lengths and angles beyond the landmarks
    eager = np.clip(rng.lognormal(0, 0.35, size=8), 0.4, 2.0)  # how strongly each sign follows severity
    lm = (np.asarray(_MEAN) + scores @ np.asarray(_MODES)).reshape(16, 2)

    # Joint-space narrowing: the femur sinks and tilts towards the diseased compartment (varus where medial).
    loss = (
        float(np.interp(severity, (0, 1, 2, 3, 4, 5), (0, 0.1, 0.2, 1.0, 2.0, 4.0))) * float(eager[0]) ** 0.5
    )
    other = loss * 0.22
    medial_space, lateral_space = lm[7, 1] - lm[14, 1], lm[1, 1] - lm[10, 1]
    medial = min(other if lateral_disease else loss, medial_space - 0.25)
    lateral = min(loss if lateral_disease else other, lateral_space - 0.25)
    slope = (medial - lateral) / (lm[14, 0] - lm[10, 0])
    lm[9:, 1] += lateral + slope * (lm[9:, 0] - lm[10, 0])

    # Spurs at the four margins, and the spines' sharpening.
    growth = float(np.interp(severity, (0.8, 2, 3, 4, 5), (0, 1.4, 3.0, 5.0, 7.0)))
    spur = growth * eager[1:5] * (0.6 if lateral_disease else np.array([0.75, 1.0, 0.75, 1.0]))
    lm[0] += (-0.75 * spur[0], -0.12 * spur[0])
    lm[8] += (0.75 * spur[1], -0.12 * spur[1])
    lm[9] += (-0.65 * spur[2], 0.12 * spur[2])
    lm[15] += (0.65 * spur[3], 0.12 * spur[3])
    for t, f in (
        (0, 9),
        (1, 10),
        (2, 11),
        (6, 13),
        (7, 14),
        (8, 15),
    ):  # bone may touch bone, not enter it far
        lm[f, 1] = min(lm[f, 1], lm[t, 1] - 0.2)
    lm[12, 1] = min(lm[12, 1], lm[4, 1] - 3.5)
    peak = float(np.interp(severity, (0.5, 5), (0, 2.2))) * float(eager[5])
    for spine, rise in ((3, 0.7 * peak), (5, peak)):  # up to the notch, never into the condyle beside it
        roof = float(np.interp(lm[spine, 0], lm[9:, 0], lm[9:, 1]))
        lm[spine, 1] = max(lm[spine, 1] - rise, roof + 1.2)
    lm[4, 1] = max(lm[4, 1], lm[[3, 5], 1].min() + 1.5)

    rough = 0.10 + 0.05 * severity
    tibia = _roughen(_tibia(lm, habit, spur), rough, rng)
    femur = _roughen(_femur(lm, habit, spur), rough, rng)
    lines = _lines(lm, habit, rng)
    sclerosis = _sclerosis(lm, severity, lateral_disease, eager, rng)
    varus = float(np.degrees(np.arctan(slope)))
    return KneeShape(
        severity=severity,
        landmarks=lm * scale,
        femur=femur * scale,
        tibia=tibia * scale,
        fibula=_fibula(lm, habit) * scale,
        patella=_patella(habit, rng) * scale,
        lines=tuple((line * scale, thick, strength) for line, thick, strength in lines),
        sclerosis=tuple((x * scale, y * scale, a * scale, b * scale, s) for x, y, a, b, s in sclerosis),
        varus_deg=varus,
    )


def _roughen(outline: Points, amount: float, rng: np.random.Generator) -> Points:
    """Unevenness of ``amount`` mm (standard deviation) along an outline."""
    noise = rng.normal(size=outline.shape)
    kernel = np.exp(-0.5 * (np.arange(-6, 7) / 2.0) ** 2)
    for axis in (0, 1):
        noise[:, axis] = np.convolve(noise[:, axis], kernel / np.sqrt((kernel**2).sum()), mode="same")
    return np.asarray(outline + amount * noise)


def _tibia(lm: Points, habit: Points, spur: Points) -> Points:
    t0, t8 = lm[0], lm[8]
    left = t0 + np.array([[-0.6, 1.3], [0.1 + 0.55 * spur[0], 4.0 + 0.3 * spur[0]]])
    right = t8 + np.array([[0.6, 1.3], [0.1 - 0.55 * spur[1], 4.0 + 0.3 * spur[1]]])
    # The flares, tied to the healthy margin so that a spur does not widen the shaft.
    w = 1 + 0.03 * habit[0]
    lateral = [(-40.2, 9), (-38.3 + habit[1] * 0.6, 17), (-33.5 + habit[2], 27), (-26.5 + habit[2], 39)]
    lateral += [(-20.5, 55), (-16, 80), (-14.5, 130), (-14, 220)]
    medial = [(39.6, 9), (38.6 + habit[3] * 0.6, 17), (35 + habit[4], 28), (29 + habit[4], 40)]
    medial += [(22.5, 55), (17.5, 80), (15.0, 130), (14.5, 220)]
    outer, inner = (lm[2] + lm[3]) / 2 + _by(0.8, 1.3), (lm[5] + lm[6]) / 2 + _by(-0.6, 1.2)
    plateau = [lm[0], lm[1], (lm[1] + lm[2]) / 2 + _by(0, 0.5), lm[2], outer, lm[3] + _by(-0.9, 0.9), lm[3]]
    plateau += [lm[3] + _by(1.1, 1.1), lm[4], lm[5] + _by(-1.2, 1.0), lm[5], lm[5] + _by(0.9, 1.1), inner]
    plateau += [lm[6], (lm[6] + lm[7]) / 2 + _by(0, 0.25), lm[7], lm[8]]
    flare = np.array([w, 1.0])
    outline = np.concatenate(
        [np.array(lateral[::-1]) * flare, left[::-1], np.array(plateau), right, np.array(medial) * flare]
    )
    return smooth(outline)


def _femur(lm: Points, habit: Points, spur: Points) -> Points:
    f0 = lm[9] + _by(0.65 * spur[2], 0)
    f6 = lm[15] - _by(0.65 * spur[3], 0)
    up = [(-1.5, -5.8), (-0.4 + 0.5 * habit[5], -10), (-2.6 + 0.5 * habit[6], -17.5)]
    up += [(-4.4 + 0.6 * habit[6], -26), (-2.9 + habit[7] * 0.7, -35)]
    shaft = [(-34.5 + habit[8], -54), (-25.5 + 0.7 * habit[8], -74), (-17, -110), (-16, -220)]
    lateral = np.concatenate([lm[9:10] + _by(-1.5, -2.4), f0 + np.array(up), np.array(shaft)])
    up = [(3.0, -6.2), (4.2 + 0.5 * habit[9], -13), (5.4 + 0.6 * habit[9], -24), (4.0, -34)]
    shaft = [(36.5 + habit[10], -54), (27 + 0.7 * habit[10], -74), (18, -110), (17, -220)]
    medial = np.concatenate([lm[15:16] + _by(1.6, -2.4), f6 + np.array(up), np.array(shaft)])
    f = lm[9:]
    notch = np.array(
        [f[3] + _by(-8.2, 4.4), f[3] + _by(-4.4, 1.0), f[3], f[3] + _by(4.4, 1.0), f[3] + _by(8.2, 4.4)]
    )
    under = np.concatenate([f[:3], notch, f[4:]])
    return smooth(np.concatenate([lateral[::-1], under, medial]))


def _fibula(lm: Points, habit: Points) -> Points:
    x, y = -37.5 + 1.6 * habit[11], 15 + 3.0 * habit[12]
    head = np.array(
        [(4.5, 26), (8.5, 15), (8.0, 6), (3.5, 1.2), (-1.5, 0), (-7.0, 4), (-9.0, 12), (-7.5, 24)]
    )
    shaft_in, shaft_out = (
        np.array([(3.5, 45), (4.5, 110), (5.0, 205)]),
        np.array([(-6.0, 45), (-5, 110), (-4.5, 205)]),
    )
    return smooth(np.concatenate([shaft_in[::-1], head, shaft_out]) + _by(x, y))


def _patella(habit: Points, rng: np.random.Generator) -> Points:
    angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    rx, ry = 21.5 + habit[13], 20.5 + 1.2 * habit[14]
    wobble = 1 + 0.03 * np.sin(2 * angle + habit[15]) + 0.025 * np.sin(3 * angle + habit[16])
    x = np.sign(np.cos(angle)) * np.abs(np.cos(angle)) ** 0.85 * rx * wobble
    y = np.sin(angle) * ry * wobble * np.where(np.sin(angle) > 0, 1.08, 0.92)
    return np.stack([x - 3 + 2.5 * habit[17], y - 42 + 5.0 * habit[18]], axis=1)


def _lines(lm: Points, habit: Points, rng: np.random.Generator) -> list[tuple[Points, float, float]]:
    """Edges seen through bone: plateau floors and rims, notch walls, growth scars, inner contours."""
    lines: list[tuple[Points, float, float]] = []

    def add(points: npt.ArrayLike, thickness: float, strength: float) -> None:
        lines.append((smooth(points), thickness, strength))

    sag = 1.6 + 0.5 * abs(habit[19])
    floor_l = [lm[0] + _by(1.5, 0.7), lm[1] + _by(0, 0.9), lm[2] + _by(-3, 0.9), lm[2] + _by(2.5, -2.2)]
    floor_m = [lm[6] + _by(-1.5, -2.4), lm[6] + _by(1.2, 0.7), lm[7] + _by(0, 0.9), lm[8] + _by(-1.5, 0.7)]
    add(floor_l, 1.3, 0.75)
    add(floor_m, 1.4, 0.9)
    add([lm[0] + _by(1, 1.5), lm[1] + _by(0, 1.2 + sag), lm[2] + _by(-1, 3.2), lm[4] + _by(-2, 7)], 1.2, 0.4)
    add(
        [lm[4] + _by(3, 8.0), lm[6] + _by(2, 3.0), lm[7] + _by(0, 1.0 + sag), lm[8] + _by(-2, 1.4)], 1.2, 0.45
    )
    add([lm[4] + _by(5.5, 3.5), lm[4] + _by(1, 8), lm[4] + _by(-6, 14 + habit[20])], 1.0, 0.25)
    apex = lm[12]
    wall = 10.0 + 0.8 * habit[21]
    add([apex + _by(-wall + 1.5, 7.5), apex + _by(-wall, -1), apex + _by(-wall - 0.3, -10)], 0.8, 0.26)
    add([apex + _by(wall - 1.0, 6.5), apex + _by(wall + 0.5, -2), apex + _by(wall + 2.2, -13)], 0.8, 0.3)
    add([apex + _by(-wall, -8), apex + _by(0, -12.5 + habit[22]), apex + _by(wall, -9)], 2.2, 0.12)
    f0, f6 = lm[9], lm[15]
    add([f0 + _by(4.5, -3), f0 + _by(6.5, -11), f0 + _by(4.5, -20), f0 + _by(9, -30)], 0.8, 0.4)
    add([f6 + _by(-3.5, -4), f6 + _by(-1.5, -13), f6 + _by(-0.5, -22), f6 + _by(-6, -31)], 0.8, 0.42)
    for y, half, strength in ((-31.0 + habit[23], 36.0, 0.15), (13.5 + habit[22] * 1.2, 33.0, 0.16)):
        x = np.linspace(-half, half, 12)
        wavy = y + rng.normal(0, 0.7, 12) + (0.0025 if y < 0 else -0.0015) * x**2
        keep = slice(0, 12) if rng.random() < 0.6 else slice(*((6, 12) if rng.random() < 0.5 else (0, 6)))
        add(np.stack([x, wavy], axis=1)[keep], 1.0, strength)
    return lines


def _sclerosis(
    lm: Points, severity: float, lateral_disease: bool, eager: Points, rng: np.random.Generator
) -> list[tuple[float, float, float, float, float]]:
    density = float(np.interp(severity, (0, 1.5, 3, 4, 5), (0.12, 0.2, 0.5, 0.9, 1.2))) * float(eager[6])
    mild = 0.12 + 0.25 * density
    strong_l, strong_m = (density, mild) if lateral_disease else (mild, density)
    spots = [
        (lm[1, 0], lm[1, 1] + 2.2, 12.0, 3.6, strong_l),
        (lm[7, 0], lm[7, 1] + 2.2, 12.0, 3.6, strong_m),
        (lm[10, 0], lm[10, 1] - 1.8, 11.0, 3.0, 0.5 * strong_l),
        (lm[14, 0], lm[14, 1] - 1.8, 11.0, 3.0, 0.5 * strong_m),
    ]
    cysts = rng.uniform(-1, 1, (3, 2))
    for x, y in cysts[: int(max(0.0, severity - 2.6) * float(eager[7]))]:
        side = lm[1] if lateral_disease else lm[7]
        spots.append((side[0] + 9 * x, side[1] + 5.5 + 2 * y, 2.2, 1.9, -0.4))
    return spots
