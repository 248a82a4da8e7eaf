"""``kneerisk report``: what the page says, in which order, and that it needs nothing but itself."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from kneerisk.cli import main
from kneerisk.errors import ExitCode, UsageError
from kneerisk.records import LANDMARKS
from kneerisk.study.enrichment.enrich import enrich
from kneerisk.study.enrichment.selection import Rule
from kneerisk.study.enrichment.settings import EnrichSettings
from kneerisk.study.report.checklist import checklist
from kneerisk.study.report.facts import completed, facts_of
from kneerisk.study.report.sheet import strips
from kneerisk.study.report.write import Report, ReportSettings, write_report
from kneerisk.study.scores import read_scores

Maker = Callable[..., Any]
ALARM = {"code": "unlike-the-population", "message": "96 % of these knees look <unlike> the population"}
SHARP, FLAT = (0.96, 0.01, 0.01, 0.01, 0.01), (0.2, 0.2, 0.2, 0.2, 0.2)


@pytest.fixture
def cohort(table: Maker, knee: Maker) -> Path:
    """Two sites, a refused and a failed row, a knee of grade 4, a name that is no HTML."""
    lost = {
        "risk_12m": None,
        "kl_now": None,
        "risk_12m_basis": None,
        **{f"kl_now_p{g}": None for g in range(5)},
    }
    return table(
        knee(
            "A",
            "L",
            site="north",
            risk_12m=0.30,
            kl_0m=1,
            p=SHARP,
            qc_flags=["scale-estimated"],
            reason=None,
            message=None,
        ),
        knee("A", "R", site="north", risk_12m=0.10, kl_0m=0, p=SHARP),
        knee("<b>B</b>", "L", site="south", risk_12m=0.02, p=FLAT),
        knee("C", "L", site="south", risk_12m=0.90, kl_0m=4, p=SHARP),
        knee(
            "D", "L", site="south", status="refused", reason="no-knee-found", message="no knee here", **lost
        ),
        knee("E", "R", site="south", status="failed", reason="timed-out", message="too slow", **lost),
    )


def with_run(path: Path, **run: Any) -> Path:
    documents = {k: v for k, v in pl.read_parquet_metadata(path).items() if k.startswith("kneerisk.")}
    documents["kneerisk.run"] = json.dumps(run)
    pl.read_parquet(path).write_parquet(path, metadata=documents)
    return path


def page_of(path: Path, **settings: Any) -> str:
    out = path.with_suffix(".html")
    write_report(ReportSettings(path, out, overwrite=True, **settings))
    return out.read_text("utf-8")


def words(page: str) -> str:
    """What a reader sees: no tags, no styles, one space between words."""
    text = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", page, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]+>", " ", text).split())


class Loads(HTMLParser):
    """Everything that a browser would fetch for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            self.ids.append(given["id"])
        for name in ("src", "href", "xlink:href", "data", "poster", "action"):
            value = given.get(name, "")
            if value and tag == "a":
                self.links.append(value)
            elif value and not value.startswith(("data:", "#")):
                self.found.append(value)
        self.found += re.findall(r"url\((?!#)([^)]*)\)", given.get("style", ""))


def test_the_page_needs_nothing_but_itself_and_its_links_lead_somewhere(cohort: Path) -> None:
    page = page_of(cohort)
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    styles = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)[0]
    assert "url(" not in styles and "@import" not in styles
    assert "default-src 'none'" in page
    assert len(loads.ids) == len(set(loads.ids))
    assert {link.removeprefix("#") for link in loads.links} <= set(loads.ids)
    assert "#010" not in page  # every mark of a plot's palette has become a colour of the page


def test_it_says_what_it_is_first_and_alarms_before_any_number(cohort: Path) -> None:
    page = words(page_of(with_run(cohort, alarms=[ALARM])))
    first = page.index("Research software, no medical device")
    alarm = page.index("96 % of these knees look &lt;unlike&gt; the population")
    assert first < alarm < page.index("knees scored")
    assert "Read every figure below with this alarm in mind" in page
    assert "Alarm:" not in words(page_of(with_run(cohort)))


