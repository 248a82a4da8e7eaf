"""What a run says while it runs and at its end: in lines for programs, and in sums that add up."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from kneerisk.cli.screen import events
from kneerisk.errors import ExitCode
from kneerisk.radiograph import knees as front_door
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.scoring import cohort as joined

from .test_cli import fake  # noqa: F401


@pytest.fixture
def cohort(fake: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:  # noqa: F811
    """Ten files: six scored (one with two knees), two refused, two that fail; three more are passed over."""

    @contextmanager
    def rooms(inputs: Any, networks: Any, run: Any, clock: Any) -> Iterator[Any]:
        yield fake.rooms()

    def listed(inputs: Any) -> tuple[Any, Skipped]:
        skipped = Skipped()
        for name in ("a.txt", "b.txt", "c.csv"):
            skipped.add(name, "a text file" if name.endswith("txt") else "no image by its name (.csv)")
        return fake.scan(inputs.inputs[0]), skipped

    monkeypatch.setattr(joined, "open_rooms", rooms)
    monkeypatch.setattr(front_door, "list_images", listed)
    folder = tmp_path / "knees"
    folder.mkdir()
    kinds = ["one", "damaged", "one", "empty", "both", "one", "one", "raise", "empty", "one"]
    for i, kind in enumerate(kinds):
        (folder / f"P{i}.txt").write_text(f"{kind} {i}")
    return folder


@pytest.fixture(autouse=True)
def plain() -> Iterator[None]:
    yield
    events.choose("text")


def test_the_sum_adds_up(
    cli: Callable[..., int], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "report.json"
    options = ("--json", "--no-progress", "--run-report", report)
    assert cli("score", cohort, "--out", tmp_path / "r.csv", *options) == ExitCode.PARTIAL
    found = json.loads(capsys.readouterr().out)
    parts = [found[f"images_{word}"] for word in ("scored", "refused", "failed")]
    assert parts == [6, 2, 2] and found["left"] == 0 and found["ok"] == 7
    assert found["seen"] == 13 == sum(parts) + sum(found["skipped"].values())
    written = json.loads(report.read_text())
    assert written["memory_peak_bytes"] > 10_000_000
    assert written["throughput"]["images_per_second"] > 0 and written["throughput"]["by_minute"] == []

    assert cli("score", cohort, "--out", tmp_path / "p.csv", "--shard", "2/3", "--no-progress") == 3
    printed = " ".join(capsys.readouterr().out.split())
    seen, told = re.search(r"(\d+) files seen: (.*) left to other shards or runs", printed).groups()
    parts = [int(number) for number in re.findall(r"\d+", told)]
    assert int(seen) == 13 == sum(parts) and parts[-1] > 0


def test_the_first_failure_is_said_at_once_and_alone(
    cli: Callable[..., int], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("score", cohort, "--out", tmp_path / "r.csv", "--no-progress", "--batch-size", "1") == 3
    told = capsys.readouterr().err
    assert told.count("the first file that failed: P1.txt") == 1 and "P7.txt" not in told


def test_json_lines_tell_the_run(
    cli: Callable[..., int], cohort: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--log-format", "json", "--quiet")
    assert cli("score", cohort, "--out", tmp_path / "r.csv", *options) == ExitCode.PARTIAL
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    kinds = [line["event"] for line in lines]
    assert kinds[0] == "started" and kinds[-1] == "finished" and {"progress", "warning"} <= {*kinds}
    assert all(line["time"].endswith("Z") for line in lines)
    assert (lines[-1]["seen"], lines[-1]["exit_code"]) == (13, 3)
    assert [line for line in lines if line["event"] == "progress"][-1]["done"] == 10
    assert cli("score", cohort, "--out", tmp_path / "r.csv", *options) == ExitCode.USAGE
    (line,) = [json.loads(line) for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert line["event"] == "error" and "--overwrite" in line["message"]


def test_a_run_report_that_finds_no_room_costs_nothing_else(
    cli: Callable[..., int],
    cohort: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from kneerisk.scoring.outputs import run_report

    def full(place: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    report, out = tmp_path / "report.json", tmp_path / "r.csv"
    asked = ("score", cohort, "--out", out, "--no-progress", "--run-report", report)
    with monkeypatch.context() as patched:
        patched.setattr(run_report, "written_whole", full)
        assert cli(*asked) == ExitCode.FATAL
    said = " ".join(capsys.readouterr().err.split())
    assert "report.json: No space left on device" in said and "free some space" in said
    assert "r.csv is whole: repeat with --resume" in said
    before = out.read_text()
    assert cli(*asked, "--resume") == ExitCode.PARTIAL
    assert report.exists() and out.read_text() == before
