"""What a run is asked to do, checked when it is made."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal

from kneerisk_engines.files import sha256_file

from kneerisk.errors import UsageError
from kneerisk.places.place import is_remote, place, url_of
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.shards import Shard

if TYPE_CHECKING:
    from kneerisk.method.recalibration import Recalibration


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Which networks, how they run, and how the future is sampled."""

    stack: str = "compact"
    backend: str = "auto"
    engine_policy: Literal["require", "build", "fallback"] | None = None
    """Where a verified TensorRT engine is missing; ``None``: fall back with ``auto``, else require."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str | None = None
    """``cpu``, or a GPU such as ``cuda:0``; ``None``: the backend's own."""
    steps: int | None = None
    """``None``: the stack's own (``stack.yaml``)."""
    samples: int | None = None
    seed: int = 0
    upscale: bool = False

    def __post_init__(self) -> None:
        for name, least in (("steps", 1), ("samples", 1), ("seed", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise UsageError(f"--{name} must be at least {least}; got {value}")


def default_workers() -> int:
    """As many as CPUs, up to four: more only wait for the disk or the networks."""
    return min(4, os.cpu_count() or 1)


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How the run goes, and what it writes."""

    out: Path = Path("risks.parquet")
    resume: bool = False
    overwrite: bool = False
    retry_failed: bool = False
    """Score failed rows anew; goes with ``resume``."""
    on_error: Literal["continue", "stop"] = "continue"
    shard: Shard = field(default_factory=Shard)
    runner: Literal["local", "ray"] = "local"
    """Who scores: this machine, or the nodes of a Ray cluster."""
    ray_address: str | None = None
    """``HOST:PORT`` or ``auto``; ``None``: ``RAY_ADDRESS``, else this machine's."""
    limit: int | None = None
    """Only the first images of the shard."""
    workers: int = field(default_factory=default_workers)
    """Threads that read files; with a cluster, of each of its servers."""
    timeout: float | None = 120.0
    """Seconds a file may take to read; ``None``: for ever."""
    batch_size: int = 16
    """Knees that go through the networks together; no row depends on it."""
    calibration: Path | None = None
    """A file of ``kneerisk calibrate`` for ``risk_12m``."""
    bom: bool = False
    """Start a CSV with a byte-order mark, so that Excel reads it as UTF-8."""
    previews: Path | None = None
    futures: Path | None = None
    dicom_sr: Path | None = None
    """Folder of DICOM structured reports, one for each image."""
    dicom_sc: Path | None = None
    """Folder of DICOM secondary captures, one for each knee."""
    run_report: Path | None = None
    pseudonymise: Path | None = None
    """A file with the key by which participants' ids are replaced."""

    def __post_init__(self) -> None:
        from kneerisk.scoring.outputs.table import format_of

        object.__setattr__(self, "out", place(self.out))
        for name in ("previews", "futures", "run_report", "dicom_sr", "dicom_sc"):
            given = getattr(self, name)
            if given is not None and is_remote(place(given)):
                option = name.replace("_", "-")
                raise UsageError(
                    f"--{option} writes to this machine alone: name a folder or file, and copy it"
                )
        format_of(self.out)
        if self.bom and format_of(self.out) != "csv":
            raise UsageError(f"--bom marks a .csv, and --out is {self.out.name}: leave it out")
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume keeps an earlier run and --overwrite throws it away: give one of the two"
            )
        if self.retry_failed and self.overwrite:
            raise UsageError("--retry-failed keeps the other rows and --overwrite none: give one of the two")
        if self.ray_address is not None and self.runner != "ray":
            raise UsageError("--ray-address goes with --runner ray: give both, or neither")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"--limit must be at least 1; got {self.limit}")
        if self.workers < 1:
            raise UsageError(f"--workers must be at least 1; got {self.workers}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size must be at least 1; got {self.batch_size}")
        if self.timeout is not None and not self.timeout > 0:
            raise UsageError(f"--timeout must be above 0 seconds; got {self.timeout}")
        if self.futures is not None and self.futures.suffix.lower() not in (".h5", ".hdf5"):
            raise UsageError(f"--futures writes HDF5: end {self.futures.name} in .h5")
        if self.run_report is not None and self.run_report.suffix.lower() != ".json":
            raise UsageError(f"--run-report writes JSON: end {self.run_report.name} in .json")

    @property
    def resumes(self) -> bool:
        """Whether an earlier run's rows are kept."""
        return self.resume or self.retry_failed


