"""Files that are whole or not there, and locks that end with their process."""

import errno
import hashlib
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from kneerisk_engines.errors import BusyError
from kneerisk_engines.files import flush, folder_whole, locked, remove_folder, sha256_file, written_whole

HOLD = """
import sys, time
from pathlib import Path
from kneerisk_engines.files import locked
with locked(Path(sys.argv[1]), wait=False):
    print("held", flush=True)
    time.sleep(60)
"""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_at_the_end_and_not_before(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")
    with written_whole(place) as aside:
        aside.write_text("new")
        assert place.read_text() == "old"
    assert place.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


def test_a_file_whose_writing_breaks_leaves_what_was_there(tmp_path: Path) -> None:
    place = tmp_path / "a.json"
    place.write_text("old")
    with pytest.raises(OSError, match="full"), written_whole(place) as aside:
        aside.write_text("half")
        raise OSError("the disk is full")
    assert place.read_text() == "old"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("before", [True, False])
def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path, before: bool) -> None:
    place = tmp_path / "stack"
    if before:
        place.mkdir()
        (place / "old").touch()
    with pytest.raises(RuntimeError), folder_whole(place) as aside:
        (aside / "half").touch()
        raise RuntimeError
    assert names(tmp_path) == ["stack"] * before
    with folder_whole(place) as aside:
        (aside / "new").touch()
        assert names(place) == ["old"] if before else not place.exists()
    assert names(place) == ["new"]
    assert names(tmp_path) == ["stack"]
    remove_folder(place)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_take_its_place_gives_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "stack"
    place.mkdir()
    (place / "old").touch()
    rename = Path.rename

    def refusing(self: Path, target: Path) -> Path:
        if self.suffix == ".new":
            raise PermissionError("not now")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refusing)
    with pytest.raises(PermissionError), folder_whole(place) as aside:
        (aside / "new").touch()
    assert names(place) == ["old"]
    assert names(tmp_path) == ["stack"]


def test_a_lock_is_held_against_others_and_ends_with_its_process(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(BusyError, match="another process holds"), locked(lock, wait=False):
            pass
        other.kill()
    with locked(lock, wait=False):
        pass


def test_a_hash_is_over_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"knee")
    assert sha256_file(tmp_path / "a") == hashlib.sha256(b"knee").hexdigest()


def test_a_folder_that_its_share_cannot_flush_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = os.fsync

    def fsync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "Invalid argument")
        really(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    with written_whole(tmp_path / "a") as aside:
        aside.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"

    def full(descriptor: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="Input/output"):
        flush(tmp_path)


@pytest.mark.skipif(os.name == "nt", reason="Windows locks files without flock")
@pytest.mark.filterwarnings("ignore:flock not supported")
@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_without_locks_a_file_that_names_its_process_stands_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: int
) -> None:
    import fcntl

    def flock(*args: object) -> None:
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(2):
        with (
            locked(tmp_path / "lock", wait=False),
            pytest.raises(BusyError),
            locked(tmp_path / "lock", wait=False),
        ):
            pass


def test_nothing_is_written_through_a_link_that_lies_where_a_file_is_made(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / ".x.csv.new").symlink_to(victim)
    with written_whole(tmp_path / "x.csv") as aside:
        aside.write_text("new")
    assert (victim.read_text(), (tmp_path / "x.csv").read_text()) == ("mine", "new")
