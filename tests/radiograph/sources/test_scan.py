"""Folders, files and manifests to references, in an order that never changes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneerisk.errors import Reason, UsageError
from kneerisk.radiograph import flags
from kneerisk.radiograph.sources.scan import scan
from kneerisk.radiograph.sources.skipped import Skipped
from kneerisk.radiograph.sources.sniff import describe, sniff, sop_instance_uid
from kneerisk.records import RadiographRef, Refusal
from kneerisk.scoring.journal.folder import folder_of

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def put(folder, *names, data=None):
    """Files that look like images, no two of them alike, or with the bytes given."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG + name.encode() if data is None else data)


def sources(items):
    return [item.source_path if isinstance(item, RadiographRef) else item.ref.source_path for item in items]


def test_a_folder_is_walked_in_order_and_what_is_no_image_is_counted(tmp_path):
    put(tmp_path, "b/2.png", "b/10.png", "a/deep/er/001", "a/é x.PNG", "z.jpg")
    put(tmp_path, "contents.csv", "a/notes.txt", data=b"some words")
    put(tmp_path, ".hidden/x.png", "b/.DS_Store", "DICOMDIR")
    put(tmp_path, "README", data=b"Read me, f\xc3\xbcr sure.\n")
    skipped = Skipped()
    found = list(scan([tmp_path], skipped=skipped))
    assert sources(found) == ["a/deep/er/001", "a/é x.PNG", "b/10.png", "b/2.png", "z.jpg"]
    assert sources(scan([tmp_path])) == sources(found)
    assert skipped.total == 6
    assert skipped.counts == {
        "no image by its name (.csv)": 1,
        "no image by its name (.txt)": 1,
        "hidden": 2,
        "a system file": 1,
        "a text file": 1,
    }
    assert ("contents.csv", "no image by its name (.csv)") in skipped.listed


def test_the_journal_of_a_run_among_its_radiographs_is_no_image(tmp_path):
    out = tmp_path / "risks.parquet"
    put(tmp_path, "a/1.png")
    put(folder_of(out), "lock", "listing.jsonl", data=b"")
    skipped = Skipped()
    assert sources(scan([tmp_path], skipped=skipped)) == ["a/1.png"]
    assert skipped.counts == {"a scoring run's own files": 1}


def test_files_that_should_be_images_are_rows(tmp_path):
    put(tmp_path, "empty.dcm", "001", data=b"")
    put(tmp_path, "scan.gif", data=b"GIF89a" + b"\0" * 20)
    put(tmp_path, "noise", data=bytes(range(256)))
    found = {item.ref.source_path: item for item in scan([tmp_path]) if isinstance(item, Refusal)}
    assert {name: item.reason for name, item in found.items()} == {
        "001": Reason.IMAGE_DAMAGED,
        "empty.dcm": Reason.IMAGE_DAMAGED,
        "noise": Reason.NOT_AN_IMAGE,
        "scan.gif": Reason.NOT_AN_IMAGE,
    }
    assert "GIF" in found["scan.gif"].message


def test_a_file_given_by_name_is_never_passed_over(tmp_path):
    put(tmp_path, "notes.txt", data=b"words")
    (item,) = scan([tmp_path / "notes.txt"])
    assert isinstance(item, Refusal)
    assert item.reason == Reason.NOT_AN_IMAGE
    assert "a text file" in item.message


def test_empty_folders_yield_nothing_and_absent_inputs_are_named(tmp_path):
    assert list(scan([tmp_path])) == []
    with pytest.raises(UsageError, match=r"nowhere.* does not exist"):
        scan([tmp_path / "nowhere"])
    with pytest.raises(UsageError, match="no input"):
        scan([])


def test_links_that_lead_back_are_followed_once(tmp_path):
    put(tmp_path / "in", "a/1.png")
    put(tmp_path / "out", "2.png")
    (tmp_path / "in/a/loop").symlink_to(tmp_path / "in")
    (tmp_path / "in/b").symlink_to(tmp_path / "in/a")
    (tmp_path / "in/c").symlink_to(tmp_path / "out")
    (tmp_path / "in/d").symlink_to(tmp_path / "out")
    (tmp_path / "out/back").symlink_to(tmp_path / "out")
    (tmp_path / "in/dead.png").symlink_to(tmp_path / "gone.png")
    skipped = Skipped()
    found = list(scan([tmp_path / "in"], skipped=skipped, follow_links=True))
    assert sources(found) == ["a/1.png", "c/2.png", "dead.png"]
    assert isinstance(found[-1], Refusal)
    assert found[-1].reason == Reason.FILE_UNREADABLE
    assert skipped.total == 4


