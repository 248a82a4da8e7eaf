"""What a run is asked to do, checked when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kneerisk_engines.files import sha256_file

from kneerisk.errors import UsageError
from kneerisk.radiograph.settings import InputSettings


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


@dataclass(frozen=True, slots=True)
class Shard:
    """Part ``index`` of ``count``: images index, index + count, … of the scan."""

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.index <= self.count:
            raise UsageError(f"--shard counts from 1: i/n with 1 ≤ i ≤ n; got {self.index}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``"2/8"`` → the second of eight."""
        index, slash, count = text.partition("/")
        if not (slash and index.strip().isdecimal() and count.strip().isdecimal()):
            raise UsageError(f"--shard is written i/n, such as 1/8; got {text!r}")
        return cls(int(index), int(count))

    def holds(self, image_index: int) -> bool:
        """Whether an image of the scan, counted from 0, belongs to this shard."""
        return image_index % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


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
    timeout: float | None = 120.0
    """Seconds a file may take to read; ``None``: for ever."""
    batch_size: int = 16
    """Knees that go through the networks together; no row depends on it."""
    previews: Path | None = None
    futures: Path | None = None
    run_report: Path | None = None

    def __post_init__(self) -> None:
        from kneerisk.scoring.outputs.table import format_of

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
        "inputs": [str(path.absolute()) for path in inputs.inputs],
        "manifests": {str(p.absolute()): sha256_file(p) for p in inputs.inputs if _is_table(p)},
        **provenance,
        "shard": str(run.shard),
        "previews": run.previews is not None,
        "futures": run.futures is not None,
    }


def _is_table(path: Path) -> bool:
    return path.suffix.lower() in (".csv", ".tsv", ".parquet", ".pq") and path.is_file()
