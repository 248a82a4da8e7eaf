"""Whatever ends a run, the next one goes on from it, and its table is the one of a run that nothing ended.

A short form by default; ``make faults`` tries hundreds (``KNEERISK_FAULTS``: random ones of each kind).
How many were ended by which signal is printed at the end.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from kneerisk.errors import Reason
from kneerisk.scoring.journal.folder import folder_of
from kneerisk.scoring.outputs import table

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the driver forks")

MANY = int(os.environ.get("KNEERISK_FAULTS", "4"))
SEED = int(os.environ.get("KNEERISK_FAULTS_SEED", "0"))
PAUSE = 0.01
BUSY = "another kneerisk"


class Driver:
    """The process that forks runs; see driver.py."""

    def __init__(self, scratch: Path, ends: Counter[str]) -> None:
        self.scratch = scratch
        self.ends = ends
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("driver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def score(self, cohort: Path, out: Path, **job: Any) -> list[int]:
        assert self.process.stdin is not None and self.process.stdout is not None
        log = str(self.scratch / "log")
        job = {"cohort": str(cohort), "out": str(out), "pause": PAUSE, "log": log, **job}
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        codes, readers_killed = json.loads(self.process.stdout.readline())
        self._count(codes, readers_killed, "on entering a call" if "at" in job else "at a random moment")
        return [int(code) for code in codes]

    def _count(self, codes: list[int], readers_killed: int, when: str) -> None:
        """What ended, as the system says, not as it was asked for."""
        signals = {-how: how.name for how in (signal.SIGKILL, signal.SIGTERM)} | {130: "SIGINT"}
        self.ends.update(f"main process, {signals[code]} {when}" for code in codes if code in signals)
        self.ends.update(["reading process, SIGKILL at a random moment"] * readers_killed)

    def said(self, run: int = 0) -> str:
        return (self.scratch / f"log.{run}").read_text()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory, ends: Counter[str]) -> Iterator[Driver]:
    started = Driver(tmp_path_factory.mktemp("driver"), ends)
    yield started
    started.close()


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cohort")
    words = ["one"] * 8 + ["both", "empty", "damaged", "raise", "poison", "break"]
    for number, word in enumerate(words):
        (folder / f"P{number:02d}.txt").write_text(f"{word} {number}")
    (folder / "P99.bad").write_text("")
    return folder


@pytest.fixture(scope="module")
def unbroken(driver: Driver, cohort: Path, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    out = tmp_path_factory.mktemp("unbroken") / "r.parquet"
    assert driver.score(cohort, out) == [0], driver.said()
    return table.read(out)


def goes_on(driver: Driver, cohort: Path, out: Path, unbroken: pl.DataFrame, ends: int = 1) -> None:
    """A resume ends well, leaves the table of an unbroken run, and nothing else.

    An image that was being read at three of the ends has a row that says so; --retry-failed scores it.
    """
    assert driver.score(cohort, out) == [0], driver.said()
    if ends >= 3 and (table.read(out)["reason"] == Reason.READER_CRASHED).any():
        assert driver.score(cohort, out, retry=True) == [0], driver.said()
    assert table.read(out).equals(unbroken)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def killed_on_entering(
    driver: Driver, cohort: Path, home: Path, name: str, also: dict[str, str], most: int
) -> None:
    """Kill a run on entering each of its calls, or ``most``: it goes on to what an unbroken one leaves."""
    trace = home / "trace.json"
    whole = home / "counted" / name
    whole.parent.mkdir()
    assert driver.score(cohort, whole, also=also, trace=str(trace)) == [0], driver.said()
    unbroken, files = table.read(whole), files_in(whole.parent)
    assert unbroken["status"].to_list().count("ok") >= 3
    counts = json.loads(trace.read_text())
    assert {"rename", "unlink", "rmdir", "fsync"} == set(counts)
    points = [(call, number) for call, count in counts.items() for number in range(1, count + 1)]
    if len(points) > most:
        points = random.Random(SEED).sample(points, most)
    for call, number in points:
        out = home / f"{call}-{number}" / name
        out.parent.mkdir()
        ended = driver.score(cohort, out, also=also, at=[call, number, "kill"])
        assert ended == [-signal.SIGKILL], (call, number)
        assert driver.score(cohort, out, also=also) == [0], driver.said()
        assert table.read(out).equals(unbroken)
        assert files_in(out.parent) == files, (call, number)


def test_a_run_killed_on_entering_any_rename_unlink_or_flush_goes_on(
    driver: Driver, cohort: Path, tmp_path: Path
) -> None:
    killed_on_entering(driver, cohort, tmp_path, "r.parquet", {}, 3 * MANY)


def test_a_run_with_every_output_killed_on_entering_any_call_goes_on(driver: Driver, tmp_path: Path) -> None:
    few = tmp_path / "cohort"
    few.mkdir()
    for number, word in enumerate(["one", "both", "damaged"]):
        (few / f"P{number}.txt").write_text(f"{word} {number}")
    also = {"previews": "pictures", "futures": "f.h5", "dicom_sr": "reports", "dicom_sc": "captures"}
    killed_on_entering(driver, few, tmp_path, "r.csv", also, MANY // 2)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_disk_that_is_full_or_fails_at_any_flush_or_rename_ends_the_run_in_words(
    code: int, driver: Driver, cohort: Path, unbroken: pl.DataFrame, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    for trial in range(MANY // 2):
        name, number = chosen.choice(["fsync", "rename"]), chosen.randint(1, 3)
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        (ended,) = driver.score(cohort, out, at=[name, number, code])
        said = driver.said()
        assert ended in (0, 1, 2) and "Traceback" not in said, (name, number, said)
        if ended:
            assert os.strerror(code) in said, (name, number, said)
        if not out.exists() or folder_of(out).exists():
            goes_on(driver, cohort, out, unbroken)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_run_ended_at_random_again_and_again_goes_on(
    how: signal.Signals, driver: Driver, cohort: Path, unbroken: pl.DataFrame, tmp_path: Path
) -> None:
    chosen = random.Random(SEED + how)
    start = time.monotonic()
    (tmp_path / "timed").mkdir()
    driver.score(cohort, tmp_path / "timed" / "r.parquet")
    takes = time.monotonic() - start
    hits = kills = 0
    trial = 0
    while kills < MANY and trial < 10 * MANY:
        trial += 1
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        before = kills
        while kills < MANY:
            (ended,) = driver.score(cohort, out, after=[chosen.uniform(0, takes), how])
            if ended in (-how, 130):
                kills += 1
                hits += folder_of(out).exists()
            else:
                assert ended == 0, driver.said()
                break
        goes_on(driver, cohort, out, unbroken, ends=kills - before)
    assert kills == MANY
    assert hits > 0, "no kill met a journal"


def test_two_and_three_runs_at_once_are_one_run_and_words(
    driver: Driver, cohort: Path, unbroken: pl.DataFrame, tmp_path: Path
) -> None:
    for trial in range(max(2, MANY // 4)):
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        runs = 2 + trial % 2
        codes = driver.score(cohort, out, runs=runs)
        assert 0 in codes, codes
        for number, code in enumerate(codes):
            assert code == 0 or BUSY in driver.said(number), driver.said(number)
        goes_on(driver, cohort, out, unbroken)


@pytest.mark.parametrize("name", ["rows.jsonl", "listing.jsonl", "suspects"])
def test_a_journal_that_is_torn_or_flipped_loses_and_changes_no_row(
    name: str, driver: Driver, cohort: Path, unbroken: pl.DataFrame, tmp_path: Path
) -> None:
    chosen = random.Random(f"{SEED} {name}")
    for trial in range(max(2, MANY // 2)):
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        driver.score(cohort, out, at=["fsync", 6, "kill"])
        path = folder_of(out) / name
        content = bytearray(path.read_bytes())
        assert content, "nothing to damage: kill it later"
        place = chosen.randrange(len(content))
        if trial % 2:
            content[place] ^= 1 << chosen.randrange(8)
            path.write_bytes(bytes(content))
        else:
            path.write_bytes(bytes(content[:place]))
        goes_on(driver, cohort, out, unbroken)


def test_readers_that_are_killed_cost_no_row(driver: Driver, cohort: Path, tmp_path: Path) -> None:
    chosen = random.Random(SEED)
    assert driver.score(cohort, tmp_path / "unbroken.parquet", apart=True) == [0], driver.said()
    unbroken = table.read(tmp_path / "unbroken.parquet")
    for trial in range(max(2, MANY // 2)):
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        # From before it is ready to when all is read: a reader starts in about a second.
        assert driver.score(cohort, out, apart=True, reader=chosen.uniform(0, 1.5)) == [0], driver.said()
        assert table.read(out).equals(unbroken)


def test_files_that_vanish_change_and_come_while_a_run_works(
    driver: Driver, cohort: Path, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    for trial in range(max(2, MANY // 2)):
        home = tmp_path / str(trial)
        mine = Path(shutil.copytree(cohort, home / "cohort"))
        names = chosen.sample(sorted(path.name for path in mine.glob("*.txt")), 4)
        changes = {
            names[0]: None,
            names[1]: f"both {trial}",
            names[2]: f"damaged {trial}",
            "P05x.txt": "one x",
        }
        out = home / "out" / "r.parquet"
        out.parent.mkdir()
        moment = chosen.uniform(0, 0.3)
        driver.score(mine, out, meddle=[moment, changes], after=[chosen.uniform(0, 0.1), signal.SIGKILL])
        fresh = home / "fresh.parquet"
        assert driver.score(mine, fresh) == [0], driver.said()
        if out.exists():
            continue  # it was quicker than the kill: a finished table is of what it saw
        goes_on(driver, mine, out, table.read(fresh))


def test_a_clock_that_jumps_changes_nothing(
    driver: Driver, cohort: Path, unbroken: pl.DataFrame, tmp_path: Path
) -> None:
    chosen = random.Random(SEED)
    for trial in range(max(2, MANY // 4)):
        out = tmp_path / str(trial) / "r.parquet"
        out.parent.mkdir()
        number = chosen.randint(3, 6)
        assert driver.score(cohort, out, clock=True, at=["fsync", number, "kill"]) == [-signal.SIGKILL]
        for path in folder_of(out).iterdir():
            os.utime(path, (chosen.choice([0, 4e9]),) * 2)
        goes_on(driver, cohort, out, unbroken)
