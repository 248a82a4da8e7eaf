"""The report in a real browser: wide and narrow, dark and light, by keyboard, on paper."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kneerisk.study.report.write import ReportSettings, write_report

Maker = Callable[..., Any]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")

QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
DARK = ("--force-dark-mode", "--blink-settings=preferredColorScheme=0")

PROBE = """
<script>
addEventListener("load", function () {
  var found = {};
  found.overflow = document.documentElement.scrollWidth > innerWidth;
  found.ground = getComputedStyle(document.body).backgroundColor;
  var text = document.querySelector("figure.plot svg text");
  found.label = getComputedStyle(text).fill;
  var button = document.querySelector("button.theme");
  found.offered = button.textContent;
  button.click();
  found.turned = getComputedStyle(document.body).backgroundColor;
  found.relabelled = getComputedStyle(text).fill;
  button.click();
  document.querySelectorAll("details").forEach(function (closed) { closed.open = true; });
  var stops = document.querySelectorAll("a[href], button, [tabindex='0'], summary");
  found.stops = stops.length;
  found.unreachable = 0;
  stops.forEach(function (stop) {
    stop.focus();
    if (document.activeElement !== stop) found.unreachable += 1;
  });
  found.first = stops[0].textContent;
  found.requests = performance.getEntriesByType("resource").length;
  document.body.setAttribute("data-found", JSON.stringify(found));
});
</script></body>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("browser")


@pytest.fixture
def page(table: Maker, knee: Maker, folder: Path) -> Path:
    """A page of two sites and long names, with a probe that lets it tell what the browser made of it."""
    out = folder / "report.html"
    if not out.exists():
        rows = [
            knee(f"participant-with-a-long-name-{n:03d}", side, site="north" if n % 2 else "south",
                 risk_12m=n / 100, source_path=f"a/very/long/path/of/folders/{n:03d}/bilateral-{side}.dcm")
            for n in range(20) for side in "LR"
        ]  # fmt: skip
        write_report(ReportSettings(table(*rows), out))
        # The probe stands where the page's own script does, under the page's own rules.
        (folder / "probed.html").write_text(out.read_text("utf-8").replace("</body>", PROBE), "utf-8")
    return out


def browse(folder: Path, *arguments: str) -> str:
    assert CHROMIUM is not None
    profile = folder / f"profile-{os.urandom(4).hex()}"
    command = [CHROMIUM, *QUIET, f"--user-data-dir={profile}", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr
    return done.stdout


def probed(folder: Path, width: int, *more: str) -> dict[str, Any]:
    """What the page told of itself at a window's width."""
    import html
    import json

    address = (folder / "probed.html").as_uri()
    text = browse(folder, f"--window-size={width},900", *more, "--dump-dom", address)
    match = re.search(r'data-found="([^"]*)"', text)
    assert match is not None
    return dict(json.loads(html.unescape(match[1])))


def bright(colour: str) -> bool:
    """Of a computed ``rgb(…)``."""
    return sum(map(int, re.findall(r"\d+", colour)[:3])) > 3 * 128


@pytest.mark.parametrize("width", [1280, 500])
def test_light_page_fits_and_every_stop_takes_the_focus(page: Path, folder: Path, width: int) -> None:
    found = probed(folder, width)
    assert found["overflow"] is False
    assert bright(found["ground"]) and not bright(found["label"])
    assert found["offered"] == "Dark page"
    assert not bright(found["turned"]) and bright(found["relabelled"])
    assert found["unreachable"] == 0 and found["stops"] > 10
    assert found["first"] == "Skip to the report"
    assert found["requests"] == 0


def test_dark_page_follows_the_system_and_can_be_turned(page: Path, folder: Path) -> None:
    found = probed(folder, 1280, *DARK)
    assert not bright(found["ground"]) and bright(found["label"])
    assert found["offered"] == "Light page"
    assert bright(found["turned"]) and not bright(found["relabelled"])


def test_it_is_drawn(page: Path, folder: Path) -> None:
    """A picture of the page is neither blank nor of one colour, and has the plots' blue."""
    picture = folder / "page.png"
    browse(folder, "--window-size=1280,2400", f"--screenshot={picture}", page.as_uri())
    pixels = np.asarray(Image.open(picture).convert("RGB")).astype(int)
    assert pixels.std() > 10
    blue = (pixels[..., 2] - pixels[..., 0] > 60).mean()
    assert 0.01 < blue < 0.5


def test_on_paper_it_is_a4_and_light_although_the_system_is_dark(page: Path, folder: Path) -> None:
    paper = folder / "page.pdf"
    browse(folder, *DARK, "--no-pdf-header-footer", f"--print-to-pdf={paper}", page.as_uri())
    content = paper.read_bytes()
    assert content.startswith(b"%PDF")
    boxes = re.findall(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", content)
    assert boxes and all(abs(float(w) - 595) < 2 and abs(float(h) - 842) < 2 for w, h in boxes)
    if shutil.which("pdftoppm") is None:
        pytest.skip("no pdftoppm is installed to see the paper's colour")
    first_page = ("-r", "80", "-png", "-f", "1", "-l", "1")
    subprocess.run(["pdftoppm", *first_page, paper, folder / "paper"], check=True)
    (first,) = folder.glob("paper*.png")
    grey = np.asarray(Image.open(first).convert("L"))
    assert grey.mean() > 200  # a white ground
    assert (grey < 50).mean() > 0.004  # with dark letters