def check_places(inputs: InputSettings, run: RunSettings, more: Mapping[str, Path] | None = None) -> None:
    """Look, before any work, at where a run is to write.

    Args:
        inputs: what it reads.
        run: what it writes.
        more: what else is written of it, by the names that a person knows.

    Raises:
        UsageError: two outputs are one place, an output is an input or another table's metadata, or is there
            and is not to be replaced.
    """
    from kneerisk.records import RUN_SUFFIX
    from kneerisk.scoring.outputs.places import places_of, refuse_clashes

    beside = {"--futures": run.futures, "--run-report": run.run_report}
    files = {name: place for name, place in beside.items() if place is not None}
    folders = {"--previews": run.previews, "--dicom-sr": run.dicom_sr, "--dicom-sc": run.dicom_sc}
    folder = {name: place for name, place in folders.items() if place is not None}
    if run.pseudonymise is not None and (run.dicom_sr or run.dicom_sc):
        raise UsageError(
            "--pseudonymise with --dicom-sr or --dicom-sc: those name the radiograph's own patient and "
            "study; leave one of them out"
        )
    named = [*places_of("--out", run.out), *files.items(), *folder.items(), *(more or {}).items()]
    if run.previews is not None:
        page = "index.html" if run.shard.count == 1 else f"index-{run.shard.index}.html"
        named.append(("the page of --previews", run.previews / page))
    read = [path for path in inputs.inputs if not path.is_dir()]
    read += [path for path in (run.pseudonymise, run.calibration) if path is not None]
    refuse_clashes(named, read, run.out.with_name(run.out.name + RUN_SUFFIX))
    for name, path in named:
        if _is_no_utf8(path):
            raise UsageError(
                f"{name} {str(path)!a}: the name of a folder there is no UTF-8: choose another place"
            )
        if path.is_dir() and name not in folder:
            raise UsageError(f"{name} {path} is a folder: name a file")
    for name, path in folder.items():
        if path.exists() and not path.is_dir():
            raise UsageError(f"{name} {path} is a file: name a folder")
    for name, path in files.items():
        if path.exists() and not (run.overwrite or run.resumes):
            raise UsageError(f"{name} {path} exists: write over it with --overwrite, or choose another name")


def fingerprint(
    inputs: InputSettings,
    run: RunSettings,
    provenance: Mapping[str, Any],
    recalibration: Recalibration | None = None,
) -> dict[str, Any]:
    """Everything but the images that rows depend on, as plain JSON: runs resume only where it is the same."""
    calibration = None
    if run.calibration is not None and recalibration is not None:
        calibration = {
            "population": recalibration.population,
            "date": recalibration.date,
            "sha256": sha256_file(run.calibration),
        }
    return {
        **{key: value for key, value in asdict(inputs).items() if key != "inputs"},
        "inputs": [url_of(p) if is_remote(p) else str(p.absolute()) for p in inputs.inputs],
        "manifests": {str(p.absolute()): sha256_file(p) for p in inputs.inputs if _is_table(p)},
        **provenance,
        "calibration": calibration,
        "shard": str(run.shard),
        "previews": run.previews is not None,
        "futures": run.futures is not None,
        **({"dicom": True} if run.dicom_sr is not None or run.dicom_sc is not None else {}),
    }


def shareable(fingerprint: Mapping[str, Any]) -> dict[str, Any]:
    """A fingerprint as an output may hold it: inputs by their last names and one hash, no path of a machine.

    What was made shareable before, is left as it is: two of them are the same where the fingerprints are.
    """
    if "inputs_sha256" in fingerprint:
        return dict(fingerprint)
    paths = [str(path) for path in fingerprint.get("inputs", ())]
    tables = fingerprint.get("manifests", {})
    return {
        **fingerprint,
        "inputs": [_last_name(path) for path in paths],
        "inputs_sha256": hashlib.sha256("\n".join(paths).encode("utf-8", "surrogateescape")).hexdigest(),
        "manifests": [[_last_name(path), digest] for path, digest in tables.items()],
    }


def _is_no_utf8(place: Path) -> bool:
    try:
        str(place).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _last_name(path: str) -> str:
    """In letters that any file can hold: bytes that are no UTF-8 become escapes."""
    return PurePath(path).name.encode("utf-8", "backslashreplace").decode("utf-8")


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq") and path.is_file()