def test_what_was_scored_refused_and_why(cohort: Path) -> None:
    page = words(page_of(cohort))
    assert "knees scored 4 of 5 images" in page  # A's two knees are of one file
    assert "not scored 2 1 refused, 1 failed" in page
    assert "no-knee-found 1 no knee here D.dcm" in page
    assert "timed-out (failed) 1 too slow E.dcm" in page
    assert "scale-estimated 1 25.0 % no usable spacing" in page
    assert "1 knees are of grade 4" in page
    assert "calibrated to: simulated knees." in page


def test_a_simulated_cohort_is_called_so(cohort: Path) -> None:
    assert "cohort is simulated" not in words(page_of(cohort))
    documents = {k: v for k, v in pl.read_parquet_metadata(cohort).items() if k.startswith("kneerisk.")}
    pl.read_parquet(cohort).write_parquet(cohort, metadata={**documents, "kneerisk.simulated": "true"})
    assert "This cohort is simulated" in words(page_of(cohort))


def test_what_a_table_says_is_text_never_markup(cohort: Path) -> None:
    page = page_of(cohort)
    assert "<b>B</b>" not in page and "&lt;b&gt;B&lt;/b&gt;" in page


def test_sites_are_told_apart(cohort: Path) -> None:
    facts = facts_of(read_scores(cohort), None)
    assert facts.group_label == "site"
    north, south = sorted(facts.groups, key=lambda group: group.name)
    assert (north.knees, north.participants, north.refused) == (2, 1, 0)
    assert (south.knees, south.participants, south.refused) == (2, 2, 2)
    assert north.risk.mean == pytest.approx(0.2)
    assert north.grades == (2, 0, 0, 0, 0)
    with pytest.raises(UsageError, match="has no such column"):
        facts_of(read_scores(cohort), "clinic")
    assert facts_of(read_scores(cohort), "side").groups[0].name == "L"


def test_the_sheet_shows_the_highest_the_doubtful_and_the_refused(cohort: Path) -> None:
    highest, doubtful, refused = strips(completed(read_scores(cohort).frame), 2)
    assert [(row["participant_id"], row["side"]) for row in highest.rows] == [("A", "L"), ("A", "R")]
    assert doubtful.rows[0]["participant_id"] == "<b>B</b>"
    assert [row["reason"] for row in refused.rows] == ["no-knee-found", "timed-out"]
    rows = completed(read_scores(cohort).frame)
    *_, again = strips(pl.concat([rows, rows]), 4)
    assert [row["reason"] for row in again.rows] == ["no-knee-found", "timed-out"]  # one row a reason
    shown = [(row["participant_id"], row["side"]) for strip in (highest, doubtful) for row in strip.rows]
    assert len(shown) == len(set(shown))


def test_evaluation_and_enrichment_are_shown_where_they_are_given(
    knee: Maker, table: Maker, tmp_path: Path
) -> None:
    path, labels = simulated(tmp_path, knee, table)
    found = enrich(EnrichSettings(path, labels=labels, rule=Rule("top-fraction", 0.2), bootstrap=50))
    beside = tmp_path / "enrichment.json"
    beside.write_text(json.dumps(found.to_json()), "utf-8")
    page = words(page_of(path, labels=labels, enrichment=beside, files=tmp_path / "files"))
    assert found.chosen is not None and found.chosen.event_rate.value is not None
    assert f"event rate {100 * found.chosen.event_rate.value:.1f} %" in page
    assert "any rise of the KL grade within 12 months" in page
    assert "calibration slope" in page and "Decision curve" in page
    assert "was made of" not in page
    files = {file.name for file in (tmp_path / "files").iterdir()}
    assert {"reliability.svg", "reliability.png", "enrichment.png", "evaluation.csv", "cohort.csv"} <= files
    figures = pl.read_csv(tmp_path / "files" / "evaluation.csv")
    auc = figures.filter(
        (pl.col("family") == "all") & (pl.col("measure") == "auc") & (pl.col("score") == "model")
    )
    assert 0.6 < auc["value"][0] < 0.9
    said = f"{auc['value'][0]:.3f} ({auc['low'][0]:.3f} to {auc['high'][0]:.3f})"
    assert f"has the higher risk; 0.5 is none {said}" in page
    assert (tmp_path / "files" / "risks.png").read_bytes().startswith(b"\x89PNG")


