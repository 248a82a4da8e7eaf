"""Knee crops → grade posteriors and landmarks, now and at twelve months, with a stack's networks.

crop → encoder → z0 ─┬→ classifier_now → P(KL now), averaged over the stack's zooms; landmarks now
                     └→ diffusion (the seed's noise) → ẑ12 of each future → classifier_12m → P(KL 12 m)

The same knee gives the same prediction whatever stands beside it: the noise is the seed's, and every
network always runs on micro-batches of one fixed size, the last one padded by repeating its last item.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from kneerisk.errors import Reason, UsageError
from kneerisk.method.diffusion import draw_noise, sample
from kneerisk.method.exposure import equalise
from kneerisk.method.views import UPSCALE, mean_posterior, resized, upscaled, zoomed
from kneerisk.records import FloatArray, KneeCrop, KneePrediction, Refusal

Run = Callable[[Mapping[str, npt.NDArray[Any]]], Mapping[str, npt.NDArray[Any]]]
"""One component: named arrays [B, …] in, named arrays [B, …] out."""
Stage = Callable[[str], AbstractContextManager[object]]

UNUSUAL_APPEARANCE = "unusual-appearance"


class Predictor(Protocol):
    """What the chain asks of a predictor: a stack's networks, or a stand-in."""

    def views(self, crop: KneeCrop) -> FloatArray:
        """What the encoder will see of a crop, [V, S, S]; called in threads, before its batch is full."""

    def predict(
        self, crops: Sequence[KneeCrop], views: Sequence[FloatArray]
    ) -> list[KneePrediction | Refusal]:
        """One result a crop, in order, from the crops' views; called in threads."""

    def decode(self, latents: FloatArray) -> FloatArray:
        """Latents [B, C, h, w] → pictures [B, S, S] in 0..1."""


