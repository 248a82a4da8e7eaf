"""A chain with no networks and no images: inputs are small text files, and their bytes decide their fate.

Run as a script it scores a folder into a table, so that tests can kill it.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kneerisk.errors import Reason
from kneerisk.method.calibration import Calibration, Logistic
from kneerisk.method.predict import ForecastSettings, ForwardPass, StackPredictor
from kneerisk.method.recalibration import Recalibration
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import CarriedKind, KneeCrop, Radiograph, RadiographRef, Refusal
from kneerisk.scoring.chain import Rooms
from kneerisk.scoring.clock import Clock
from kneerisk.scoring.cohort import recalibration_for
from kneerisk.scoring.run import Progress, Summary, score_images
from kneerisk.scoring.settings import RunSettings, fingerprint

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

S = 16
LATENT = (2, 2, 2)
PROVENANCE = {
    "stack": "fake",
    "stack_sha256": "0" * 64,
    "backend": "numpy",
    "precision": "fp32",
    "engine_key": None,
    "seed": 3,
    "steps": 2,
    "samples": 4,
    "upscale": False,
    "kneerisk_version": "test",
}
CALIBRATION = Calibration(
    population="a made-up population",
    rates=(0.04, 0.1, 0.07, 0.08, 0.0),
    hazard=Logistic(0.5, (-2.0, -2.0, -2.0, -2.0), 0.5, "a guess"),
)


def _softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return (e / e.sum(axis=1, keepdims=True)).astype(np.float32)


def encoder(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    x = arrays["radiograph"][:, 0]
    blocks = x.reshape(len(x), 2, S // 2, 2, S // 2).mean(axis=(2, 4))
    latent = np.stack([blocks, 1 - blocks], axis=1).astype(np.float32)
    novelty = x.std(axis=(1, 2))
    latent[novelty == 0] = np.nan
    return {"latent": latent, "novelty": novelty}


def unet(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    time = arrays["time"][:, None, None, None]
    return {"velocity": ((0.9 * arrays["noisy"] - arrays["current"]) * time).astype(np.float32)}


def classifier(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    flat = arrays["latent"].reshape(len(arrays["latent"]), -1)
    weights = np.sin(np.arange(flat.shape[1] * 5, dtype=np.float32)).reshape(-1, 5)
    points = np.linspace(0, S - 1, 32, dtype=np.float32).reshape(1, 16, 2) + flat[:, :1, None]
    return {"kl": _softmax(4 * flat @ weights), "landmarks": points.astype(np.float32)}


def later_classifier(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    read = classifier(arrays)
    rows = np.triu(np.ones((5, 5), np.float32)) * read["kl"][:, None]
    return {"transition": rows / rows.sum(axis=2, keepdims=True), "landmarks": read["landmarks"] + 1}


def decoder(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"radiograph": np.repeat(np.repeat(arrays["latent"][:, :1], S // 2, axis=2), S // 2, axis=3)}


COMPONENTS = {
    "encoder": encoder,
    "unet": unet,
    "classifier_now": classifier,
    "classifier_12m": later_classifier,
    "decoder": decoder,
}


def scan(folder: Path) -> Iterator[RadiographRef | Refusal]:
    for path in sorted(folder.glob("**/*")):
        if path.is_dir():
            continue
        ref = RadiographRef(
            path, path.relative_to(folder).as_posix(), participant_id=path.stem, extra={"site": "A"}
        )
        if path.suffix == ".bad":
            yield Refusal(ref, Reason.NOT_AN_IMAGE, "no image")
        else:
            yield ref


def _crash_once(path: Path) -> None:
    mark = path.with_suffix(".crashed")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


HARM = {
    b"crash": lambda path: os.kill(os.getpid(), signal.SIGSEGV),
    b"crash-once": _crash_once,
    b"kill": lambda path: os.kill(os.getpid(), signal.SIGKILL),
    b"sleep": lambda path: time.sleep(600),
    b"spin": lambda path: re.match(r"(a+)+$", "a" * 60 + "b"),  # for years, and never lets the lock go
    b"swell": lambda path: bytearray(4 << 30),
    b"fill": lambda path: np.ones(540 << 20, np.uint8),
    b"print": lambda path: [os.write(stream, b"a warning of a decoder") for stream in (1, 2)],
}
"""What only a process of its own survives."""


def read(ref: RadiographRef) -> Radiograph | Refusal:
    content = ref.path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    word = content.split(b" ")[0]
    if word == b"hang":
        time.sleep(30)
    if word in HARM:
        HARM[word](ref.path)
    if word == b"raise":
        raise RuntimeError("a decoder fell over")
    if word == b"damaged":
        return Refusal(ref, Reason.IMAGE_DAMAGED, "the image ends too early", input_sha256=digest)
    pixels = np.random.default_rng(int(digest[:8], 16)).random((S, S), dtype=np.float32)
    if word == b"poison":
        pixels[:] = 0.25  # the fake encoder gives NaN for it
    if word == b"break":
        pixels = pixels[:-1]  # the predictor cannot stack it
    return Radiograph(ref, pixels, digest, spacing_mm=(0.5, 0.25), spacing_source="PixelSpacing")


def localise(radiograph: Radiograph) -> list[KneeCrop | Refusal]:
    if radiograph.ref.path.read_bytes().startswith(b"empty"):
        return [
            Refusal(radiograph.ref, Reason.NO_KNEE_FOUND, "no knee", input_sha256=radiograph.input_sha256)
        ]
    sides = "RL" if radiograph.ref.path.read_bytes().startswith(b"both") else "R"
    return [
        KneeCrop(
            ref=radiograph.ref,
            side="R" if side == "R" else "L",
            pixels=radiograph.pixels if side == "R" else radiograph.pixels[:, ::-1].copy(),
            to_source=np.array([[2, 0, 10], [0, 2, 20]], np.float32),
            input_sha256=radiograph.input_sha256,
            spacing_mm=radiograph.spacing_mm,
            spacing_source=radiograph.spacing_source,
            sop_instance_uid=_uid(radiograph.ref.path),
            participant_id=radiograph.ref.participant_id,
        )
        for side in sides
    ]


def _uid(path: Path) -> str:
    return f"1.2.3.{1 + int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16)}"


def origin(path: Path) -> Dataset | None:
    """A header that reports and captures can refer to; ``None`` where the file is gone."""
    from pydicom.dataset import Dataset

    if not path.exists():
        return None
    found = Dataset()
    found.SOPClassUID, found.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", _uid(path)
    found.StudyInstanceUID, found.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    found.PatientID, found.PatientName, found.PatientSex = path.stem, "", ""
    found.PatientBirthDate, found.StudyDate, found.StudyTime = "", "20200101", "101112"
    found.AccessionNumber, found.StudyID, found.ReferringPhysicianName = "", "", ""
    found.Modality, found.Rows, found.Columns = "DX", S, S
    found.SpecificCharacterSet = "ISO_IR 192"
    return found


def rooms(
    pause: float = 0.0,
    keep_latents: bool = False,
    parallel: int = 2,
    recalibration: Recalibration | None = None,
) -> Rooms:
    def paused_read(ref: RadiographRef) -> Radiograph | Refusal:
        time.sleep(pause)
        return read(ref)

    settings = ForecastSettings(PROVENANCE["steps"], PROVENANCE["samples"], PROVENANCE["seed"])
    predictor = StackPredictor(ForwardPass(COMPONENTS), settings, keep_latents=keep_latents)
    return Rooms(
        *(paused_read, localise, predictor, CALIBRATION, PROVENANCE, parallel),
        recalibration=recalibration,
        origin=origin,
    )


@contextmanager
def opened(pause: float, clock: Clock) -> Iterator[Rooms]:
    """As a node of a cluster opens them."""
    yield rooms(pause, keep_latents=True)


def run(
    folder: Path,
    settings: RunSettings,
    pause: float = 0.0,
    parallel: int = 2,
    carried: Mapping[str, CarriedKind] | None = None,
    **changed: object,
) -> list[Progress | Summary]:
    recalibration = recalibration_for(settings.calibration, PROVENANCE["stack"])
    marks = fingerprint(InputSettings((folder,)), settings, PROVENANCE, recalibration) | changed
    keep = any(wanted is not None for wanted in (settings.previews, settings.futures, settings.dicom_sc))
    opened = rooms(pause, keep, parallel, recalibration)
    return list(score_images(scan(folder), {}, opened, settings, marks, Clock(), carried))


if __name__ == "__main__":
    run(
        Path(sys.argv[1]), RunSettings(Path(sys.argv[2]), resume=True, batch_size=2), pause=float(sys.argv[3])
    )