def simulated(folder: Path, knee: Maker, table: Maker) -> tuple[Path, Path]:
    """600 knees of a known risk, and what readers saw."""
    rng = np.random.default_rng(3)
    rows, labels = [], ["participant_id,side,kl_0m,kl_12m\n"]
    for number in range(300):
        liability = rng.normal()
        for side in "LR":
            risk = float(1 / (1 + np.exp(1.6 - liability - 0.4 * rng.normal())))
            grade, rose = int(rng.integers(0, 4)), int(rng.random() < risk)
            rows.append(knee(f"{number:04d}", side, kl_0m=grade, risk_12m=risk))
            labels.append(f"{number:04d},{side},{grade},{grade + rose}\n")
    (folder / "labels.csv").write_text("".join(labels), "utf-8")
    return table(*rows), folder / "labels.csv"


def test_what_was_made_of_another_table_says_so(cohort: Path, tmp_path: Path) -> None:
    other = tmp_path / "enrichment.json"
    found = enrich(EnrichSettings(cohort, bootstrap=0)).to_json()
    other.write_text(json.dumps({**found, "table": "another.parquet"}), "utf-8")
    said = f"the enrichment below was made of another.parquet, not of {cohort.name}"
    assert said in words(page_of(cohort, enrichment=other))
    other.write_text(json.dumps({**found, "table": "another.parquet", "notes": [said, "a note of its own"]}))
    page = words(page_of(cohort, enrichment=other))
    assert page.count(said) == 1 and "a note of its own" in page  # what the head says is not said again
    other.write_text("{}", "utf-8")
    with pytest.raises(UsageError, match="is not what kneerisk enrich --json writes"):
        page_of(cohort, enrichment=other)
    other.write_text("no json", "utf-8")
    with pytest.raises(UsageError, match="cannot be read as JSON"):
        page_of(cohort, evaluation=other)


def test_the_checklist_has_its_27_items_and_leaves_the_authors_theirs(cohort: Path) -> None:
    facts = facts_of(read_scores(cohort), None)
    items = checklist(facts, {"stack": "compact"}, "somebody", None, None, 0)
    assert [item.number for item in items] == list(range(1, 28))
    by_number = {item.number: item for item in items}
    assert by_number[17].state == by_number[19].state == "authors"  # ethics; patients and the public
    assert by_number[23].state == "authors"  # performance, of which nothing is known here
    assert "4 scored, 1 refused, 1 failed" in by_number[20].says
    page = page_of(cohort)
    assert words(page).count("for the authors to say") == sum(item.state == "authors" for item in items)


def radiograph(folder: Path) -> dict[str, float]:
    """A grey picture with a bright square, and landmarks around it, as a table has them."""
    from PIL import Image

    pixels = np.full((400, 300), 40, np.uint8)
    pixels[200:240, 100:200] = 220
    Image.fromarray(pixels).save(folder / "A.png")
    cells = {}
    for place, name in enumerate(LANDMARKS):
        x, y = (100 + 100 * place / 8, 240.0) if place < 9 else (100 + 100 * (place - 9) / 6, 200.0)
        cells |= {
            f"lm_now_{name}_x": x,
            f"lm_now_{name}_y": y,
            f"lm_12m_{name}_x": x,
            f"lm_12m_{name}_y": y - 5,
        }
    return cells


