"""What becomes of damaged compressed images: ``python benchmarks/damage.py [--each 50] [--clean DIR]``.

Simulated films of several looks, cut to smaller ones, and the crops of examples/cohort are written in nine
formats.  Of each, files are damaged in their compressed data: bits flipped, a hole of zeros, or bytes lost.
All are scored, and each damaged one is told by what it came to: refused, scored with a flag that its sound
copy has not, or scored with none.  Harm is a risk that moved by more than 0.02, or another grade, without
a flag.  ``--clean`` reads undamaged images, and scores none: a refusal or a flag of damage is a false alarm.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import polars as pl

ROOT = Path(__file__).parents[1]
if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))

from pydicom import Dataset, dcmread, dcmwrite, uid  # noqa: E402
from pydicom.dataset import FileMetaDataset  # noqa: E402
from pydicom.encaps import encapsulate  # noqa: E402

import kneerisk  # noqa: E402
from kneerisk.records import RadiographRef, Refusal  # noqa: E402

MOVED = 0.02
"""Of ``risk_12m_image``, from which on a damage counts as one that misled."""
FORMATS = {
    "jpeg": None,
    "png": None,
    "tiff": None,
    "dicom-jpeg": uid.JPEGBaseline8Bit,
    "dicom-jpeg-12": uid.JPEGExtended12Bit,
    "dicom-jpeg-lossless": uid.JPEGLosslessSV1,
    "dicom-jpeg-ls": uid.JPEGLSLossless,
    "dicom-jpeg-2000": uid.JPEG2000,
    "dicom-rle": uid.RLELossless,
}
SUFFIX = {"jpeg": ".jpg", "png": ".png", "tiff": ".tif"}
FILMS = (0, 2, 4)
"""Seeds of simulated films, of three looks."""

Pixels = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class Sound:
    """An undamaged picture, 12 bits deep."""

    name: str
    pixels: Pixels
    side: str | None
    spacing_mm: float | None


def sound_pictures() -> Iterator[Sound]:
    """Three simulated films, and three of the example crops."""
    from kneerisk.simulate.radiograph import simulate_radiograph

    for seed in FILMS:
        film = simulate_radiograph(seed, spacing_mm=0.3)
        yield Sound(f"film{seed}", film.pixels >> max(film.look.bits - 12, 0), None, film.spacing_mm)
    for path in sorted((ROOT / "examples" / "cohort").glob("*/*L.dcm"))[:3]:
        yield Sound(path.stem, dcmread(path).pixel_array.astype(np.uint16) << 4, "L", None)


def write(sound: Sound, form: str, path: Path) -> tuple[int, int]:
    """Write a picture in one of the ``FORMATS``; where its compressed data begin and end in the file."""
    eight = (sound.pixels >> 4).astype(np.uint8)
    syntax = FORMATS[form]
    if syntax is None:
        if form == "jpeg":
            data = bytes(imagecodecs.jpeg8_encode(eight, level=92))
        elif form == "png":
            data = bytes(imagecodecs.png_encode(sound.pixels << 4))
        else:
            out = io.BytesIO()
            import tifffile

            tifffile.imwrite(out, sound.pixels, compression="lzw", rowsperstrip=32)
            data = out.getvalue()
        path.write_bytes(data)
        return 200, len(data)
    pixels = eight if syntax == uid.JPEGBaseline8Bit else sound.pixels
    frame = encode(pixels, syntax)
    path.write_bytes(dicom(sound, pixels, frame, syntax))
    start = path.read_bytes().index(frame[:64])
    return start + 60, start + len(frame)


def encode(pixels: npt.NDArray[Any], syntax: uid.UID) -> bytes:
    """One compressed frame of an 8-bit or 12-bit picture."""
    if syntax == uid.JPEGBaseline8Bit:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=92))
    if syntax == uid.JPEGExtended12Bit:
        return bytes(imagecodecs.jpeg8_encode(pixels, level=92, bitspersample=12))
    if syntax == uid.JPEGLosslessSV1:
        return bytes(imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=1, bitspersample=12))
    if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
        return bytes(imagecodecs.jpegls_encode(pixels, level=2 * (syntax == uid.JPEGLSNearLossless)))
    if syntax in (uid.JPEG2000, uid.JPEG2000Lossless):
        quality = {"level": 48} if syntax == uid.JPEG2000 else {"level": 0, "reversible": True}
        return bytes(imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=12, **quality))
    from kneerisk.simulate.dicom import _rle

    return _rle(pixels)


def dicom(sound: Sound, pixels: npt.NDArray[Any], frame: bytes, syntax: uid.UID) -> bytes:
    """A DX file around pixels; ``frame`` is compressed where the syntax is."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = uid.DigitalXRayImageStorageForPresentation
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid(entropy_srcs=[sound.name])
    ds.Modality, ds.PatientID = "DX", sound.name
    if sound.side is not None:
        ds.ImageLaterality = sound.side
    if sound.spacing_mm is not None:
        ds.ImagerPixelSpacing = [f"{sound.spacing_mm:.6g}"] * 2
    ds.Rows, ds.Columns = pixels.shape
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 0
    ds.BitsAllocated = 8 * pixels.dtype.itemsize
    ds.BitsStored = 8 if pixels.dtype == np.uint8 else 12
    ds.HighBit = ds.BitsStored - 1
    ds.add_new(
        "PixelData",
        "OB" if syntax.is_encapsulated or ds.BitsAllocated == 8 else "OW",
        encapsulate([frame]) if syntax.is_encapsulated else frame + b"\0" * (len(frame) % 2),
    )
    out = io.BytesIO()
    dcmwrite(out, ds, enforce_file_format=True)
    return out.getvalue()


