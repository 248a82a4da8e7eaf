"""What a run is asked to do, checked when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kneerisk_engines.files import sha256_file

from kneerisk.errors import UsageError
from kneerisk.places.place import is_remote, place, url_of
from kneerisk.radiograph.settings import InputSettings
from kneerisk.scoring.shards import Shard


@dataclass(frozen=True, slots=True)
class StackSettings:
    """Which networks, how they run, and how the future is sampled."""

    stack: str = "compact"
    backend: str = "auto"
    engine_policy: Literal["require", "build", "fallback"] | None = None
    """Where a verified TensorRT engine is missing; ``None``: fall back with ``auto``, else require."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    device: str = "cpu"
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
    limit: int | None = None
    """Only the first images of the shard."""
    workers: int = field(default_factory=default_workers)
    """Threads that read files."""
    timeout: float | None = None
    """Seconds a file may take to read."""
    batch_size: int = 16
    """Knees that go through the networks together; no row depends on it."""
    previews: Path | None = None
    futures: Path | None = None
    dicom_sr: Path | None = None
    """Folder of DICOM structured reports, one for each image."""
    dicom_sc: Path | None = None
    """Folder of DICOM secondary captures, one for each knee."""
    run_report: Path | None = None

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
        if self.resume and self.overwrite:
            raise UsageError(
                "--resume keeps an earlier run and --overwrite throws it away: give one of the two"
            )
        if self.retry_failed and self.overwrite:
            raise UsageError("--retry-failed keeps the other rows and --overwrite none: give one of the two")
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


def fingerprint(inputs: InputSettings, run: RunSettings, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the images that rows depend on, as plain JSON: runs resume only where it is the same."""
    return {
        **{key: value for key, value in asdict(inputs).items() if key != "inputs"},
        "inputs": [url_of(p) if is_remote(p) else str(p.absolute()) for p in inputs.inputs],
        "manifests": {str(p.absolute()): sha256_file(p) for p in inputs.inputs if _is_table(p)},
        **provenance,
        "shard": str(run.shard),
        "previews": run.previews is not None,
        "futures": run.futures is not None,
        **({"dicom": True} if run.dicom_sr is not None or run.dicom_sc is not None else {}),
    }


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq") and path.is_file()