@dataclass(frozen=True, slots=True)
class ForecastSettings:
    """How the future is sampled."""

    steps: int
    samples: int = 1
    seed: int = 0
    upscale: bool = False
    """Test-time upscaling: see :func:`upscaled`."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"--steps must be at least 1; got {self.steps}")
        if self.samples < 1:
            raise UsageError(f"--samples must be at least 1; got {self.samples}")
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or above; got {self.seed}")


class StackPredictor:
    """Runs a stack's components over crops.

    Args:
        components: ``encoder``, a U-Net, ``classifier_now``, ``classifier_12m`` and, to decode, ``decoder``.
        settings: how the future is sampled.
        forecaster: the U-Net's name among the components.
        novelty_threshold: above it a knee is flagged ``unusual-appearance``; ``None`` flags nothing.
        micro_batch: items a network call holds, always; a property of the stack, not of the machine.
        grade_zooms: of the crop, at which the grade now is read; a property of the stack too.
        crop_size: pixels a side that the networks see; ``None`` where crops have that size already.
        keep_latents: keep z0 and ẑ12 in each prediction (previews and futures need them).
        stage: a clock for each named stage, entered around its work.
    """

    def __init__(
        self,
        components: Mapping[str, Run],
        settings: ForecastSettings,
        *,
        forecaster: str = "unet",
        novelty_threshold: float | None = None,
        micro_batch: int = 8,
        grade_zooms: Sequence[float] = (1.0,),
        crop_size: int | None = None,
        keep_latents: bool = False,
        stage: Stage = lambda name: nullcontext(),
    ) -> None:
        self._components = components
        self._settings = settings
        self._unet = components[forecaster]
        self._novelty_threshold = novelty_threshold
        self._micro_batch = micro_batch
        self._closer_looks = tuple(zoom for zoom in grade_zooms if zoom != 1)
        self._crop_size = crop_size
        self._keep_latents = keep_latents
        self._stage = stage

    def views(self, crop: KneeCrop) -> FloatArray:
        """The crop as the encoder sees it, float32 [V, S, S] in 0..1: as it is, then at each closer look."""
        pixels = crop.pixels if self._crop_size is None else resized(crop.pixels, self._crop_size)
        standard = equalise(upscaled(pixels) if self._settings.upscale else pixels)
        return np.stack([standard, *(zoomed(standard, zoom) for zoom in self._closer_looks)])

    def predict(
        self, crops: Sequence[KneeCrop], views: Sequence[FloatArray]
    ) -> list[KneePrediction | Refusal]:
        """One prediction a crop, in order; a Refusal where a network's answer is not finite.

        Args:
            crops: the knees.
            views: :meth:`views` of each.
        """
        if not crops:
            return []
        with self._stage("encode"):
            seen = np.stack(views, axis=1)  # [V, N, S, S]
            encoded = self._run("encoder", {"radiograph": seen.reshape(-1, 1, *seen.shape[2:])})
        latent, *others = np.split(encoded["latent"], len(seen))
        with self._stage("forecast"):
            future = self._forecast(latent)
        with self._stage("classify"):
            now = self._run("classifier_now", {"latent": latent})
            looks = [now["kl"], *(self._run("classifier_now", {"latent": z})["kl"] for z in others)]
            p_now = mean_posterior(looks)
            later = self._run("classifier_12m", {"latent": future})
        n, samples = len(crops), self._settings.samples
        p_12m = later["kl"].reshape(n, samples, -1)
        landmarks_12m = later["landmarks"].reshape(n, samples, -1, 2).mean(axis=1)
        futures = future.reshape(n, samples, *future.shape[1:])
        results: list[KneePrediction | Refusal] = []
        for i, crop in enumerate(crops):
            prediction = KneePrediction(
                crop=self._flagged(crop, float(encoded["novelty"][i])),
                p_now=p_now[i],
                p_12m=_distribution(p_12m[i]),
                landmarks_now=self._to_crop(now["landmarks"][i], crop),
                landmarks_12m=self._to_crop(landmarks_12m[i], crop),
                latent_now=latent[i] if self._keep_latents else None,
                latent_12m=futures[i] if self._keep_latents else None,
            )
            results.append(prediction if _is_finite(prediction) else _not_finite(crop))
        return results

    def decode(self, latents: FloatArray) -> FloatArray:
        """Latents float32 [B, C, h, w] → pictures float32 [B, S, S], clipped to 0..1."""
        return np.clip(self._run("decoder", {"latent": latents})["radiograph"][:, 0], 0.0, 1.0)

    def _to_crop(self, landmarks: FloatArray, crop: KneeCrop) -> FloatArray:
        """Landmarks in the networks' input pixels → crop pixels."""
        seen = self._crop_size or crop.pixels.shape[0]
        centres = landmarks + 0.5
        if self._settings.upscale:
            centres = (centres + (UPSCALE - 1) * seen / 2) / UPSCALE
        return np.asarray(centres * (crop.pixels.shape[0] / seen) - 0.5, dtype=np.float32)

    def _forecast(self, latent: FloatArray) -> FloatArray:
        """z0 [N, …] → ẑ12 [N · samples, …], a knee's futures side by side."""
        samples = self._settings.samples
        current = np.repeat(latent, samples, axis=0)
        drawn = draw_noise(self._settings.seed, samples, latent.shape[1:])
        noise = np.tile(drawn, (len(latent), 1, 1, 1))

        def velocity(noisy: FloatArray, condition: FloatArray, time: FloatArray) -> FloatArray:
            arrays = {"noisy": noisy, "current": condition, "time": time}
            return np.asarray(self._unet(arrays)["velocity"], dtype=np.float32)

        parts = [
            sample(velocity, self._padded(current[s]), self._padded(noise[s]), self._settings.steps)[
                : _length(s)
            ]
            for s in self._micro_batches(len(current))
        ]
        return np.concatenate(parts)

    def _run(self, name: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        """Run a component over arrays of any length, in micro-batches of the one size."""
        length = len(next(iter(arrays.values())))
        parts = []
        for piece in self._micro_batches(length):
            outputs = self._components[name](
                {key: self._padded(array[piece]) for key, array in arrays.items()}
            )
            parts.append({key: array[: _length(piece)] for key, array in outputs.items()})
        return {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}

    def _micro_batches(self, length: int) -> Iterator[slice]:
        for start in range(0, length, self._micro_batch):
            yield slice(start, min(start + self._micro_batch, length))

    def _padded(self, array: FloatArray) -> FloatArray:
        missing = self._micro_batch - len(array)
        return array if missing == 0 else np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])

    def _flagged(self, crop: KneeCrop, novelty: float) -> KneeCrop:
        if self._novelty_threshold is None or novelty <= self._novelty_threshold:
            return crop
        return replace(crop, qc_flags=(*crop.qc_flags, UNUSUAL_APPEARANCE))


def _length(piece: slice) -> int:
    return int(piece.stop - piece.start)


def _distribution(p: FloatArray) -> FloatArray:
    """Sums of float32 softmax are off by rounding; the table's sum to one."""
    return np.asarray(p / p.sum(axis=-1, keepdims=True), dtype=np.float32)


def _is_finite(prediction: KneePrediction) -> bool:
    arrays = (prediction.p_now, prediction.p_12m, prediction.landmarks_now, prediction.landmarks_12m)
    return all(np.isfinite(array).all() for array in arrays)


def _not_finite(crop: KneeCrop) -> Refusal:
    return Refusal(
        ref=crop.ref,
        reason=Reason.INTERNAL_ERROR,
        message="the networks gave a value that is not a number; try --precision fp32, and report the file",
        side=crop.side,
        input_sha256=crop.input_sha256,
        sop_instance_uid=crop.sop_instance_uid,
        participant_id=crop.participant_id,
        qc_flags=crop.qc_flags,
    )
