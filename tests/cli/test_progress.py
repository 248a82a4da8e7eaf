"""Progress: the true rate and time left, in plain lines without a terminal, in one line with one."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from kneerisk.cli.screen import progress
from kneerisk.cli.screen.progress import Pace, bar_of, duration, meter


def test_the_rate_is_the_mean_and_the_last_quick_ones_do_not_lie() -> None:
    pace = Pace("looking for images", "images")
    assert pace.line(5.0) == "looking for images"
    pace.update(100.0, "scoring", 0, 2000, "", 0)
    assert pace.rate(110.0) is None
    pace.update(300.0, "scoring", 1000, 2000, "1900 knees scored", 0)
    assert pace.line(300.0) == "scoring 1000 of 2000 images, 5.0 a second, 3 min 20 s left; 1900 knees scored"
    pace.update(300.2, "scoring", 2000, 2000, "", 0)
    assert pace.rate(300.2) == pytest.approx(10, rel=0.01)
    assert "left" not in pace.line(300.2)


def test_what_an_earlier_run_did_is_no_speed() -> None:
    pace = Pace("looking for images", "images")
    pace.update(0.0, "scoring", 0, 1000, "", 0)
    pace.update(10.0, "scoring", 910, 1000, "", 900)
    assert pace.rate(10.0) == pytest.approx(1)
    assert pace.left(10.0) == pytest.approx(90)


def test_a_log_gets_a_line_every_few_seconds_even_while_nothing_moves(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.05)
    with meter(True, "looking for images", "images") as tell:
        time.sleep(0.2)
        tell("scoring", 3, 8, "5 knees scored")
        time.sleep(0.2)
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert printed.out == ""
    assert lines[:2] == ["looking for images"] * 2
    assert lines[-1] == "scoring 3 of 8 images; 5 knees scored"
    assert 4 <= len(lines) <= 10


def test_a_quick_run_and_one_that_is_to_be_quiet_print_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with meter(True, "looking for images", "images") as tell:
        tell("scoring", 1, 1)
    monkeypatch.setattr(progress, "LINE_SECONDS", 0.01)
    with meter(False, "looking for images", "images") as tell:
        time.sleep(0.05)
        tell("scoring", 1, 1)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_the_bar_is_one_line_however_narrow_the_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=width)
    bar = bar_of(console)
    task = bar.add_task("looking for images", total=None, unit="images", rate="", left="", note="")
    assert len(console.render_lines(bar.get_renderable())) == 1
    note = "12345 knees scored, 1234 refused or failed, 38000 images from before"
    bar.update(
        task,
        description="scoring",
        total=123456,
        completed=98765,
        rate="12.3/s",
        left="1 h 23 min left",
        note=note,
    )
    (line,) = console.render_lines(bar.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert len(text) <= width
    if width >= 60:
        assert "98765/123456" in text and "12.3/s" in text and "1 h 23 min left" in text
    if width == 160:
        assert note in text


def test_durations_in_words() -> None:
    assert [duration(s) for s in (4.25, 200, 5000)] == ["4.2 s", "3 min 20 s", "1 h 23 min"]
