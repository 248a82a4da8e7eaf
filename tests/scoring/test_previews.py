"""Previews: what a picture shows, and the page to look through them, in a real browser too."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFont

from kneerisk.method.score import score
from kneerisk.radiograph import flags
from kneerisk.records import ForecastPicture, KneeCrop, KneeScore, RadiographRef
from kneerisk.scoring.outputs import drawing
from kneerisk.scoring.outputs.contact_sheet import ContactSheet
from kneerisk.scoring.outputs.drawing import draw, drawable
from kneerisk.scoring.outputs.previews import PreviewKeeper
from kneerisk.scoring.outputs.rows import row_of_score
from kneerisk.scoring.settings import RunSettings

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture
def knee(fake: ModuleType) -> KneeScore:
    """A knee of a smooth picture, with landmarks in its middle."""
    across = np.linspace(0.1, 0.9, 224, dtype=np.float32)
    pixels = np.sqrt(across[:, None] * across[None])
    ref = RadiographRef(Path("a/P1.dcm"), "a/P1.dcm", participant_id="P1", visit="00m")
    small = np.random.default_rng(0).random((16, 16), np.float32)
    crop = KneeCrop(ref, "R", small, np.eye(2, 3, dtype=np.float32), "0", participant_id="P1")
    predictor = fake.rooms(keep_latents=True).predictor
    (prediction,) = predictor.predict([crop], [predictor.views(crop)])
    points = np.stack([np.linspace(60, 160, 16), np.linspace(100, 130, 16)], axis=1).astype(np.float32)
    large = replace(prediction, crop=replace(crop, pixels=pixels), landmarks_now=points, landmarks_12m=points)
    return score(large, fake.CALIBRATION)


def flagged(knee: KneeScore, *names: str) -> KneeScore:
    return replace(knee, qc_flags=names)


def colours(knee: KneeScore) -> np.ndarray[Any, Any]:
    return np.asarray(draw(knee, np.full((224, 224), 0.5, np.float32)).convert("RGB")).astype(int)


def count(picture: np.ndarray[Any, Any], colour: Sequence[int]) -> int:
    return int((np.abs(picture - colour).max(axis=-1) <= 6).sum())


def orange(picture: np.ndarray[Any, Any]) -> int:
    return int((picture[..., 0] - picture[..., 2] > 90).sum())


def test_names_with_accents_are_drawn_in_letters_that_the_font_has() -> None:
    font = ImageFont.load_default(30)
    box = bytes(font.getmask("\ue000"))
    words = drawable("Jürgen Ångström, Žižek · é…")
    assert words == "Jurgen Angstrom, Zizek · e…"
    assert not [letter for letter in words if bytes(font.getmask(letter)) == box]


def test_a_picture_shows_the_radiograph_the_forecast_and_both_sets_of_landmarks(knee: KneeScore) -> None:
    picture = colours(knee)
    left = picture[drawing._TOP : drawing._TOP + 420, 24:444]
    pixels = knee.prediction.crop.pixels
    low, high = np.quantile(pixels, (0.002, 0.998))
    shown = np.asarray(
        Image.fromarray((255 * (pixels - low) / (high - low)).clip(0, 255).astype(np.uint8)).resize(
            (420, 420)
        )
    )
    assert np.abs(left[250:, :, 0] - shown[250:]).max() <= 3
    right = picture[drawing._TOP : drawing._TOP + 420, 468:888]
    assert np.ptp(right[300:]) == 0  # one rank everywhere is one grey
    assert count(left, drawing._NOW) > 200 and count(left, drawing._LATER) == 0
    assert count(right, drawing._LATER) > 200 and count(right, drawing._NOW) == 0


def test_orange_is_for_what_a_person_should_check(knee: KneeScore) -> None:
    facts = (flags.CROPPED_INPUT, flags.PUT_UPRIGHT, flags.SIDE_FROM_NAME)
    assert orange(colours(knee)) == 0
    assert orange(colours(flagged(knee, *facts))) == 0
    assert orange(colours(flagged(knee, *facts, flags.INVERSION_DETECTED))) > 20
    assert flags.apart([*facts, flags.NEAR_BORDER]) == ([flags.NEAR_BORDER], list(facts))


def test_a_batch_is_decoded_at_once(
    fake: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cohort = tmp_path / "cohort"
    cohort.mkdir()
    for i in range(6):
        (cohort / f"{i}.txt").write_text(f"both {i}")
    sizes = []
    rooms = fake.rooms

    def counting(*given: Any) -> Any:
        made = rooms(*given)
        forward = made.predictor._forward
        decode = forward.decode
        forward.decode = lambda latents: sizes.append(len(latents)) or decode(latents)
        return made

    monkeypatch.setattr(fake, "rooms", counting)
    fake.run(cohort, RunSettings(tmp_path / "r.parquet", previews=tmp_path / "p", batch_size=4))
    assert sizes == [8, 8, 8], "of each knee its latent and its forecast"


def sheet(fake: ModuleType, folder: Path, knee: KneeScore, number: int = 5, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    made = ContactSheet(folder)
    keeper = PreviewKeeper(folder)
    grey = np.full((224, 224), 0.5, np.float32)
    forecast = ForecastPicture(grey, grey)
    for index in range(number):
        one = flagged(knee, flags.CROPPED_INPUT, *([flags.NEAR_BORDER] if index == 2 else []))
        keeper.keep([(index, one, forecast)])
        made.add(
            {**row_of_score(one, fake.PROVENANCE), "image_index": index, "risk_12m": index / 10, **changed}
        )
    made.add({"status": "refused"})
    made.write("risks.parquet", ["58% look <odd>"])
    return folder / "index.html"


def data_of(page: Path) -> list[dict[str, Any]]:
    (found,) = re.findall(r'id="data">(.*?)</script>', page.read_text("utf-8"))
    return json.loads(found)


def test_the_page_has_each_scored_knee_with_its_picture(
    fake: ModuleType, knee: KneeScore, tmp_path: Path
) -> None:
    page = sheet(fake, tmp_path / "p", knee)
    entries = data_of(page)
    assert [entry["risk"] for entry in entries] == [0, 0.1, 0.2, 0.3, 0.4]
    assert all((page.parent / entry["picture"]).is_file() for entry in entries)
    assert [entry["check"] for entry in entries] == [[], [], ["near-border"], [], []]
    assert entries[0]["noted"] == ["cropped-input"]
    text = page.read_text("utf-8")
    assert "58% look &lt;odd&gt;" in text and "<!--" not in text and "Knees of risks.parquet" in text
    assert not re.search(r'(src|href)="?(https?:)?//|@import|url\(', text)


def test_the_page_shows_the_tables_risk_which_a_picture_rounds_once(
    fake: ModuleType, knee: KneeScore, tmp_path: Path
) -> None:
    """0.073506 is 7.4 %; rounded to four digits first, it would be 7.3 %."""
    (entry,) = data_of(sheet(fake, tmp_path / "p", knee, 1, risk_12m=0.073506))
    assert entry["risk"] == 0.073506


def test_an_id_cannot_break_out_of_the_page(fake: ModuleType, knee: KneeScore, tmp_path: Path) -> None:
    page = sheet(fake, tmp_path / "p", knee, 1, participant_id="</script><b>x")
    assert data_of(page)[0]["participant"] == "</script><b>x"
    assert "</script><b>x" not in page.read_text("utf-8")


def test_without_a_scored_knee_there_is_no_page(tmp_path: Path) -> None:
    ContactSheet(tmp_path).write("risks.parquet", [])
    assert list(tmp_path.iterdir()) == []


PROBE = """
<script>
addEventListener("load", function () {
  var found = {}, list = document.getElementById("knees"), dialog = document.getElementById("large");
  function press(key) {
    document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: key, bubbles: true}));
  }
  function risks() {
    return Array.from(list.querySelectorAll("b")).map(function (b) { return b.textContent; });
  }
  function choose(id, value) {
    var field = document.getElementById(id);
    if (field.type === "checkbox") field.checked = value; else field.value = value;
    field.dispatchEvent(new Event("input"));
  }
  found.overflow = document.documentElement.scrollWidth > innerWidth;
  found.ground = getComputedStyle(document.body).backgroundColor;
  document.getElementById("theme").click();
  found.turned = getComputedStyle(document.body).backgroundColor;
  found.all = risks();
  choose("order", "down");
  found.ordered = risks();
  choose("only", true);
  found.checked = risks();
  choose("only", false);
  choose("search", "nobody");
  found.none = risks();
  choose("search", "p1");
  list.querySelector("a").focus();
  press("ArrowRight");
  found.moved = Array.prototype.indexOf.call(list.children, document.activeElement.parentNode);
  document.activeElement.click();
  found.open = dialog.open;
  press("ArrowRight");
  found.place = document.getElementById("place").textContent;
  found.alt = document.getElementById("picture").alt;
  document.getElementById("close").click();
  found.closed = !dialog.open;
  // The browser's own word comes later, perhaps too late for this page's last look.
  dialog.dispatchEvent(new Event("close"));
  found.back = Array.prototype.indexOf.call(list.children, document.activeElement.parentNode);
  document.body.setAttribute("data-found", JSON.stringify(found));
});
</script></body>
"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at the page with")
@pytest.mark.parametrize("width", [480, 1300])
def test_the_page_is_used_by_keyboard(fake: ModuleType, knee: KneeScore, tmp_path: Path, width: int) -> None:
    page = sheet(fake, tmp_path / "p", knee)
    probed = page.with_name("probed.html")
    probed.write_text(page.read_text("utf-8").replace("</body>", PROBE), "utf-8")
    assert CHROMIUM is not None
    command = [
        *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
        *(f"--user-data-dir={tmp_path / 'profile'}", f"--window-size={width},900"),
        *("--virtual-time-budget=5000", "--dump-dom", probed.as_uri()),
    ]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout
    attribute = re.search(r'data-found="([^"]*)"', dom)
    assert attribute is not None
    found = json.loads(attribute[1].replace("&quot;", '"'))
    risks = [f"risk {10 * i}.0 %" for i in range(5)]
    assert not found["overflow"]
    assert found["ground"] != found["turned"]
    assert (found["all"], found["ordered"], found["none"]) == (risks, risks[::-1], [])
    assert found["checked"] == ["risk 20.0 %"]
    assert found["moved"] == 1 and found["open"]
    assert found["place"] == "3 of 5" and "risk 20.0 %, check: near-border" in found["alt"]
    assert found["closed"] and found["back"] == 2