def test_links_do_not_lead_out_of_the_inputs_unless_asked(tmp_path, monkeypatch):
    put(tmp_path / "in", "a/1.png", data=PNG + b"1")
    put(tmp_path / "other", "2.png", data=PNG + b"2")
    put(tmp_path, "in-private/7.png", "7.png", "notes.txt", data=PNG + b"7")
    for name, target in {"folder": "in-private", "file.png": "7.png", "notes.txt": "notes.txt"}.items():
        (tmp_path / "in" / name).symlink_to(tmp_path / target)
    (tmp_path / "in/up").symlink_to("..")
    (tmp_path / "in/within.png").symlink_to("a/1.png")
    (tmp_path / "in/x.png").symlink_to(tmp_path / "other/2.png")
    inputs = [tmp_path / "in", tmp_path / "other"]
    skipped = Skipped()
    really = Path.open

    def watched(path, *args, **options):
        assert "7" not in path.resolve().name, "what lies outside was opened"
        return really(path, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", watched)
        items = list(scan(inputs, skipped=skipped))
    found = dict(zip(sources(items), items, strict=True))
    refused = {path: item for path, item in found.items() if isinstance(item, Refusal)}
    assert sorted(refused) == ["in/file.png", "in/folder", "in/up"]
    for item in refused.values():
        assert item.reason == Reason.LINK_LEADS_OUT
        assert "--follow-links" in item.message
    assert sorted(set(found) - set(refused)) == ["in/a/1.png", "in/within.png", "in/x.png", "other/2.png"]
    assert dict(skipped.listed) == {"in/notes.txt": "no image by its name (.txt)"}
    followed = sources(scan(inputs, follow_links=True))
    assert {"in/file.png", "in/folder/7.png", "in/up/7.png"} <= set(followed)


def test_links_that_turn_in_a_circle_or_lead_nowhere_are_rows(tmp_path):
    put(tmp_path, "z.png")
    for name, target in {"circle": "circle", "ping": "pong", "pong": "ping", "dead.png": "gone.png"}.items():
        (tmp_path / name).symlink_to(target)
    *rows, sound = scan([tmp_path])
    assert sources(rows) == ["circle", "dead.png", "ping", "pong"]
    for row in rows:
        assert isinstance(row, Refusal)
        assert row.reason == Reason.FILE_UNREADABLE
        assert "where its link leads" in row.message
    assert isinstance(sound, RadiographRef)
    (row,) = scan([tmp_path / "circle"])
    assert isinstance(row, Refusal)


@pytest.fixture
def nobodys_folder():
    """A folder of the user nobody, who reads it while the test runs, should that be root's."""
    with tempfile.TemporaryDirectory() as folder:
        nobody = 65534
        if os.geteuid() == 0:
            os.chown(folder, nobody, nobody)
            os.seteuid(nobody)
        try:
            yield Path(folder)
        finally:
            for path in Path(folder).iterdir():
                path.chmod(0o700)
            if os.getuid() == 0:
                os.seteuid(0)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="the system has no such permissions")
