from __future__ import annotations

import importlib.util
import json
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import kneerisk
from kneerisk.cli import main
from kneerisk.errors import ExitCode, NoEngineError
from kneerisk.radiograph import knees as front_door
from kneerisk.radiograph.settings import InputSettings
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.scoring import cohort as joined
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import Notice
from kneerisk.scoring.settings import RunSettings, StackSettings

FAKE_CHAIN = Path(__file__).parents[1] / "scoring" / "fake_chain.py"

Cli = Callable[..., int]


@pytest.fixture(scope="session")
def fake() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fake_chain_of_the_cli", FAKE_CHAIN)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a command line; gives its exit status."""

    def run(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["kneerisk", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
        return int(end.value.code or 0)

    return run


@pytest.fixture
def fake_rooms(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command's own chain with the fake's rooms: text files for images, no stack."""

    @contextmanager
    def rooms(inputs: Any, networks: Any, run: Any, clock: Any) -> Iterator[Any]:
        yield fake.rooms(keep_latents=run.previews is not None or run.futures is not None)

    monkeypatch.setattr(joined, "open_rooms", rooms)
    monkeypatch.setattr(front_door, "list_images", lambda inputs: (fake.scan(inputs.inputs[0]), Skipped()))


@pytest.fixture
def knees(tmp_path: Path) -> Path:
    folder = tmp_path / "knees"
    folder.mkdir()
    for i in range(5):
        (folder / f"P{i}.txt").write_text(f"one {i}")
    return folder


@pytest.mark.usefixtures("fake_rooms")
def test_all_rows_ok_is_0(cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.parquet"
    assert cli("score", knees, "--out", out, "--no-progress") == ExitCode.OK
    printed = capsys.readouterr()
    assert "5 knees scored of 5 images" in printed.out
    assert "Highest risks" in printed.out and "a made-up population" in printed.out
    assert "not a diagnosis" in printed.out
    assert printed.err == ""
    assert len(table.read(out)) == 5


@pytest.mark.usefixtures("fake_rooms")
def test_score_writes_a_report_or_refuses_before_it_scores(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, page = tmp_path / "r.parquet", tmp_path / "page.html"
    assert cli("score", knees, "--out", out, "--report", page, "--no-progress") == ExitCode.OK
    assert "page.html: 5 knees" in capsys.readouterr().out.replace("\n", "")
    assert "a made-up population" in page.read_text("utf-8")
    assert cli("score", knees, "--out", tmp_path / "s.parquet", "--report", page) == ExitCode.USAGE
    assert "--overwrite" in capsys.readouterr().err
    assert not (tmp_path / "s.parquet").exists()
    for file in knees.iterdir():
        file.write_text("empty")
    none = tmp_path / "none.html"
    again = ("--out", out, "--overwrite", "--report", none, "--quiet")
    assert cli("score", knees, *again) == ExitCode.NOTHING_SCORABLE
    assert "no knee was scored" in capsys.readouterr().err
    assert not none.exists()


@pytest.mark.usefixtures("fake_rooms")
def test_refused_rows_are_3_and_the_table_is_written(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (knees / "P5.txt").write_text("empty")
    (knees / "P6.txt").write_text("damaged")
    report, out = tmp_path / "report.json", tmp_path / "r.csv"
    assert cli("score", knees, "--out", out, "--json", "--run-report", report) == ExitCode.PARTIAL
    summary = json.loads(capsys.readouterr().out)
    assert summary["reasons"] == {"no-knee-found": 1, "image-damaged": 1}
    assert summary["exit_code"] == 3
    assert table.read(out)["status"].to_list() == ["ok"] * 5 + ["refused", "failed"]
    written = json.loads(report.read_text("utf-8"))
    assert written["settings"]["stack"] == "fake"
    assert written["summary"]["ok"] == 5
    assert "networks" in written["summary"]["stages"]
    assert written["versions"]["numpy"] and written["machine"]["cpus"]


@pytest.mark.usefixtures("fake_rooms")
def test_nothing_scorable_is_4(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    out = tmp_path / "r.parquet"
    assert cli("score", folder, "--out", out) == ExitCode.NOTHING_SCORABLE
    assert "No image was found" in capsys.readouterr().out
    assert not out.exists()
    (folder / "a.txt").write_text("empty")
    assert cli("score", folder, "--out", out, "--quiet") == ExitCode.NOTHING_SCORABLE
    assert capsys.readouterr().out == ""
    assert table.read(out)["reason"].to_list() == ["no-knee-found"]


@pytest.mark.usefixtures("fake_rooms")
def test_a_failure_with_on_error_stop_is_1(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (knees / "P9.txt").write_text("damaged")
    assert cli("score", knees, "--out", tmp_path / "r.parquet", "--on-error", "stop") == ExitCode.FATAL
    assert "P9.txt: the image ends too early [image-damaged]" in capsys.readouterr().err


@pytest.mark.usefixtures("fake_rooms")
def test_an_output_that_exists_is_2_until_the_user_decides(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.parquet"
    assert cli("score", knees, "--out", out, "-q") == ExitCode.OK
    assert cli("score", knees, "--out", out) == ExitCode.USAGE
    error = " ".join(capsys.readouterr().err.split())
    assert "--overwrite" in error and "--resume" in error
    assert cli("score", knees, "--out", out, "--resume", "-q") == ExitCode.OK
    assert cli("score", knees, "--out", out, "--overwrite", "-q") == ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--out", "r.xlsx"), ".parquet or .csv"),
        (("--shard", "0/4"), "counts from 1"),
        (("--shard", "five"), "i/n"),
        (("--steps", "0"), "--steps must be at least 1"),
        (("--samples", "0"), "--samples must be at least 1"),
        (("--resume", "--overwrite"), "give one of the two"),
        (("--limit", "0"), "--limit must be at least 1"),
        (("--workers", "0"), "--workers must be at least 1"),
        (("--timeout", "0"), "--timeout must be above 0"),
        (("--spacing-mm", "0"), "0.01 to 5"),
        (("--spacing-mm", "nan"), "0.01 to 5"),
        (("--futures", "f.zip"), "in .h5"),
        (("--run-report", "r.txt"), "in .json"),
        (("--side", "X"), "--side"),
        (("--bogus",), "--bogus"),
    ],
)
def test_a_wrong_option_is_2_and_says_what_is_right(
    arguments: tuple[str, ...], words: str, cli: Cli, knees: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli("score", knees, *arguments) == ExitCode.USAGE
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_missing_stack_is_1_and_names_the_fix(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "r.parquet"
    assert cli("score", knees, "--stack", "no-such-stack", "--out", out) == ExitCode.FATAL
    assert "no stack 'no-such-stack'" in " ".join(capsys.readouterr().err.split())
    assert list(tmp_path.iterdir()) == [knees]


def test_no_engine_is_5(
    cli: Cli, knees: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def rooms(*_: object) -> Iterator[None]:
        raise NoEngineError("this version has no TensorRT backend: choose cpu")
        yield

    monkeypatch.setattr(joined, "open_rooms", rooms)
    assert cli("score", knees, "--backend", "tensorrt") == ExitCode.NO_ENGINE
    assert "choose cpu" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_130_and_the_run_goes_on_with_resume(
    number: signal.Signals, cli: Cli, fake: ModuleType, knees: Path, tmp_path: Path
) -> None:
    """In a process of its own, which the signal ends as Ctrl-C or a scheduler would."""
    code = (
        "import signal, sys, importlib.util\n"
        # a test run started in the background hands on an ignored Ctrl-C
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from kneerisk.scoring import cohort\nfrom kneerisk.cli import main\n"
        f"spec = importlib.util.spec_from_file_location('fake_chain', {str(FAKE_CHAIN)!r})\n"
        "fake = sys.modules['fake_chain'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(fake)\n"
        "from contextlib import contextmanager\n"
        "@contextmanager\n"
        "def rooms(*_):\n    yield fake.rooms(pause=0.5)\n"
        "cohort.open_rooms = rooms\n"
        "from kneerisk.radiograph import knees\n"
        "from kneerisk.radiograph.sources.skipped import Skipped\n"
        "knees.list_images = lambda inputs: (fake.scan(inputs.inputs[0]), Skipped())\n"
        "main()\n"
    )
    out = tmp_path / "r.parquet"
    arguments = ["score", str(knees), "--out", str(out), "--workers", "1", "--batch-size", "1"]
    process = subprocess.Popen([sys.executable, "-c", code, *arguments], stderr=subprocess.PIPE, text=True)
    rows = tmp_path / "r.parquet.kneerisk" / "rows.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (rows.exists() and rows.stat().st_size):
        time.sleep(0.02)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == ExitCode.INTERRUPTED, error
    assert "--resume" in error
    assert rows.stat().st_size and not out.exists()


@pytest.mark.usefixtures("fake_rooms")
def test_shards_merge_by_command(
    cli: Cli, knees: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = [tmp_path / f"part{i}.parquet" for i in (1, 2)]
    for i, part in enumerate(parts, start=1):
        assert cli("score", knees, "--out", part, "--shard", f"{i}/2", "-q") == ExitCode.OK
    whole, merged = tmp_path / "whole.parquet", tmp_path / "merged.parquet"
    assert cli("score", knees, "--out", whole, "-q") == ExitCode.OK
    assert cli("merge", *parts, "--out", merged) == ExitCode.OK
    assert "5 knees scored of 5 images" in capsys.readouterr().out
    assert table.read(merged).equals(table.read(whole))
    assert cli("merge", parts[0], "--out", tmp_path / "m.parquet") == ExitCode.USAGE


def test_validate_tells_what_would_be_scored(
    cli: Cli,
    fake: ModuleType,
    knees: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def validated(inputs: Any, networks: Any, run: Any) -> Iterator[Any]:
        return joined.validate_images(
            fake.scan(inputs.inputs[0]), {"hidden": 1}, fake.read, fake.localise, run
        )

    monkeypatch.setattr(joined, "validate_cohort", validated)
    assert cli("validate", knees) == ExitCode.OK
    (knees / "P5.txt").write_text("empty")
    (knees / "P6.bad").write_text("")
    before = sorted(knees.parent.rglob("*"))
    assert cli("score", knees, "--dry-run", "--json") == ExitCode.PARTIAL
    capsys.readouterr()
    assert cli("validate", knees, "--json") == ExitCode.PARTIAL
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], found["knees"]) == (7, 5)
    assert found["reasons"] == {"no-knee-found": 1, "not-an-image": 1}
    assert [problem["source_path"] for problem in found["problems"]] == ["P5.txt", "P6.bad"]
    assert cli("validate", knees, "--limit", "2", "--shard", "1/2", "--json") in (
        ExitCode.OK,
        ExitCode.PARTIAL,
    )
    assert json.loads(capsys.readouterr().out)["images"] == 2
    assert sorted(knees.parent.rglob("*")) == before


def test_doctor_says_what_is_missing(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status = cli("doctor", "--json")
    found = json.loads(capsys.readouterr().out)
    names = {check["name"] for check in found["checks"]}
    assert {"machine", "openvino", "pydicom", "polars", "GPU"} <= names
    assert status == (0 if found["ready"] else 1)
    broken = tmp_path / "stacks" / "broken"
    broken.mkdir(parents=True)
    (broken / "stack.yaml").write_text("format: 99\n")
    monkeypatch.setenv("KNEERISK_STACKS", str(broken.parent))
    assert cli("doctor") == ExitCode.FATAL
    printed = " ".join(capsys.readouterr().out.split())
    assert "stack broken: damaged" in printed and "not ready to score" in printed


def test_stack_list_shows_a_damaged_stack_as_damaged(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "stack.yaml").write_text("format: 99\n")
    monkeypatch.setenv("KNEERISK_STACKS", str(tmp_path))
    assert cli("stack", "list", "--json") == 0
    entries = {entry["name"]: entry["summary"] for entry in json.loads(capsys.readouterr().out)}
    assert entries["broken"].startswith("damaged")
    assert cli("stack", "info", "broken") == ExitCode.FATAL


def test_simulate_writes_a_cohort_once(cli: Cli, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "simulated [2026]"
    assert cli("simulate", folder, "--participants", 1) == 0
    said = capsys.readouterr().out
    assert "simulated radiographs" in said
    assert shlex.split(said.partition("score them: ")[2])[:3] == [
        *("kneerisk", "score"),
        str(folder / "manifest.csv"),
    ]
    assert len(list(folder.rglob("*.dcm"))) == 1
    assert cli("simulate", folder) == ExitCode.USAGE


def test_score_of_python_refuses_options_it_does_not_know(knees: Path) -> None:
    with pytest.raises(TypeError, match="no option stepz"):
        kneerisk.score(knees, stepz=3)


@pytest.mark.usefixtures("fake_rooms")
def test_ids_that_tell_nothing_apart_are_said_before_the_first_knee(
    cli: Cli,
    fake: ModuleType,
    knees: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def nobodys(inputs: Any) -> Any:
        return (replace(ref, participant_id=None) for ref in fake.scan(knees)), Skipped()

    monkeypatch.setattr(front_door, "list_images", nobodys)
    assert cli("score", knees, "--out", tmp_path / "r.parquet", "-q") == ExitCode.OK
    assert "warning: none of the 5 images says whose it is" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="none of the 5 images"):
        kneerisk.score(knees)
    steps = joined.score_cohort(InputSettings((knees,)), StackSettings(), RunSettings(tmp_path / "s.parquet"))
    first = next(steps)
    assert isinstance(first, Notice)
    steps.close()


@pytest.mark.usefixtures("fake_rooms")
def test_score_of_python_gives_the_commands_table(cli: Cli, knees: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.parquet"
    assert cli("score", knees, "--out", out, "-q") == 0
    assert kneerisk.score(knees).equals(table.read(out))
    assert kneerisk.score([str(knees)], tmp_path / "p.csv", batch_size=1).equals(table.read(out))
