"""Tiny releases in OAI's and MOST's layouts, oddities included; what crops them needs no network."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kneerisk_train.prepare.crops import Cropped
from kneerisk_train.prepare.prepare import PrepareSettings, prepare
from kneerisk_train.prepare.release import ReleaseImage

SIZE = 224
PA = "Bilateral PA Fixed Flexion Knee"


@dataclass(frozen=True)
class FakeSetup:
    """Crops without looking: both knees of a radiograph; the file's text may ask for a refusal."""

    root: Path
    read: list[str]

    @contextmanager
    def open(self) -> Iterator[Callable[[ReleaseImage], list[Cropped]]]:
        yield self.crop

    def crop(self, image: ReleaseImage) -> list[Cropped]:
        self.read.append(image.path)
        content = (self.root / image.path).read_bytes()
        if b"wrong-view" in content:
            return [Cropped(None, "wrong-view", "the header says that the view is lateral")]
        asked = ("R", "L") if image.side in ("both", None) else (image.side,)
        knees = []
        for side in asked:
            if side == "L" and b"implant" in content:
                knees.append(Cropped("L", "implant", "the joint looks like metal"))
                continue
            seed = int(hashlib.sha256(f"{image.path}{side}".encode()).hexdigest()[:8], 16)
            pixels = np.random.default_rng(seed).integers(0, 256, (SIZE, SIZE), np.uint8)
            mirror = side == "L"
            knees.append(
                Cropped(
                    side,  # type: ignore[arg-type]
                    pixels=zlib.compress(pixels.tobytes()),
                    spacing_mm=(0.43, 0.43),
                    to_source=(-2.0, 0.0, 900.0, 0.0, 2.0, 10.0)
                    if mirror
                    else (2.0, 0.0, 5.0, 0.0, 2.0, 10.0),
                    input_sha256=hashlib.sha256(content).hexdigest(),
                    qc_flags=("near-border",) if mirror else (),
                )
            )
        return knees


