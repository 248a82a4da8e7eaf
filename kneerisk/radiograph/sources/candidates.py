"""Which files are worth a row: what is passed over in folders, and what is refused before it is decoded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kneerisk.errors import Reason
from kneerisk.marks import is_marked
from kneerisk.places.place import is_remote
from kneerisk.places.reach import head_of, remote_at
from kneerisk.radiograph.sources.manifest import SUFFIXES, is_manifest
from kneerisk.radiograph.sources.sniff import HEAD_BYTES, describe, is_ours, is_text, sniff, sop_instance_uid
from kneerisk.records import RUN_SUFFIX, RadiographRef, Refusal

_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".ima"})
IMAGE_SUFFIXES = _DICOM_SUFFIXES | {".png", ".jpg", ".jpeg", ".tif", ".tiff"}
_OTHER_SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *(
            "csv",
            "tsv",
            "txt",
            "md",
            "rst",
            "json",
            "yaml",
            "yml",
            "xml",
            "html",
            "htm",
            "log",
            "ini",
            "cfg",
            "toml",
        ),
        *(
            "pdf",
            "doc",
            "docx",
            "xls",
            "xlsx",
            "ppt",
            "pptx",
            "rtf",
            "parquet",
            "pq",
            "h5",
            "hdf5",
            "npy",
            "npz",
        ),
        *(
            "pkl",
            "mat",
            "rds",
            "rdata",
            "sas7bdat",
            "sav",
            "dta",
            "db",
            "sqlite",
            "py",
            "ipynb",
            "r",
            "m",
            "sh",
        ),
        *("bat", "exe", "md5", "sha1", "sha256", "zip", "gz", "tgz", "bz2", "xz", "7z", "tar", "rar"),
        *("mp4", "avi", "mov", "mkv"),
    )
)
_ARCHIVES = frozenset({".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".tar", ".rar"})
_SYSTEM_FOLDERS = frozenset(
    (
        *("$recycle.bin", "recycler", "recycled", "system volume information", "lost+found", "__macosx"),
        *("#recycle", "@recycle", "@recently-snapshot", "#snapshot", "~snapshot", "@eadir", "@tmp"),
    )
)
"""Recycle bins, snapshots and thumbnails of Windows, Synology, QNAP, NetApp and macOS: what lies there was
deleted, or is a copy."""
_SYSTEM_NAMES = frozenset({"dicomdir", "thumbs.db", "desktop.ini", "__pycache__"})


def shown(path: Path | str) -> str:
    """Write a path as text that any table can hold: bytes that are no UTF-8 become escapes."""
    text = path if isinstance(path, str) else path.as_posix()
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def why_skip(name: str, *, is_folder: bool) -> str | None:
    """Why an entry of a folder is passed over by its name alone."""
    if name.startswith("."):
        return "hidden"
    if name.endswith(RUN_SUFFIX):
        return "a scoring run's own files"
    if is_folder and name.casefold() in _SYSTEM_FOLDERS:
        return "a system folder"
    return "a system file" if name.casefold() in _SYSTEM_NAMES else None


def why_skip_file(entry: os.DirEntry[str]) -> str | None:
    """Why a file in a folder is passed over: no image by its content and suffix, or no plain file.

    The content goes first: a file called 9015402.R ends like a script and may be a radiograph. An archive
    may hold radiographs, and is not passed over.
    """
    try:
        mode = entry.stat().st_mode
    except OSError:
        return None  # a link to nothing, or no permission: a row says so
    return why_skip_content(Path(entry.path)) if stat.S_ISREG(mode) else "no plain file"


def why_skip_content(path: Path) -> str | None:
    """Why a plain file or an object is passed over: no image by its content and suffix."""
    suffix = path.suffix.casefold()
    try:
        head = _head(path)
    except OSError:
        return None
    if is_marked(head) or is_ours(head):
        return "a report or picture that kneerisk wrote"
    if suffix in IMAGE_SUFFIXES or sniff(head) is not None:
        return None
    if suffix in SUFFIXES and not is_remote(path) and is_manifest(path):
        return (
            "a manifest that was not used: give it as the input, instead of its folder, for its ids and sides"
        )
    return why_skip_suffix(path.name) or ("a text file" if head and is_text(head) else None)


def why_skip_suffix(name: str) -> str | None:
    """Why a file is passed over by its suffix, where its content is not known to be an image."""
    path = Path(name)
    suffix, inner = path.suffix.casefold(), Path(path.stem).suffix.casefold()
    if suffix in _OTHER_SUFFIXES and (suffix not in _ARCHIVES or inner in _OTHER_SUFFIXES):
        return f"no image by its name ({suffix})"
    return None


def _head(path: Path) -> bytes:
    return head_of(path, HEAD_BYTES)


def uid_of(path: Path) -> str | None:
    """SOPInstanceUID of a DICOM file, from its first bytes; ``None`` where there is none to be read."""
    try:
        head = _head(path)
    except OSError:
        return None
    return sop_instance_uid(head) if sniff(head) == "dicom" else None


def likeness_of(path: Path) -> bytes | None:
    """Size, beginning, middle and end of a file: alike in copies, and in nothing else that a scanner made.

    The middle of an uncompressed picture is its noise, the end of a compressed one depends on all of it.
    """
    try:
        if is_remote(path):
            return remote_at(path).likeness(path, HEAD_BYTES)
        size = path.stat().st_size
        with path.open("rb", buffering=0) as file:
            blocks = [size.to_bytes(8, "little")]
            for start in (0, size // 2, size - HEAD_BYTES):
                file.seek(max(0, start))
                blocks.append(file.read(HEAD_BYTES))
    except OSError:
        return None
    return b"".join(blocks)


def refuse_if_no_image(ref: RadiographRef) -> Refusal | None:
    """Refuse a file that the user named and that cannot be read or is no image."""
    if is_remote(ref.path):
        return refuse_if_damaged(ref)
    try:
        mode = ref.path.stat().st_mode
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else str(error)
        return Refusal(ref, Reason.FILE_UNREADABLE, f"the file cannot be found ({what}); check its path")
    if stat.S_ISDIR(mode):
        return Refusal(ref, Reason.NOT_AN_IMAGE, "this is a folder; give it as an input, or list its files")
    if not stat.S_ISREG(mode):
        return Refusal(ref, Reason.NOT_AN_IMAGE, "this is no plain file but a device, pipe or socket")
    if ref.path.name.casefold() == "dicomdir":
        return Refusal(ref, Reason.NOT_AN_IMAGE, "a DICOMDIR is an index, no image; give its folder instead")
    return refuse_if_damaged(ref)


def refuse_if_damaged(ref: RadiographRef) -> Refusal | None:
    """Refuse a file that does not begin as an image does."""
    try:
        head = _head(ref.path)
    except OSError as error:
        return Refusal(
            ref,
            Reason.FILE_UNREADABLE,
            f"the file cannot be read ({error.strerror}); "
            + (
                "try again later" if is_remote(ref.path) else "check its permissions, or where its link leads"
            ),
        )
    if is_marked(head) or is_ours(head):
        return Refusal(
            ref,
            Reason.NOT_AN_IMAGE,
            "a report or picture that kneerisk wrote; give the radiograph that it was made of",
        )
    if sniff(head) is not None:
        return None
    if not head:
        return Refusal(ref, Reason.IMAGE_DAMAGED, "the file is empty (0 bytes); copy it again")
    kind = describe(head)
    if kind.endswith("archive"):
        return Refusal(
            ref,
            Reason.NOT_AN_IMAGE,
            f"the file is {kind}; unpack it and score what was in it, or leave it out",
        )
    return Refusal(
        ref,
        Reason.NOT_AN_IMAGE,
        f"the file is {kind}; give DICOM, PNG, JPEG or TIFF, or leave it out",
    )
