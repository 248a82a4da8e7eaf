"""``--futures``: each knee's latents, now and in every sampled future, and its forecast picture, as HDF5."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from kneerisk_engines.files import written_whole

from kneerisk.errors import UsageError
from kneerisk.marks import MARK
from kneerisk.records import FloatArray, ForecastPicture, KneeScore
from kneerisk.scoring.outputs.table import replace_with
from kneerisk.storage import writing

FORMAT = 1


class FuturesKeeper:
    """Keeps a small file a knee while the run is on, as a kill would tear a big one; gathers them at last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, knees: Sequence[tuple[int, KneeScore, ForecastPicture]]) -> None:
        """Some knees' arrays; each file is complete or absent."""
        for index, score, forecast in knees:
            self._write(index, score, forecast.decoded)

    def _write(self, index: int, score: KneeScore, forecast: FloatArray) -> None:
        prediction, crop = score.prediction, score.prediction.crop
        if prediction.latent_now is None or prediction.latent_12m is None:
            raise ValueError("futures need a predictor that keeps latents")
        attributes = {
            "participant_id": crop.participant_id or "",
            "visit": crop.ref.visit or "",
            "side": crop.side,
            "source_path": crop.ref.source_path,
            "input_sha256": crop.input_sha256,
            "image_index": index,
            "risk_12m": score.risk_12m,
            "risk_12m_basis": score.risk_12m_basis,
            "risk_12m_image": score.risk_12m_image,
            "risk_12m_sum": score.risk_12m_sum,
        }
        path = self._folder / f"{_name(index, crop.side)}.npz"
        aside = path.with_suffix(".new")
        with writing(path):
            self._folder.mkdir(parents=True, exist_ok=True)
            with aside.open("wb") as stream:
                np.savez(
                    stream,
                    latent_now=prediction.latent_now,
                    latent_12m=prediction.latent_12m,
                    forecast=forecast,
                    p_12m=prediction.p_12m,
                    attributes=np.array(json.dumps(attributes)),
                )
            replace_with(aside, path)

    def gather(self, out: Path, run: Mapping[str, Any], scored: Iterable[tuple[int, str]]) -> None:
        """Write ``out``: /knees/<image index>_<side>/{latent_now, latent_12m, forecast, p_12m}.

        ``latent_now`` [C, h, w], ``latent_12m`` [N, C, h, w], ``forecast`` [S, S] in 0..1 (the first future,
        decoded, in equalised greys, right-knee frame), ``p_12m`` [N, 5]: all float32.
        Attributes say which knee it is, and its risks.

        Args:
            out: ends in .h5; replaced if it is there.
            run: what was asked, for the file to say.
            scored: image index and side of each knee of the table.  A knee that was not scored again keeps
                what a finished run's ``out`` has of it.

        Raises:
            StorageError: the disk does not take it; nothing is left of the file.
        """
        with writing(out):
            out.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(out) as aside, aside.open("w+b", buffering=0) as stream:
                disk = _Disk(stream)
                try:
                    self._gather(disk, run, out, scored)
                finally:
                    disk.raise_what_failed()

    def _gather(
        self, disk: _Disk, run: Mapping[str, Any], before: Path, scored: Iterable[tuple[int, str]]
    ) -> None:
        import h5py

        with ExitStack() as opened:
            file = opened.enter_context(h5py.File(disk, "w"))
            file.attrs["format"] = FORMAT
            file.attrs["note"] = "generated forecasts; research use only, not a diagnosis"
            file.attrs["made_by"] = MARK
            file.attrs["run"] = json.dumps(dict(run))
            knees = file.create_group("knees")
            finished = None
            for name in (_name(index, side) for index, side in scored):
                disk.raise_what_failed()
                path = self._folder / f"{name}.npz"
                if not path.exists():
                    if finished is None:
                        finished = opened.enter_context(h5py.File(before))
                    finished.copy(f"knees/{name}", knees, name)
                    continue
                with np.load(path) as arrays:
                    knee = knees.create_group(name)
                    knee.attrs.update(json.loads(str(arrays["attributes"])))
                    for array in ("latent_now", "latent_12m", "forecast", "p_12m"):
                        knee.create_dataset(array, data=arrays[array], compression="gzip", compression_opts=1)


def _name(index: int, side: str) -> str:
    return f"{index:09d}_{side}"


def check_futures(path: Path, run: Mapping[str, Any]) -> None:
    """UsageError where a file is not the futures of the finished run that is gone on with."""
    import h5py

    try:
        with h5py.File(path) as file:
            found = json.loads(file.attrs["run"])
    except (OSError, KeyError, ValueError) as error:
        raise UsageError(
            f"{path} is not the futures of the finished run: name the file that it wrote, or score with "
            "--overwrite"
        ) from error
    if found != json.loads(json.dumps(dict(run))):
        raise UsageError(
            f"{path} holds the futures of another run: name the file of this one, or score with --overwrite"
        )


class _Disk:
    """A file as HDF5 wants it, that takes all that is written even when the disk does not.

    HDF5 crashes where a write fails as it closes.  So the first failure is kept for
    :meth:`raise_what_failed`, and what is written after it is lost with the file.
    """

    def __init__(self, stream: FileIO) -> None:
        self._stream = stream
        self._failed: OSError | None = None

    def raise_what_failed(self) -> None:
        """Raise the first failure, if there was one."""
        if self._failed is not None:
            raise self._failed

    def seek(self, offset: int, whence: int = 0) -> int:
        """As a file does."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """As a file does."""
        return self._stream.tell()

    def read(self, size: int = -1) -> bytes:
        """As a file does."""
        return self._stream.read(size)

    def readinto(self, buffer: memoryview) -> int:
        """As a file does; zeros stand for what the disk did not take."""
        found = self._stream.read(len(buffer))
        buffer[:] = found.ljust(len(buffer), b"\0")
        return len(buffer)

    def write(self, content: bytes) -> int:
        """Write all of it, or keep the failure."""

        def act() -> int:
            left = memoryview(content)
            while left:
                left = left[self._stream.write(left) :]
            return len(content)

        return self._tried(act, len(content))

    def truncate(self, size: int) -> int:
        """Cut or lengthen, or keep the failure."""
        return self._tried(lambda: self._stream.truncate(size), size)

    def flush(self) -> None:
        """Nothing: the stream has no buffer."""

    def _tried(self, act: Callable[[], int], answer: int) -> int:
        if self._failed is None:
            try:
                return act()
            except OSError as error:
                self._failed = error
        return answer
