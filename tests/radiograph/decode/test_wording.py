"""Words of headers: sides, views and parts of the body, and words that only look like them."""

from __future__ import annotations

import threading
import warnings

import pytest

from kneerisk.radiograph.decode import wording
from kneerisk.radiograph.decode.quiet import Quiet


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Bilateral PA Fixed Flexion Knee", "both"),
        ("KNEE_LEFT_AP", "L"),
        ("Knie rechts", "R"),
        ("rKNEE", "R"),
        ("R+L knee", "both"),
        ("LATERALITY unknown", None),
        ("Knee PA", None),
        ("", None),
    ],
)
def test_sides(text, side):
    assert wording.side_in(text) == side


@pytest.mark.parametrize(
    ("text", "is_code", "view"),
    [
        ("LL", True, "lateral"),
        ("LL", False, None),
        ("Bilateral AP", False, "frontal"),
        ("LATERALITY", False, None),
        ("medio-lateral", True, "lateral"),
        ("AP & LAT", False, "ambiguous"),
        ("Skyline 45", False, "patellar"),
        ("obl.", False, "oblique"),
        ("ROSENBERG", False, "frontal"),
    ],
)
def test_views(text, is_code, view):
    assert wording.view_in(text, is_code=is_code) == view


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("CHEST PA", "CHEST"),
        ("L-SPINE", "SPINE"),
        ("hip knee ankle", None),
        ("Knee / hip", None),
        ("LEG", None),
    ],
)
def test_parts_of_the_body(text, part):
    assert wording.elsewhere_in(text) == part


def test_quiet_is_shared_by_threads_and_leaves_the_filters_as_they_were():
    before = list(warnings.filters)
    inside, leave = threading.Event(), threading.Event()

    def first_in() -> None:
        with Quiet():
            inside.set()
            leave.wait(10)

    thread = threading.Thread(target=first_in)
    thread.start()
    inside.wait(10)
    with Quiet():
        leave.set()
        thread.join()
        warnings.warn("unheard, although an error elsewhere", stacklevel=1)
    assert list(warnings.filters) == before