def damage(data: bytes, start: int, stop: int, rng: np.random.Generator) -> bytes:
    """Flip one to eight bits, or lay a hole of 16 to 4096 bytes (zeros, or nothing at all), somewhere."""
    harmed = bytearray(data)
    if rng.random() < 0.5:
        for place in rng.integers(start, stop, size=int(rng.choice([1, 2, 8]))):
            harmed[place] ^= 1 << int(rng.integers(8))
        return bytes(harmed)
    size = min(int(2 ** rng.uniform(4, 12)), (stop - start) // 4)
    place = int(rng.integers(start, stop - size))
    if rng.random() < 0.7:
        harmed[place : place + size] = bytes(size)
    else:
        del harmed[place : place + size]
    return bytes(harmed)


def write_all(home: Path, each: int, seed: int) -> None:
    """``home/FORMAT/NAME/sound.*`` and ``…/0000.*``, the damaged ones."""
    pictures = list(sound_pictures())
    for number, form in enumerate(FORMATS):
        for index, sound in enumerate(pictures):
            folder = home / form / (f"{sound.name}{sound.side or ''}")
            folder.mkdir(parents=True)
            suffix = SUFFIX.get(form, ".dcm")
            # The side of a crop that is no DICOM file stands at the end of its name.
            end = f"_{sound.side}" if sound.side else ""
            path = folder / f"sound{end}{suffix}"
            start, stop = write(sound, form, path)
            for copy in range(index, each, len(pictures)):
                rng = np.random.default_rng((seed, number, copy))
                harmed = damage(path.read_bytes(), start, stop, rng)
                (folder / f"{copy:04d}{end}{suffix}").write_bytes(harmed)


def told(home: Path) -> pl.DataFrame:
    """A row a damaged file: its format, what became of it, and how far its knees' answers moved."""
    table = kneerisk.score(home, id_from="folder")
    files: dict[str, list[dict[str, Any]]] = {}
    for row in table.iter_rows(named=True):
        files.setdefault(row["source_path"], []).append(row)
    soundly = {str(Path(path).parent): rows for path, rows in files.items() if "sound" in Path(path).name}
    found = []
    for path, rows in files.items():
        if "sound" in Path(path).name:
            continue
        before = {row["side"]: row for row in soundly[str(Path(path).parent)]}
        ok = [row for row in rows if row["status"] == "ok"]
        known = {flag for row in before.values() for flag in row["qc_flags"]}
        flags = {flag for row in rows for flag in row["qc_flags"]} - known
        moved = [abs(row["risk_12m_image"] - before[row["side"]]["risk_12m_image"]) for row in ok]
        graded = any(row["kl_now"] != before[row["side"]]["kl_now"] for row in ok)
        whole = len(ok) == len([row for row in before.values() if row["status"] == "ok"])
        found.append(
            {
                "format": path.split("/")[0],
                "path": path,
                "scored": bool(ok),
                "flagged": bool(ok) and (bool(flags) or not whole),
                "moved": max(moved, default=0.0) > MOVED,
                "graded": graded,
                "said": ", ".join(sorted(flags))
                or next((row["message"] for row in rows if not ok), "")
                or "",
            }
        )
    return pl.DataFrame(found)


def summary(found: pl.DataFrame) -> list[str]:
    """The table for a page: a line a format, and one for all."""
    head = (
        "format                files  refused  scored  flagged  moved  grade  moved, no flag  grade, no flag"
    )
    lines = [head]
    parts = [*((form, found.filter(format=form)) for form in FORMATS), ("all", found)]
    for name, part in parts:
        quiet = part.filter(~pl.col("flagged"))
        counts = (
            part.height,
            part.height - part["scored"].sum(),
            part["scored"].sum(),
            part["flagged"].sum(),
            part["moved"].sum(),
            part["graded"].sum(),
            quiet["moved"].sum(),
            quiet["graded"].sum(),
        )
        widths = (5, 7, 6, 7, 5, 5, 14, 14)
        lines.append(f"{name:20s}  " + "  ".join(f"{n:>{w}d}" for n, w in zip(counts, widths, strict=True)))
    return lines


def alarms(folder: Path, most: int, seed: int) -> list[str]:
    """Undamaged images: how many were refused, and for what, or flagged."""
    from kneerisk.radiograph.decode.read import read
    from kneerisk.radiograph.sources.scan import scan
    from kneerisk.radiograph.sources.skipped import Skipped

    found: Counter[str] = Counter()
    refs = list(scan((folder,), id_from=None, side=None, skipped=Skipped()))
    chosen = np.random.default_rng(seed).permutation(len(refs))[:most]
    for index in chosen:
        ref = refs[index]
        assert isinstance(ref, RadiographRef)
        found["images"] += 1
        answer = read(ref)
        if isinstance(answer, Refusal):
            found[f"refused: {answer.reason}"] += 1
        else:
            found.update(f"flagged: {flag}" for flag in answer.qc_flags)
    return [f"{name:40s} {count:6d}" for name, count in sorted(found.items())]


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=50, help="damaged files of each format")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", type=Path, help="a CSV with a row a damaged file")
    parser.add_argument("--clean", type=Path, help="a folder of undamaged images, instead")
    parser.add_argument("--most", type=int, default=500, help="images of --clean")
    given = parser.parse_args()
    if given.clean is not None:
        print("\n".join(alarms(given.clean, given.most, given.seed)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        write_all(home, given.each, given.seed)
        found = told(home)
    if given.table is not None:
        found.write_csv(given.table)
    print("\n".join(summary(found)))


if __name__ == "__main__":
    main()