def test_knees_are_cut_from_the_sources_with_their_landmarks(
    table: Maker, knee: Maker, tmp_path: Path
) -> None:
    from kneerisk.study.report.pictures import SIZE, Album

    cells = radiograph(tmp_path)
    row = knee("A", "L", source_path="A.png", **cells)
    picture = Album(None, [tmp_path]).picture(row)
    assert picture is not None and (picture.width, picture.height) == (SIZE, SIZE)
    xs, ys = zip(*picture.now, strict=True)
    assert min(xs) == pytest.approx(SIZE - max(xs), abs=0.2)  # centred
    assert max(xs) - min(xs) == pytest.approx(SIZE / 1.35, abs=0.5)
    step = SIZE / 135
    assert picture.now[0][1] - picture.later[0][1] == pytest.approx(5 * step, abs=0.2)
    assert min(ys) == pytest.approx(SIZE / 2 - 20 * step, abs=0.2)
    shown = pixels_of(picture.data)
    inside, outside = shown[SIZE // 2, SIZE // 2], shown[20, 20]
    assert inside > 200 > 60 > outside
    page = page_of(table(row), sources=tmp_path)
    assert page.count("<polyline") == 4 and "now" in page
    assert "cohort holds no" not in page


def pixels_of(data: str) -> Any:
    import base64
    import io

    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))))


def test_an_inverted_radiograph_is_shown_with_bright_bone(knee: Maker, tmp_path: Path) -> None:
    from kneerisk.study.report.pictures import SIZE, Album

    row = knee("A", "L", source_path="A.png", qc_flags=["inversion-detected"], **radiograph(tmp_path))
    picture = Album(None, [tmp_path]).picture(row)
    assert picture is not None
    shown = pixels_of(picture.data)
    assert shown[SIZE // 2, SIZE // 2] < 60 < 200 < shown[20, 20]


def test_previews_go_before_sources_and_an_empty_folder_is_an_error(knee: Maker, tmp_path: Path) -> None:
    from PIL import Image

    from kneerisk.study.report.pictures import Album

    previews = tmp_path / "previews"
    previews.mkdir()
    with pytest.raises(UsageError, match="holds no preview"):
        Album(previews, [])
    Image.new("RGB", (1200, 600)).save(previews / "A_0m_L_000007.png")
    row = knee("A", "L", source_path="A.png", image_index=7, **radiograph(tmp_path))
    found = Album(previews, [tmp_path]).picture(row)
    assert found is not None and found.generated and found.width == 860
    other = Album(previews, [tmp_path]).picture({**row, "side": "R"})
    assert other is not None and not other.generated


def test_no_picture_is_said(cohort: Path) -> None:
    assert "No pictures: give --previews" in words(page_of(cohort))


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0)
        return 0

    return call


def test_the_command_writes_once_and_tells_of_alarms(
    cli: Callable[..., int], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "page.html"
    with_run(cohort, alarms=[ALARM])
    assert cli("report", cohort, "--out", out) == ExitCode.OK
    shown = capsys.readouterr().out
    assert shown.index("alarm: 96 %") < shown.index("4 knees, 2 rows without a score")
    assert cli("report", cohort, "--out", out) == ExitCode.USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert cli("report", cohort, "--out", out, "--overwrite", "--json") == ExitCode.OK
    assert json.loads(capsys.readouterr().out)["knees"] == 4
    assert cli("report", cohort, "--out", tmp_path / "page.pdf") == ExitCode.USAGE
    assert "end page.pdf in .html" in capsys.readouterr().err


def test_settings_that_contradict_each_other_are_refused(cohort: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.html"
    with pytest.raises(UsageError, match="give one of the two"):
        ReportSettings(cohort, out, labels=cohort, evaluation=cohort)
    with pytest.raises(UsageError, match=r"--sources .* is not there"):
        ReportSettings(cohort, out, sources=tmp_path / "nowhere")
    with pytest.raises(UsageError, match="--knees"):
        ReportSettings(cohort, out, knees=-1)
    assert isinstance(write_report(ReportSettings(cohort, out, knees=0)), Report)