def dicom_like(path: Path, note: str = "") -> None:
    """A file that begins as DICOM does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(128) + b"DICM" + note.encode() + path.as_posix()[-40:].encode())


@pytest.fixture
def fake_dicom() -> Callable[..., None]:
    return dicom_like


@pytest.fixture
def oai(tmp_path: Path) -> Path:
    """Two participants over three visits, with a hand, missing codes, several projects, name cases."""
    root = tmp_path / "oai"
    rows = {"00m": [], "12m": [], "24m": []}  # type: dict[str, list[str]]

    def examine(
        visit: str, release: str, who: str, date: str, barcode: str, what: str = PA, note: str = ""
    ) -> None:
        folder = f"{release}/{who}/{date}/{barcode}"
        rows[visit].append(f"{folder},{who},{date},0166{barcode},{what}")
        dicom_like(root / visit / folder / "001", note)

    examine("00m", "0.C.2", "9000001", "20040601", "00000101")
    examine("00m", "0.C.2", "9000001", "20040601", "00000102", "PA Right Hand")
    examine("00m", "0.C.2", "9000002", "20040701", "00000201", note="implant")
    examine("12m", "1.C.2", "9000001", "20050601", "00000111")
    examine("12m", "1.C.2", "9000001", "20050601", "00000119")  # taken again; the first one was read
    examine("24m", "3.C.2", "9000001", "20060601", "00000121", note="wrong-view")
    rows["24m"].append(f"3.C.2/9000002/20060701/00000221,9000002,20060701,016600000221,{PA}")  # not here
    for visit, lines in rows.items():
        text = "\n".join(["Folder,ParticipantID,StudyDate,Barcode,SeriesDescription", *lines])
        (root / visit / "contents.csv").write_text(text)
    dicom_like(root / "00m/0.C.2/9000009/20040801/00000901/001")  # not listed
    (root / "00m/notes.txt").write_text("read me")
    head = "ID|SIDE|READPRJ|VERSION|{0}BARCDBU|{0}XRKL"
    (root / "kxr_sq_bu00.txt").write_text(
        "\n".join(
            [
                head.format("V00"),
                "9000001|1: Right|15|0.6|016600000101|1",
                "9000001|1: Right|37|0.6|016600000101|2",
                "9000001|2: Left|37|0.6|016600000101|3",
                "9000001|2: Left|15|0.6|016600000101|.A: Not Expected",
                "9000002|1|15|0.6|016600000201|0",
                "9000002|2|15|0.6|016600000201|4",
                "9000003|1|15|0.6|016600000301|2",
            ]
        )
    )
    (root / "kXR_SQ_BU01.txt").write_text(
        "\n".join(
            [
                head.format("V01"),
                "9000001|1|15|0.6|016600000119|2",
                "9000001|2|15|0.6|016600000119|3",
                "9000001|2|15|0.6|016600000119|4",
                "9000001|2|15|0.6|016600000119|4",
            ]
        )
    )
    (root / "KXR_SQ_BU03.TXT").write_text(
        "\n".join([head.format("V03"), "9000001|1|15|0.6|016600000121|.", "9000002|1|15|0.6|016600000221|1"])
    )
    (root / "AllClinical00.txt").write_text(
        "ID|V00AGE|P02SEX|P01BMI|V00WOMTSR|V00WOMTSL|P01INJR|P01INJL|P01KSURGR|P01KSURGL\n"
        "9000001|61|2: Female|27.5|10|.: Missing Form/Incomplete Workbook|1: Yes|0: No|0: No|0: No\n"
        "9000002|55|1: Male|30|0|0|.|.|0: No|0: No\n"
    )
    (root / "Enrollees.txt").write_text("ID|V00SITE\n9000001|C\n9000002|D\n")
    (root / "Outcomes99.txt").write_text(
        "id|V99ERKBLRP|V99ELKBLRP|V99ERKRPCF|V99ELKRPCF|V99ERKDAYS|V99ELKDAYS\n"
        "9000001|0: No|0: No| |3: Replacement adjudicated, confirmed|.|350\n"
        "9000002|0: No|1: Yes|.|.|.|.\n"
    )
    return root


@pytest.fixture
def most(tmp_path: Path) -> Path:
    """Two participants over MOST's visits, with beam angles, a lateral view and every code."""
    root = tmp_path / "most"
    for visit in ("V0", "V1", "V2", "V3"):
        dicom_like(root / f"MB00001_XRAY/{visit}/1/PA10/1.dcm")
    dicom_like(root / "MB00001_XRAY/V0/1/PA05/1.dcm")
    dicom_like(root / "MB00001_XRAY/V0/1/LATL/1.dcm")
    dicom_like(root / "MI00002_XRAY/V0/1/PA15/1.dcm")
    names = [f"V{v}X{s}KL" for v in (0, 1, 2, 3, 5) for s in "LR"]
    (root / "MOSTV01235XRAY.txt").write_text(
        "\t".join(["MOSTID", *names])
        + "\nMB00001\t0\t1\t1\t1\t1\t8\tX\t2\t9\tP\nMI00002\tS\t4\t\t\t\t\t\t\tZ\t3\n"
    )
    (root / "MOSTV0ENROLL.txt").write_text(
        "MOSTID\tAGE\tSEX\tSITE\tV0BMI\tV0WOTOTR\tV0WOTOTL\tV0LAR\tV0LAL\n"
        "MB00001\t60\t2\tB\t28\t5\t6\t1\t0\nMI00002\t70\t1\tI\t31\t.\t.\t.\t.\n"
    )
    return root


Prepare = Callable[..., dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Prepare:
    """Function (kind, root, out=…, stop_after=…, **settings) → summary; fake crops."""

    def go(
        kind: Any,
        root: Path,
        out: Path,
        stop_after: int | None = None,
        read: list[str] | None = None,
        **more: Any,
    ) -> dict[str, Any]:
        settings = PrepareSettings(kind, root, out, cropped=kind == "folder", workers=1, **more)
        folder = root.parent if root.is_file() else root
        steps = prepare(settings, FakeSetup(folder, [] if read is None else read))
        for count, step in enumerate(steps):
            if isinstance(step, dict):
                return step
            if count == stop_after:
                steps.close()  # type: ignore[attr-defined]
                return {}
        raise AssertionError("no summary")

    return go


@pytest.fixture
def write_crop() -> Callable[[Path, int], None]:
    """Function that writes a 224 px PNG drawn from a seed."""

    def write(path: Path, seed: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        smooth = cv2.GaussianBlur(
            np.random.default_rng(seed).random((SIZE, SIZE)).astype(np.float32), (0, 0), 6
        )
        levels = (smooth - smooth.min()) / np.ptp(smooth) * 255
        assert cv2.imwrite(str(path), levels.astype(np.uint8))

    return write
