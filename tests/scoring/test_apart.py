"""No file ends a run: reading happens in processes that may crash, hang, swell or be killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import polars as pl
import pytest

from kneerisk.errors import Reason
from kneerisk.radiograph.apart.readers import Readers, ReadersError
from kneerisk.records import Radiograph, RadiographRef, Refusal
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.outputs import table
from kneerisk.scoring.run import score_images
from kneerisk.scoring.settings import RunSettings

TIMEOUT = 2.0
"""Seconds: above what a loaded machine needs for a good file, its process's start included."""


@pytest.fixture
def readers(fake: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Iterator[Readers]:
    monkeypatch.syspath_prepend(Path(__file__).parent)  # a reading process imports from where we do
    with Readers(fake.read, timeout=TIMEOUT, memory=300_000_000) as made:
        yield made


def ref_to(folder: Path, text: str, name: str = "a.txt") -> RadiographRef:
    path = folder / name
    path.write_text(text)
    return RadiographRef(path, name)


def pid_of(readers: Readers) -> int:
    (child,) = readers._idle
    return child._process.pid


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def ends(pid: int) -> bool:
    """Whether a process ends within seconds."""
    for _ in range(100):
        if not is_running(pid):
            return True
        time.sleep(0.1)
    return False


def test_a_file_is_read_as_it_is_here(fake: ModuleType, readers: Readers, tmp_path: Path) -> None:
    ref = ref_to(tmp_path, "one")
    there, here = readers(ref), fake.read(ref)
    np.testing.assert_array_equal(there.pixels, here.pixels, strict=True)
    assert replace(there, pixels=here.pixels) == here
    assert there.pixels.flags.writeable


@pytest.mark.parametrize(
    ("harm", "reason", "words"),
    [
        ("crash", Reason.READER_CRASHED, "SIGSEGV"),
        ("sleep", Reason.TIMED_OUT, "longer than 2 s"),
        ("spin", Reason.TIMED_OUT, "longer than 2 s"),
        ("swell", Reason.OUT_OF_MEMORY, "more than 0.3 GB of memory"),
    ],
)
def test_a_harmful_file_is_refused_and_the_next_one_read(
    harm: str, reason: Reason, words: str, readers: Readers, tmp_path: Path
) -> None:
    found = readers(ref_to(tmp_path, harm))
    assert isinstance(found, Refusal)
    assert found.reason is reason
    assert words in found.message
    assert isinstance(readers(ref_to(tmp_path, "one")), Radiograph)


def test_a_process_reads_one_file_after_another(readers: Readers, tmp_path: Path) -> None:
    pids = set()
    for text in ("one", "damaged", "two"):
        readers(ref_to(tmp_path, text))
        pids.add(pid_of(readers))
    assert len(pids) == 1


def test_what_the_run_itself_takes_replaces_no_process(readers: Readers, tmp_path: Path) -> None:
    held = np.ones(readers._memory // 8)  # as many bytes as a process may take
    with Readers(readers._read, timeout=None, memory=readers._memory) as mine:
        mine(ref_to(tmp_path, "one"))
        assert len(mine._idle) == 1
    assert held.all()


def test_a_process_that_grew_is_replaced(readers: Readers, tmp_path: Path) -> None:
    with Readers(readers._read, timeout=None, memory=1 << 30) as patient:
        first = pid_of(patient)
        assert isinstance(patient(ref_to(tmp_path, "fill")), Radiograph)
        assert patient._idle == []
        assert not is_running(first)


def test_a_process_that_somebody_killed_costs_no_row(readers: Readers, tmp_path: Path) -> None:
    assert isinstance(readers(ref_to(tmp_path, "crash-once")), Radiograph)
    os.kill(pid_of(readers), signal.SIGKILL)
    assert isinstance(readers(ref_to(tmp_path, "one")), Radiograph)


def test_a_process_that_is_killed_as_it_starts_costs_no_row(readers: Readers, tmp_path: Path) -> None:
    os.kill(pid_of(readers), signal.SIGKILL)
    assert isinstance(readers(ref_to(tmp_path, "one")), Radiograph)


def test_what_a_decoder_prints_breaks_no_answer_and_reaches_no_terminal(
    readers: Readers, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with Readers(readers._read, timeout=None) as mine:  # its standard error is the one that is captured
        assert isinstance(mine(ref_to(tmp_path, "print")), Radiograph)
    assert capfd.readouterr() == ("", "")


def test_an_error_is_told_in_its_own_words(readers: Readers, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="RuntimeError: a decoder fell over"):
        readers(ref_to(tmp_path, "raise"))


def test_a_reader_that_cannot_start_says_so(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [])
    with (
        Readers(readers._read, timeout=None) as lost,
        pytest.raises(ReadersError, match=r"cannot start \(exit status 1\)"),
    ):
        lost(RadiographRef(Path("a.txt"), "a.txt"))


def test_closing_ends_every_process(fake: ModuleType, readers: Readers, tmp_path: Path) -> None:
    readers(ref_to(tmp_path, "one"))
    pid = pid_of(readers)
    readers.__exit__(None, None, None)
    assert not is_running(pid)
    with pytest.raises(RuntimeError, match="closed"):
        readers(ref_to(tmp_path, "one"))


@pytest.mark.parametrize("text", ["one", "spin"])
def test_when_the_run_is_killed_its_readers_end(text: str, tmp_path: Path) -> None:
    """Idle ones at once, for nobody asks any more; one that hangs when its time is up."""
    code = (
        "import sys, threading, time; from pathlib import Path; import fake_chain\n"
        "from kneerisk.radiograph.apart.readers import Readers; from kneerisk.records import RadiographRef\n"
        "readers = Readers(fake_chain.read, timeout=2)\n"
        "print(readers._idle[0]._process.pid, flush=True)\n"
        "readers._idle[0].is_ready(); print('ready', flush=True)\n"
        "readers(RadiographRef(Path(sys.argv[1]), 'a')); time.sleep(600)"
    )
    path = [*sys.path, str(Path(__file__).parent)]
    run = subprocess.Popen(
        [sys.executable, "-c", code, ref_to(tmp_path, text).path],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
    )
    with run:
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        run.stdout.readline()
        time.sleep(0.5)
        assert is_running(pid)
        run.kill()
    assert ends(pid)


HARMFUL = {"P01x.txt": "crash", "P03x.txt": "spin", "P05x.txt": "sleep", "P06x.txt": "swell"}


def test_harmful_files_cost_their_own_rows_and_a_resume_keeps_them(
    fake: ModuleType, readers: Readers, cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(out: Path, **options: object) -> pl.DataFrame:
        settings = RunSettings(out, workers=2, batch_size=2, timeout=60, **options)  # type: ignore[arg-type]
        rooms = replace(fake.rooms(), read=readers)
        list(
            score_images(fake.scan(cohort), {}, rooms, settings, {**fake.PROVENANCE, "shard": "1/1"}, Clock())
        )
        return table.read(out).drop("image_index")

    alone = run(tmp_path / "alone.parquet")
    for name, text in HARMFUL.items():
        (cohort / name).write_text(text)
    both = run(tmp_path / "both.parquet")
    harmed = pl.col("source_path").is_in(list(HARMFUL))
    assert both.filter(~harmed).equals(alone)
    rows = both.filter(harmed)
    assert rows["status"].to_list() == ["failed"] * 4
    assert rows["reason"].to_list() == ["reader-crashed", "timed-out", "timed-out", "out-of-memory"]

    again = []

    def note(self: Readers, ref: RadiographRef) -> Radiograph | Refusal:
        again.append(ref.source_path)
        return Refusal(ref, Reason.TIMED_OUT, rows["message"][1])

    monkeypatch.setattr(Readers, "__call__", note)
    assert run(tmp_path / "both.parquet", resume=True).equals(both)
    assert sorted(again) == ["P03x.txt", "P05x.txt"], "a disk may be quicker today: no content is known"


def test_a_run_whose_readers_cannot_start_ends_and_blames_no_file(
    fake: ModuleType, cohort: Path, tmp_path: Path
) -> None:
    def lost(ref: RadiographRef) -> Radiograph:
        raise ReadersError("cannot start")

    out = tmp_path / "r.parquet"
    rooms = replace(fake.rooms(), read=lost)
    with pytest.raises(ReadersError, match="cannot start"):
        list(score_images(fake.scan(cohort), {}, rooms, RunSettings(out), {"shard": "1/1"}, Clock()))
    assert not out.exists()
