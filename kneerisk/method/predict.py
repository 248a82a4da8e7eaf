"""Knee crops → grade posteriors and landmarks, now and at twelve months, with a stack's networks.

crop → encoder → z0 ─┬→ classifier_now → P(KL now), averaged over the stack's zooms; landmarks now
                     └→ diffusion (the seed's noise) → ẑ12 of each future → classifier_12m
                                                               → P(KL at 12 months | KL now)

The same knee gives the same prediction whatever stands beside it: the noise is the seed's, and every
network always runs on micro-batches of one fixed size, the last one padded by repeating its last item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from kneerisk_engines.batches import Run, run_in_batches

from kneerisk.errors import Reason, UsageError
from kneerisk.method.diffusion import draw_noise, sample
from kneerisk.method.exposure import equalise
from kneerisk.method.picture import textured
from kneerisk.method.views import UPSCALE, mean_posterior, resized, upscaled, zoomed
from kneerisk.records import FloatArray, ForecastPicture, KneeCrop, KneePrediction, Refusal, refuse

Stage = Callable[[str], AbstractContextManager[object]]

UNUSUAL_APPEARANCE = "unusual-appearance"
VERY_UNUSUAL_APPEARANCE = "very-unusual-appearance"
VERY_UNUSUAL = 1.5
"""Times the threshold.  Of Chen's val knees, enlarged from half their pixels or squeezed, none is so novel;
of simulated elbows, ankles, hands and hips most are.  Another maker's knees may be: it stays a flag."""


class Predictor(Protocol):
    """What the chain asks of a predictor: a stack's networks, or a stand-in."""

    def views(self, crop: KneeCrop) -> FloatArray:
        """What the encoder will see of a crop, [V, S, S]; called in threads, before its batch is full."""

    def predict(
        self, crops: Sequence[KneeCrop], views: Sequence[FloatArray]
    ) -> list[KneePrediction | Refusal]:
        """One result a crop, in order, from the crops' views; called in threads."""

    def pictures(self, predictions: Sequence[KneePrediction]) -> list[ForecastPicture]:
        """Of each prediction's first sampled future."""


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


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a stack's networks say of N knees, S futures each; float32."""

    latent: FloatArray
    """[N, C, h, w]: z0."""
    novelty: FloatArray
    """[N]: how unlike the training radiographs each looks."""
    future: FloatArray
    """[N, S, C, h, w]: the sampled ẑ12."""
    p_now: FloatArray
    """[N, 5]: P(KL now)."""
    moves: FloatArray
    """[N, S, 5, 5]: P(KL j at 12 months | KL i now) of each future."""
    p_12m: FloatArray
    """[N, S, 5]: P(KL at 12 months) of each: ``p_now`` moved so."""
    landmarks_now: FloatArray
    """[N, 16, 2] (x, y), pixels of what the encoder saw."""
    landmarks_12m: FloatArray
    """The same at twelve months, mean over the futures."""