def test_links_into_closed_folders_are_rows(nobodys_folder):
    put(nobodys_folder, "in/z.png", "closed/sub/1.png")
    (nobodys_folder / "in/folder").symlink_to(nobodys_folder / "closed/sub")
    (nobodys_folder / "in/file.png").symlink_to(nobodys_folder / "closed/sub/1.png")
    (nobodys_folder / "closed").chmod(0)
    for follow in (False, True):
        *rows, sound = scan([nobodys_folder / "in"], follow_links=follow)
        assert sources(rows) == ["file.png", "folder"]
        for row in rows:
            assert isinstance(row, Refusal)
            assert row.reason == Reason.FILE_UNREADABLE
            assert "Permission denied" in row.message
        assert isinstance(sound, RadiographRef)
    for link in ("in/folder", "closed"):
        (row,) = scan([nobodys_folder / link])
        assert isinstance(row, Refusal)
        assert row.reason == Reason.FILE_UNREADABLE
    with pytest.raises(UsageError, match=r"cannot be looked at \(Permission denied"):
        scan([nobodys_folder / "closed/sub/1.png"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no pipes")
def test_a_pipe_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    skipped = Skipped()
    assert list(scan([tmp_path], skipped=skipped)) == []
    assert skipped.counts == {"no plain file": 1}
    (item,) = scan([tmp_path / "pipe"])
    assert isinstance(item, Refusal)


def test_a_name_that_is_no_unicode_can_still_be_written_to_a_table(tmp_path):
    name = os.fsencode(tmp_path) + b"/kn\xffe.png"
    try:
        with open(name, "wb") as file:  # noqa: PTH123
            file.write(PNG)
    except OSError:
        pytest.skip("the file system takes Unicode names only")
    (item,) = scan([tmp_path])
    assert sources([item]) == ["kn\\xffe.png"]


def test_overlapping_inputs_give_each_file_once(tmp_path):
    put(tmp_path, "p1/a.png", "p2/b.png")
    skipped = Skipped()
    inputs = [tmp_path / "p2/b.png", tmp_path, tmp_path / "p1", tmp_path / "p1/a.png"]
    assert sources(scan(inputs, skipped=skipped)) == ["p2/b.png", "p1/a.png"]
    assert skipped.counts == {"given twice": 2, "a folder that was read already": 1}


def test_several_inputs_are_shown_from_their_common_folder(tmp_path):
    put(tmp_path, "x/imgs/1.png", "y/imgs/1.png")
    assert sources(scan([tmp_path / "x/imgs", tmp_path / "y/imgs"])) == ["x/imgs/1.png", "y/imgs/1.png"]


def test_ids_come_from_folders_or_a_pattern(tmp_path):
    put(tmp_path, "0012/v00/a.png", "NA/b.png", "c_L.png")
    by_folder = [item.participant_id for item in scan([tmp_path], id_from="folder")]
    assert by_folder == ["0012", "NA", tmp_path.name]
    assert [item.participant_id for item in scan([tmp_path])] == [None, None, None]
    pattern = r"regex:(?P<participant_id>\w+)/(?:(?P<visit>v\d\d)/)?(?P<side>[ab])"
    found = list(scan([tmp_path], id_from=pattern.replace("[ab]", "[L]?")))
    assert isinstance(found[2], Refusal)
    assert found[2].reason == Reason.ID_NOT_FOUND
    first = found[0]
    assert isinstance(first, RadiographRef)
    assert (first.participant_id, first.visit) == ("0012", "v00")
    (plain,) = scan([tmp_path / "c_L.png"], id_from=r"regex:(?P<id>\w)_(?P<side>[LR])")
    assert isinstance(plain, RadiographRef)
    assert (plain.participant_id, plain.side) == ("c", "L")
    with pytest.raises(UsageError, match="pattern"):
        scan([tmp_path], id_from="regex:(")
    with pytest.raises(UsageError, match="folder or regex"):
        scan([tmp_path], id_from="name")


def test_a_second_file_with_the_same_uid_is_flagged(tmp_path, write_dicom):
    write_dicom("d/1.dcm", SOPInstanceUID="1.2.3")
    write_dicom("d/2", SOPInstanceUID="1.2.3", preamble=False)
    write_dicom("d/3.dcm", SOPInstanceUID="1.2.4")
    found = [item.qc_flags for item in scan([tmp_path / "d"])]
    assert found == [(), (flags.DUPLICATE_UID,), ()]
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,side\nd/1.dcm,L\nd/2,R\n")
    assert [item.qc_flags for item in scan([manifest])] == [(), ()]
    manifest.write_text("path,side\nd/1.dcm,L\nd/1.dcm,R\nd/1.dcm,both\n")
    both = (flags.DUPLICATE_UID, flags.DUPLICATE_FILE)
    assert [item.qc_flags for item in scan([manifest])] == [(), (), both]


def test_manifest_rows_become_references(tmp_path):
    put(tmp_path, "imgs/a.png", "imgs/b.png")
    manifest = tmp_path / "list.csv"
    manifest.write_text(
        "path,participant_id,side,spacing_mm,kl_0m,site\nimgs/a.png,0012,L,0.2,3,Leeds\n"
        f"{tmp_path / 'imgs' / 'b.png'},NA,,,,\ngone.dcm,7,R,,,\nimgs\\a.png,8,,,,\n"
    )
    first, second, gone, windows = scan([manifest], side="R")
    assert isinstance(first, RadiographRef)
    assert (first.participant_id, first.side, first.spacing_mm, first.kl_0m) == ("0012", "L", 0.2, 3)
    assert first.extra == {"site": "Leeds"}
    assert isinstance(second, RadiographRef)
    assert (second.participant_id, second.side, second.source_path) == ("NA", "R", "imgs/b.png")
    assert isinstance(gone, Refusal)
    assert (gone.reason, gone.ref.participant_id) == (Reason.FILE_UNREADABLE, "7")
    assert sources([windows]) == ["imgs/a.png"]


def test_an_unreadable_folder_is_a_row(tmp_path, monkeypatch):
    put(tmp_path, "closed/a.png", "open/b.png")
    really = os.scandir

    def scandir(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return really(path)

    monkeypatch.setattr(os, "scandir", scandir)
    closed, opened = scan([tmp_path])
    assert isinstance(closed, Refusal)
    assert closed.reason == Reason.FILE_UNREADABLE
    assert sources([opened]) == ["open/b.png"]


@given(st.binary(max_size=300))
def test_sniffing_any_bytes_never_raises(head):
    sniff(head)
    describe(head)
    sop_instance_uid(head)


def test_copies_and_files_listed_twice_are_flagged(tmp_path):
    noise = PNG + bytes(range(256)) * 99
    other = bytearray(noise)
    other[len(noise) // 2] ^= 1
    put(tmp_path, "a.png", "b/copy.png", data=noise)
    put(tmp_path, "c.png", data=bytes(other))
    assert [item.qc_flags for item in scan([tmp_path])] == [(), (flags.DUPLICATE_FILE,), ()]
    manifest = tmp_path / "m.csv"
    manifest.write_text("path,side\na.png,L\na.png,R\na.png,L\n")
    assert [item.qc_flags for item in scan([manifest])] == [(), (), (flags.DUPLICATE_FILE,)]


@pytest.mark.parametrize(
    "folder",
    [
        *("$RECYCLE.BIN/S-1-5-21", "#recycle/P2", "@Recycle", "@eaDir/k.png", "lost+found"),
        *("~snapshot/hourly.0", "System Volume Information", "RECYCLER", "#snapshot/daily", "__MACOSX"),
    ],
)
def test_what_was_deleted_is_not_scored(tmp_path, folder):
    put(tmp_path, "P1/k_R.png", f"{folder}/k_R.png")
    skipped = Skipped()
    assert sources(scan([tmp_path], skipped=skipped)) == ["P1/k_R.png"]
    assert skipped.counts == {"a system folder": 1}


def test_the_content_goes_before_the_suffix(tmp_path):
    names = ["9015402.R", "IMG.DB", "SMITH.M", "scan.MAT"]
    put(tmp_path, *names)
    put(tmp_path, "script.r", "notes.db", data=b"x <- 1")
    assert sources(scan([tmp_path])) == names


def test_an_archive_is_a_row_that_says_to_unpack_it(tmp_path):
    put(tmp_path, "more.dcm.gz", "old.tgz", data=b"\x1f\x8b" + b"\0" * 30)
    put(tmp_path, "all.zip", data=b"PK\x03\x04" + b"\0" * 30)
    put(tmp_path, "table.csv.gz", data=b"\x1f\x8b" + b"\0" * 30)
    found = list(scan([tmp_path]))
    assert sources(found) == ["all.zip", "more.dcm.gz", "old.tgz"]
    for item in found:
        assert isinstance(item, Refusal)
        assert "unpack it" in item.message


def test_a_folder_that_holds_a_manifest_says_so(tmp_path):
    put(tmp_path, "a.png")
    put(tmp_path, "list.csv", data=b"path,side\na.png,L\n")
    put(tmp_path, "ages.csv", data=b"id,age\n1,61\n")
    skipped = Skipped()
    assert sources(scan([tmp_path], skipped=skipped)) == ["a.png"]
    assert dict(skipped.listed)["list.csv"].startswith("a manifest that was not used: give it as the input")
    assert dict(skipped.listed)["ages.csv"] == "no image by its name (.csv)"


def test_a_spreadsheet_is_to_be_saved_as_csv(tmp_path):
    put(tmp_path, "list.xlsx", data=b"PK\x03\x04")
    with pytest.raises(UsageError, match="save it as 'CSV UTF-8'"):
        scan([tmp_path / "list.xlsx"])


def test_what_is_passed_over_is_counted_in_full_and_listed_a_thousand_times_at_most() -> None:
    skipped = Skipped()
    for number in range(1002):
        skipped.add(f"{number}.txt", "a text")
    assert (skipped.total, len(skipped.listed), skipped.listed[-1]) == (1002, 1000, ("999.txt", "a text"))
