"""``--futures``: each knee's latents, now and in every sampled future, and its forecast picture, as HDF5."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kneerisk.records import FloatArray, KneeScore
from kneerisk.scoring.outputs.table import replace_with

FORMAT = 1


class FuturesKeeper:
    """Keeps a small file a knee while the run is on, as a kill would tear a big one; gathers them at last."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, knees: Sequence[tuple[int, KneeScore, FloatArray]]) -> None:
        """Some knees' arrays; each file is complete or absent."""
        for index, score, forecast in knees:
            self._write(index, score, forecast)

    def _write(self, index: int, score: KneeScore, forecast: FloatArray) -> None:
        prediction, crop = score.prediction, score.prediction.crop
        if prediction.latent_now is None or prediction.latent_12m is None:
            raise ValueError("futures need a predictor that keeps latents")
        self._folder.mkdir(parents=True, exist_ok=True)
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
        path = self._place(index, crop.side)
        aside = path.with_suffix(".new")
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

    def _place(self, index: int, side: str) -> Path:
        return self._folder / f"{index:09d}_{side}.npz"

    def gather(self, out: Path, run: Mapping[str, Any], scored: Iterable[tuple[int, str]]) -> None:
        """Write ``out``: /knees/<image index>_<side>/{latent_now, latent_12m, forecast, p_12m}.

        ``latent_now`` [C, h, w], ``latent_12m`` [N, C, h, w], ``forecast`` [S, S] in 0..1 (the first future,
        decoded, in equalised greys, right-knee frame), ``p_12m`` [N, 5]: all float32.
        Attributes say which knee it is, and its risks.

        Args:
            out: the file.
            run: the run's settings, kept as JSON.
            scored: image index and side of every knee of the table; others that an earlier run kept stay out.
        """
        import h5py

        out.parent.mkdir(parents=True, exist_ok=True)
        aside = out.with_name(out.name + ".new")
        with h5py.File(aside, "w") as file:
            file.attrs["format"] = FORMAT
            file.attrs["note"] = "generated forecasts; research use only, not a diagnosis"
            file.attrs["run"] = json.dumps(dict(run))
            knees = file.create_group("knees")
            for index, side in scored:
                path = self._place(index, side)
                with np.load(path) as arrays:
                    knee = knees.create_group(path.stem)
                    knee.attrs.update(json.loads(str(arrays["attributes"])))
                    for name in ("latent_now", "latent_12m", "forecast", "p_12m"):
                        knee.create_dataset(name, data=arrays[name], compression="gzip", compression_opts=1)
        replace_with(aside, out)