class ForwardPass:
    """The forward pass of a stack, whoever asks: scoring, publishing, measuring, verification.

    Args:
        components: ``encoder``, ``unet``, ``classifier_now``, ``classifier_12m`` and, to decode, ``decoder``.
        micro_batch: items a network call holds, always; a property of the stack, not of the machine.
        grade_zooms: of the crop, at which the grade now is read; a property of the stack too.
        stage: a clock for each named stage, entered around its work.
    """

    def __init__(
        self,
        components: Mapping[str, Run],
        *,
        micro_batch: int = 8,
        grade_zooms: Sequence[float] = (1.0,),
        stage: Stage = lambda name: nullcontext(),
    ) -> None:
        self._components = components
        self._micro_batch = micro_batch
        self._closer_looks = tuple(zoom for zoom in grade_zooms if zoom != 1)
        self._stage = stage

    def views(self, pixels: FloatArray) -> FloatArray:
        """A crop [S, S] as the encoder sees it, float32 [V, S, S] in 0..1: as it is, then each closer look.

        Args:
            pixels: of any exposure, float32 or uint16, bone bright.
        """
        standard = equalise(pixels)
        return np.stack([standard, *(zoomed(standard, zoom) for zoom in self._closer_looks)])

    def forecast(self, views: FloatArray, settings: ForecastSettings) -> Forecast:
        """Everything of N knees from their :meth:`views`, float32 [N, V, S, S]."""
        with self._stage("encode"):
            encoded = [self.encode(views[:, look]) for look in range(views.shape[1])]
        latent = encoded[0]["latent"]
        with self._stage("forecast"):
            future = self.futures(latent, settings)
        with self._stage("classify"):
            now = self.grade([look["latent"] for look in encoded])
            later = self.grade_futures(future)
        return Forecast(
            latent=latent,
            novelty=encoded[0]["novelty"],
            future=future,
            p_now=now["kl"],
            moves=later["transition"],
            p_12m=np.einsum("ni,nsij->nsj", now["kl"], later["transition"]),
            landmarks_now=now["landmarks"],
            landmarks_12m=later["landmarks"].mean(axis=1),
        )

    def encode(self, radiographs: FloatArray) -> dict[str, FloatArray]:
        """Equalised radiographs float32 [N, S, S] → ``latent`` [N, C, h, w] and ``novelty`` [N]."""
        return self._run("encoder", {"radiograph": radiographs[:, None]})

    def grade(self, looks: Sequence[FloatArray]) -> dict[str, FloatArray]:
        """Latents [N, C, h, w] of each look → ``kl`` [N, 5], their mean, and the first's ``landmarks``."""
        read = [self._run("classifier_now", {"latent": latent}) for latent in looks]
        return read[0] | {"kl": mean_posterior([look["kl"] for look in read])}

    def futures(self, latent: FloatArray, settings: ForecastSettings) -> FloatArray:
        """z0 [N, C, h, w] → the sampled ẑ12 [N, samples, C, h, w], all knees from the seed's noise."""
        count, samples = len(latent), settings.samples
        current = np.repeat(latent, samples, axis=0)
        drawn = draw_noise(settings.seed, samples, latent.shape[1:])

        def velocity(noisy: FloatArray, condition: FloatArray, time: FloatArray) -> FloatArray:
            arrays = {"noisy": noisy, "current": condition, "time": time}
            return np.asarray(self._run("unet", arrays)["velocity"], dtype=np.float32)

        future = sample(velocity, current, np.tile(drawn, (count, 1, 1, 1)), settings.steps)
        return future.reshape(count, samples, *latent.shape[1:])

    def grade_futures(self, futures: FloatArray) -> dict[str, FloatArray]:
        """ẑ12 [N, S, C, h, w] → ``transition`` [N, S, 5, 5] and ``landmarks`` [N, S, 16, 2]."""
        count, samples = futures.shape[:2]
        later = self._run("classifier_12m", {"latent": futures.reshape(-1, *futures.shape[2:])})
        return {name: values.reshape(count, samples, *values.shape[1:]) for name, values in later.items()}

    def decode(self, latents: FloatArray) -> FloatArray:
        """Latents float32 [N, C, h, w] → pictures float32 [N, S, S], clipped to 0..1."""
        return np.clip(self._run("decoder", {"latent": latents})["radiograph"][:, 0], 0.0, 1.0)

    def _run(self, name: str, arrays: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return run_in_batches(self._components[name], arrays, self._micro_batch)


class StackPredictor:
    """Crops → predictions, by a stack's forward pass.

    Args:
        forward: the networks.
        settings: how the future is sampled.
        novelty_threshold: above it a knee is flagged ``unusual-appearance``, above :data:`VERY_UNUSUAL`
            times it ``very-unusual-appearance`` too; ``None`` flags nothing.
        crop_size: pixels a side that the networks see; ``None`` where crops have that size already.
        keep_latents: keep z0 and ẑ12 in each prediction (previews and futures need them).
    """

    def __init__(
        self,
        forward: ForwardPass,
        settings: ForecastSettings,
        *,
        novelty_threshold: float | None = None,
        crop_size: int | None = None,
        keep_latents: bool = False,
    ) -> None:
        self._forward = forward
        self._settings = settings
        self._novelty_threshold = novelty_threshold
        self._crop_size = crop_size
        self._keep_latents = keep_latents

    def views(self, crop: KneeCrop) -> FloatArray:
        """The crop as the encoder sees it, float32 [V, S, S] in 0..1: as it is, then at each closer look."""
        pixels = crop.pixels if self._crop_size is None else resized(crop.pixels, self._crop_size)
        return self._forward.views(upscaled(pixels) if self._settings.upscale else pixels)

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
        forecast = self._forward.forecast(np.stack(views), self._settings)
        results: list[KneePrediction | Refusal] = []
        for i, crop in enumerate(crops):
            prediction = KneePrediction(
                crop=self._flagged(crop, float(forecast.novelty[i])),
                p_now=forecast.p_now[i],
                moves=forecast.moves[i],
                p_12m=_distribution(forecast.p_12m[i]),
                landmarks_now=self._to_crop(forecast.landmarks_now[i], crop),
                landmarks_12m=self._to_crop(forecast.landmarks_12m[i], crop),
                novelty=float(forecast.novelty[i]),
                latent_now=forecast.latent[i] if self._keep_latents else None,
                latent_12m=forecast.future[i] if self._keep_latents else None,
            )
            results.append(prediction if _is_finite(prediction) else _not_finite(crop))
        return results

    def pictures(self, predictions: Sequence[KneePrediction]) -> list[ForecastPicture]:
        """The pictures of some predictions' first futures, in the frame of the encoder's input.

        Raises:
            ValueError: the predictor does not keep latents.
        """
        if not predictions:
            return []
        latents: list[FloatArray] = []
        for prediction in predictions:
            if prediction.latent_now is None or prediction.latent_12m is None:
                raise ValueError("pictures need a predictor that keeps latents")
            latents += (prediction.latent_now, prediction.latent_12m[0])
        drawn = self._forward.decode(np.stack(latents))
        return [
            ForecastPicture(
                decoded=decoded,
                textured=textured(
                    self.views(p.crop)[0],
                    decoded_now,
                    decoded,
                    self._from_crop(p.landmarks_now, p.crop),
                    self._from_crop(p.landmarks_12m, p.crop),
                ),
            )
            for p, decoded_now, decoded in zip(predictions, drawn[::2], drawn[1::2], strict=True)
        ]

    def _from_crop(self, landmarks: FloatArray, crop: KneeCrop) -> FloatArray:
        """The inverse of :meth:`_to_crop`."""
        seen = self._crop_size or crop.pixels.shape[0]
        centres = (landmarks + 0.5) * (seen / crop.pixels.shape[0])
        if self._settings.upscale:
            centres = centres * UPSCALE - (UPSCALE - 1) * seen / 2
        return np.asarray(centres - 0.5, dtype=np.float32)

    def _to_crop(self, landmarks: FloatArray, crop: KneeCrop) -> FloatArray:
        """Landmarks in the networks' input pixels → crop pixels."""
        seen = self._crop_size or crop.pixels.shape[0]
        centres = landmarks + 0.5
        if self._settings.upscale:
            centres = (centres + (UPSCALE - 1) * seen / 2) / UPSCALE
        return np.asarray(centres * (crop.pixels.shape[0] / seen) - 0.5, dtype=np.float32)

    def _flagged(self, crop: KneeCrop, novelty: float) -> KneeCrop:
        if self._novelty_threshold is None or novelty <= self._novelty_threshold:
            return crop
        very = novelty > VERY_UNUSUAL * self._novelty_threshold
        found = (UNUSUAL_APPEARANCE, VERY_UNUSUAL_APPEARANCE) if very else (UNUSUAL_APPEARANCE,)
        return replace(crop, qc_flags=(*crop.qc_flags, *found))


def _distribution(p: FloatArray) -> FloatArray:
    """Sums of float32 softmax are off by rounding; the table's sum to one."""
    return np.asarray(p / p.sum(axis=-1, keepdims=True), dtype=np.float32)


def _is_finite(prediction: KneePrediction) -> bool:
    arrays = (prediction.p_now, prediction.moves, prediction.landmarks_now, prediction.landmarks_12m)
    return all(np.isfinite(array).all() for array in arrays)


def _not_finite(crop: KneeCrop) -> Refusal:
    message = "the networks gave a value that is not a number; try --precision fp32, and report the file"
    return refuse(crop, Reason.INTERNAL_ERROR, message)
