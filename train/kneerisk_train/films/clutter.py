"""What lies on a film besides knees, and films without any: drawn shapes, for the localiser's training."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from kneerisk_train.films.films import FilmArray, blur

Point = tuple[float, float]


def film_marks(pixels: FilmArray, rng: np.random.Generator, *, gentle: bool = False) -> FilmArray:
    """Add collimation, markers, text, rulers, a hand, each at times; ``gentle`` keeps to small things."""
    film = pixels.copy()
    height, width = film.shape
    if rng.random() < 0.35:
        _marker(film, rng)
    if rng.random() < 0.25:
        _text(film, rng, lines=int(rng.integers(1, 3)))
    if not gentle:
        if rng.random() < 0.15:
            _ruler(film, rng)
        if rng.random() < 0.12:
            _hand(film, rng)
        if rng.random() < 0.35:
            _collimate(film, rng)
    if rng.random() < 0.1:
        x = int(rng.uniform(0, width))
        cv2.line(film, (x, 0), (x, height), float(rng.random()), 1)
    return film


def exposure(pixels: FilmArray, rng: np.random.Generator) -> FilmArray:
    """Shading, clipping, blur, noise and few grey levels: what rank equalisation does not undo."""
    film = pixels
    height, width = film.shape
    if rng.random() < 0.5:
        slope = rng.normal(0, 0.25, 2)
        y, x = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j].astype(np.float32)
        film = film * np.clip(1 + slope[0] * x + slope[1] * y, 0.3, 2).astype(np.float32)
    if rng.random() < 0.3:
        film = blur(film, float(rng.uniform(0.4, 1.2)))
    if rng.random() < 0.5:
        film = film + rng.normal(0, 10 ** rng.uniform(-3, -1.3), film.shape).astype(np.float32)
    if rng.random() < 0.3:
        low, high = np.quantile(film, [rng.uniform(0, 0.15), rng.uniform(0.85, 1)])
        film = np.clip(film, low, max(high, low + 1e-3))
    if rng.random() < 0.3:
        levels = int(rng.integers(12, 128))
        span = max(float(np.ptp(film)), 1e-3)
        film = np.round((film - film.min()) / span * levels) / levels
    return film.astype(np.float32)


def implant(patch: FilmArray, joint: Point, width: float, rng: np.random.Generator) -> FilmArray:
    """A knee's patch with a total or partial replacement: flat, saturated metal with sharp edges.

    Args:
        patch: float32 [H, W] in 0..1.
        joint: (x, y) of the joint's middle.
        width: the joint's width, px.
        rng: draws the kind and its shape.
    """
    film = patch.copy()
    level = float(min(1.0, patch.max() * rng.uniform(1.0, 1.2) + 0.02))
    x, y = joint
    kind = rng.integers(4)
    from_x, to_x = -0.5, 0.5
    if kind == 2:
        from_x, to_x = (-0.5, -0.02) if rng.random() < 0.5 else (0.02, 0.5)
    gap = rng.uniform(0.03, 0.09)
    femur = [
        (from_x, -0.02),
        (from_x, -rng.uniform(0.25, 0.4)),
        (to_x, -rng.uniform(0.25, 0.4)),
        (to_x, -0.02),
    ]
    femur += [((from_x + to_x) / 2 + 0.06, -0.05), ((from_x + to_x) / 2, -0.16)]
    femur += [((from_x + to_x) / 2 - 0.06, -0.05)]
    tray = [(from_x, gap), (to_x, gap), (to_x, gap + rng.uniform(0.05, 0.1)), (from_x, gap + 0.07)]
    stem = [(-0.07, gap), (0.07, gap), (0.04, gap + rng.uniform(0.25, 0.6)), (-0.04, gap + 0.3)]
    shapes = [femur, tray, stem] if kind < 2 else [femur, tray]
    if kind == 3:
        shapes = [[(a, b - 0.1) for a, b in stem], [(-0.06, -1), (0.06, -1), (0.05, 0.05), (-0.05, 0.05)]]
    for shape in shapes:
        points = [
            (x + a * width * 0.95 + rng.normal(0, 0.01) * width, y + b * width + rng.normal(0, 0.01) * width)
            for a, b in shape
        ]
        cv2.fillPoly(film, [(np.array(points) * 16).astype(np.int32)], level, cv2.LINE_AA, shift=4)
    return film


def no_knee(rng: np.random.Generator, size: int, turned: Callable[[], FilmArray]) -> FilmArray:
    """A film [H, W] that shows no frontal knee; ``turned`` gives real knees lying or upside down."""
    shape = (
        (int(size * rng.uniform(0.5, 1)), size)
        if rng.random() < 0.5
        else (size, int(size * rng.uniform(0.5, 1)))
    )
    kind = rng.random()
    if kind < 0.3:
        return turned()
    if kind < 0.4:
        return _cloud(rng, shape)
    if kind < 0.5:
        page = np.full(shape, float(rng.random() < 0.5), np.float32)
        page += rng.normal(0, 0.02, shape).astype(np.float32)
        _text(page, rng, lines=int(rng.integers(4, 25)))
        return page
    film = _cloud(rng, shape) * 0.2 + 0.1
    drawing = rng.integers(6)
    if drawing == 0:
        for _ in range(int(rng.integers(1, 3))):
            _hand(film, rng, scale=float(rng.uniform(0.5, 1.1)))
    elif drawing == 1:
        _chest(film, rng)
    elif drawing == 2:
        _hips(film, rng)
    elif drawing == 3:
        _lateral_knee(film, rng)
    elif drawing == 4:
        for _ in range(int(rng.integers(1, 5))):
            _long_bone(film, rng)
    else:
        for _ in range(int(rng.integers(1, 12))):
            _blob(film, rng)
    return blur(film, float(rng.uniform(0.4, 2)))


def _cloud(rng: np.random.Generator, shape: tuple[int, int]) -> FilmArray:
    """Noise of a random grain, from flat shading to salt."""
    coarse = int(2 ** rng.uniform(1, 7))
    grid = rng.random((coarse, coarse)).astype(np.float32)
    return np.asarray(cv2.resize(grid, shape[::-1], interpolation=cv2.INTER_CUBIC), np.float32)


def _limb(film: FilmArray, a: Point, b: Point, wide: float, grey: float) -> None:
    """A bone as radiographs show it: bright edges along a softer middle, thicker ends."""
    a_px, b_px = (round(a[0]), round(a[1])), (round(b[0]), round(b[1]))
    layer = np.zeros_like(film)
    cv2.line(layer, a_px, b_px, 1.0, max(1, round(wide)), cv2.LINE_AA)
    for end in (a_px, b_px):
        cv2.circle(layer, end, max(1, round(wide * 0.75)), 1.0, -1, cv2.LINE_AA)
    inner = cv2.erode(layer, np.ones((3, 3), np.uint8), iterations=max(1, round(wide / 8)))
    film += grey * layer - 0.35 * grey * inner


def _tissue(film: FilmArray, a: Point, b: Point, wide: float, grey: float) -> None:
    layer = np.zeros_like(film)
    cv2.line(
        layer, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), 1.0, max(1, round(wide)), cv2.LINE_AA
    )
    film += grey * blur(layer, max(0.8, wide / 12))


def _long_bone(film: FilmArray, rng: np.random.Generator) -> None:
    height, width = film.shape
    a = (rng.uniform(0, width), rng.uniform(-0.3, 0.4) * height)
    b = (a[0] + rng.normal(0, 0.2) * width, a[1] + rng.uniform(0.3, 1.2) * height)
    wide = rng.uniform(0.03, 0.12) * width
    _tissue(film, a, b, wide * 3, 0.25)
    _limb(film, a, b, wide, 0.4)


def _hand(film: FilmArray, rng: np.random.Generator, scale: float = 0.25) -> None:
    height, width = film.shape
    unit = scale * min(height, width)
    palm = np.array([rng.uniform(0, 1) * width, rng.uniform(0, 1) * height])
    facing = rng.uniform(0, 2 * np.pi)
    for finger in range(5):
        angle = facing + (finger - 2) * rng.uniform(0.15, 0.3)
        along = np.array([np.cos(angle), np.sin(angle)])
        start = palm
        for bone, length in enumerate((0.4, 0.25, 0.17, 0.12)):
            stop = start + along * length * unit * (0.75 if finger in (0, 4) else 1.0)
            wide = unit * (0.055 - 0.006 * bone)
            _tissue(film, tuple(start), tuple(stop), wide * 2.2, 0.2)
            _limb(film, tuple(start), tuple(stop - along * unit * 0.03), wide, 0.3)
            start = stop


def _chest(film: FilmArray, rng: np.random.Generator) -> None:
    height, width = film.shape
    for side in (-1, 1):
        lung = (round(width * (0.5 + side * 0.22)), round(height * 0.48))
        cv2.ellipse(film, lung, (round(width * 0.16), round(height * 0.35)), 0, 0, 360, 0.05, -1)
        for rib in range(int(rng.integers(6, 11))):
            y = round(height * (0.1 + 0.085 * rib))
            axes = (round(width * 0.24), round(height * rng.uniform(0.05, 0.1)))
            cv2.ellipse(
                film, (round(width * (0.5 + side * 0.2)), y), axes, side * 12, 180, 360, 0.5, 3, cv2.LINE_AA
            )
    _limb(film, (width / 2, 0), (width / 2, height), width * 0.08, 0.35)
    cv2.ellipse(
        film, (round(width * 0.56), round(height * 0.6)), (width // 7, height // 6), 30, 0, 360, 0.6, -1
    )


def _hips(film: FilmArray, rng: np.random.Generator) -> None:
    height, width = film.shape
    for side in (-1, 1):
        head = (width * (0.5 + side * 0.27), height * rng.uniform(0.4, 0.5))
        _limb(film, head, (head[0] + side * width * 0.1, head[1] + height * 0.12), width * 0.07, 0.3)
        _limb(
            film,
            (head[0] + side * width * 0.1, head[1] + height * 0.1),
            (head[0] + side * width * 0.06, height),
            0.08 * width,
            0.4,
        )
        cv2.circle(film, (round(head[0]), round(head[1])), round(width * 0.07), 0.7, -1, cv2.LINE_AA)
        wing = (round(width * (0.5 + side * 0.22)), round(height * 0.2))
        cv2.ellipse(
            film, wing, (round(width * 0.15), round(height * 0.2)), side * 25, 0, 360, 0.45, -1, cv2.LINE_AA
        )
    _limb(film, (width / 2, 0), (width / 2, height * 0.4), width * 0.1, 0.4)
    _tissue(film, (width / 2, 0), (width / 2, height), width * 0.8, 0.15)


def _lateral_knee(film: FilmArray, rng: np.random.Generator) -> None:
    """A bent knee from the side: one rounded condyle, a shaft at an angle, the kneecap in front."""
    height, width = film.shape
    unit = rng.uniform(0.15, 0.35) * min(height, width)
    side = 1 if rng.random() < 0.5 else -1
    x, y = width * rng.uniform(0.4, 0.6), height * rng.uniform(0.4, 0.6)
    bend = rng.uniform(0.2, 1.2)
    thigh = (x - side * np.sin(bend) * unit * 3, y - np.cos(bend) * unit * 3)
    _tissue(film, thigh, (x, y), unit * 1.8, 0.2)
    _tissue(film, (x, y), (x, y + 3 * unit), unit * 1.5, 0.2)
    _limb(film, thigh, (x, y - 0.3 * unit), unit * 0.6, 0.35)
    cv2.circle(film, (round(x), round(y)), round(unit * 0.55), 0.75, -1, cv2.LINE_AA)
    _limb(film, (x, y + 0.95 * unit), (x + side * 0.1 * unit, y + 4 * unit), unit * 0.55, 0.4)
    cap = (round(x + side * 0.85 * unit), round(y - 0.35 * unit))
    cv2.ellipse(film, cap, (round(unit * 0.17), round(unit * 0.35)), -side * 20, 0, 360, 0.8, -1, cv2.LINE_AA)


def _blob(film: FilmArray, rng: np.random.Generator) -> None:
    height, width = film.shape
    centre = (int(rng.integers(width)), int(rng.integers(height)))
    axes = (int(rng.integers(2, max(3, width // 3))), int(rng.integers(2, max(3, height // 3))))
    thick = -1 if rng.random() < 0.6 else int(rng.integers(1, 6))
    cv2.ellipse(
        film, centre, axes, float(rng.uniform(0, 180)), 0, 360, float(rng.random()), thick, cv2.LINE_AA
    )


def _marker(film: FilmArray, rng: np.random.Generator) -> None:
    """A lead letter, or a letter in a box, of either side: it must tell the localiser nothing."""
    height, width = film.shape
    at = (int(rng.uniform(0, 0.95) * width), int(rng.uniform(0.05, 1) * height))
    _write(
        film, str(rng.choice(["R", "L"])), at, cv2.FONT_HERSHEY_SIMPLEX, float(rng.uniform(0.25, 0.8)), 1.0
    )
    if rng.random() < 0.3:
        cv2.rectangle(film, (at[0] - 3, at[1] - 14), (at[0] + 14, at[1] + 4), 1.0, 1)


def _text(film: FilmArray, rng: np.random.Generator, lines: int) -> None:
    height, width = film.shape
    ink = 0.0 if film.mean() > 0.6 else 1.0
    size = float(rng.uniform(0.2, 0.45))
    top = int(rng.uniform(0, 1) * height) if lines < 4 else 10
    left = int(rng.uniform(0, 0.7) * width) if lines < 4 else 5
    for line in range(lines):
        words = "".join(
            chr(int(c)) for c in rng.integers(48, 90, int(rng.integers(4, 40 if lines > 3 else 14)))
        )
        _write(film, words, (left, top + 11 * line), cv2.FONT_HERSHEY_PLAIN, size * 2, ink)


def _write(film: FilmArray, words: str, at: tuple[int, int], font: int, size: float, ink: float) -> None:
    letters = np.zeros(film.shape, np.uint8)
    cv2.putText(letters, words, at, font, size, 255, 1)
    film[letters > 0] = ink


def _ruler(film: FilmArray, rng: np.random.Generator) -> None:
    height, width = film.shape
    x, step = int(rng.uniform(0, 1) * width), int(rng.integers(2, 9))
    for tick, y in enumerate(range(0, height, step)):
        cv2.line(film, (x, y), (x + (9 if tick % 5 == 0 else 4), y), 1.0, 1)


def _collimate(film: FilmArray, rng: np.random.Generator) -> None:
    """Blades: all beyond a rectangle, or a slightly turned one, is one grey."""
    height, width = film.shape
    inset = rng.uniform(0, 0.12, 4) * (rng.random(4) < 0.6)
    corners = np.array(
        [
            (inset[0] * width, inset[1] * height),
            (width * (1 - inset[2]), inset[1] * height),
            (width * (1 - inset[2]), height * (1 - inset[3])),
            (inset[0] * width, height * (1 - inset[3])),
        ]
    )
    corners += rng.normal(0, 0.01, (4, 2)) * (width, height)
    open_field = np.zeros(film.shape, np.uint8)
    cv2.fillPoly(open_field, [corners.astype(np.int32)], 1)
    film[open_field == 0] = 0.0 if rng.random() < 0.8 else 1.0
