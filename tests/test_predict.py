"""The forward pass, with networks whose answers are known: which latent is read by which head, and how."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kneerisk_engines.batches import run_in_batches

from kneerisk.method.calibration import Calibration, Logistic
from kneerisk.method.picture import textured
from kneerisk.method.predict import ForecastSettings, ForwardPass, StackPredictor
from kneerisk.method.score import score
from kneerisk.method.views import mean_posterior
from kneerisk.records import KneeCrop, KneePrediction, RadiographRef, Refusal

SIZE, LATENT = 16, (1, 2, 2)
STEP = 100.0
"""By which the fake U-Net's forecast exceeds the present latent."""


def encoder(arrays):
    """The latent is the mean of each quarter, times ten; novelty the spread."""
    x = arrays["radiograph"]
    half = SIZE // 2
    latent = 10 * x.reshape(len(x), 1, 2, half, 2, half).mean(axis=(3, 5)).astype(np.float32)
    return {"latent": latent, "novelty": x.std(axis=(1, 2, 3)).astype(np.float32)}


def unet(arrays):
    """v whose forecast is z0 + STEP exactly: x = alpha z_t - sigma v."""
    angle = (0.5 * np.pi * arrays["time"])[:, None, None, None]
    wanted = arrays["current"] + STEP
    return {"velocity": ((np.cos(angle) * arrays["noisy"] - wanted) / np.sin(angle)).astype(np.float32)}


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return (e / e.sum(axis=-1, keepdims=True)).astype(np.float32)


def points(latent):
    return (np.zeros((len(latent), 16, 2)) + latent.mean(axis=(1, 2, 3))[:, None, None]).astype(np.float32)


def now(arrays):
    """P(KL) that leans on the latent's first value."""
    level = arrays["latent"][:, 0, 0, 0]
    return {"kl": softmax(level[:, None] * np.linspace(-0.3, 0.3, 5)), "landmarks": points(arrays["latent"])}


def later(arrays):
    """A knee whose latent lies beyond STEP / 2 rises by one grade for certain; another stays."""
    latent = arrays["latent"]
    risen = (latent.mean(axis=(1, 2, 3)) > STEP / 2)[:, None, None]
    up = np.eye(5, k=1)
    up[4, 4] = 1
    return {"transition": np.where(risen, up, np.eye(5)).astype(np.float32), "landmarks": points(latent)}


NETWORKS = {"encoder": encoder, "unet": unet, "classifier_now": now, "classifier_12m": later}
CALIBRATION = Calibration("nobody", (0.1,) * 4 + (0.0,), Logistic(1.0, (-3, -2, -1, 0), 0.5, "a guess"))


def crop(size=SIZE, kl=None, seed=0):
    pixels = np.random.default_rng(seed).random((size, size), dtype=np.float32)
    pixels[: size // 2] += 1.0
    ref = RadiographRef(Path("a"), "a", kl_0m=kl)
    return KneeCrop(ref, "R", pixels / 2, np.eye(2, 3, dtype=np.float32), "0" * 64)


def predict(one, settings=None, zooms=(1.0,), crop_size=SIZE):
    predictor = StackPredictor(
        ForwardPass(NETWORKS, micro_batch=2, grade_zooms=zooms),
        settings or ForecastSettings(2),
        crop_size=crop_size,
        keep_latents=True,
    )
    (found,) = predictor.predict([one], [predictor.views(one)])
    assert isinstance(found, KneePrediction)
    return found


def test_the_later_grade_is_read_off_the_forecast_and_the_present_one_off_the_radiograph():
    found = predict(crop())
    np.testing.assert_allclose(found.latent_12m[0], found.latent_now + STEP, rtol=1e-4)
    np.testing.assert_allclose(found.p_now, now({"latent": found.latent_now[None]})["kl"][0], rtol=1e-5)
    # Every knee of the fake cohort rises by a grade: the later posterior is the present one, a grade up.
    np.testing.assert_allclose(found.p_12m[0][1:4], found.p_now[:3], rtol=1e-4)
    assert found.p_12m[0][0] == pytest.approx(0, abs=1e-6)
    assert found.p_12m[0][4] == pytest.approx(found.p_now[3] + found.p_now[4], rel=1e-4)
    np.testing.assert_allclose(found.landmarks_12m - found.landmarks_now, STEP, rtol=1e-3)


def test_a_sum_of_the_papers_takes_the_present_posterior_first():
    found = predict(crop())
    p, q = found.p_now.astype(float), found.p_12m[0].astype(float)
    expected = sum(p[i] * q[j] for i in range(5) for j in range(i + 1, 5))
    assert score(found, CALIBRATION).risk_12m_sum == pytest.approx(expected)
    assert expected != pytest.approx(sum(q[i] * p[j] for i in range(5) for j in range(i + 1, 5)))


def test_the_risk_is_given_the_readers_grade_where_there_is_one():
    image, read, top = (score(predict(crop(kl=kl)), CALIBRATION) for kl in (None, 2, 4))
    assert (image.risk_12m_basis, read.risk_12m_basis) == ("image", "grade")
    assert image.risk_12m == image.risk_12m_image == read.risk_12m_image
    moves = predict(crop()).moves[0]
    assert read.risk_12m == pytest.approx(float(CALIBRATION.given_grade(np.triu(moves, 1).sum(1), 2)))
    assert read.risk_12m != pytest.approx(read.risk_12m_image, abs=1e-3)
    assert top.risk_12m == 0
    assert image.risk_12m_lo is None


def test_the_interval_is_of_the_risk_itself():
    found = predict(crop(), ForecastSettings(2, samples=3))
    moves = np.tile(np.eye(5, dtype=np.float32), (3, 1, 1))
    for index, hazard in enumerate((0.1, 0.2, 0.3)):
        moves[index, 1, 1:3] = 1 - hazard, hazard
    for kl in (None, 1):
        ref = replace(found.crop.ref, kl_0m=kl)
        knee = replace(found, moves=moves, crop=replace(found.crop, ref=ref), p_now=np.eye(5)[1])
        risk = score(knee, CALIBRATION)
        each = [float(CALIBRATION.given_grade([0, h, 0, 0, 0], 1)) for h in (0.1, 0.2, 0.3)]
        low, high = np.percentile(each, (2.5, 97.5))
        assert (risk.risk_12m_lo, risk.risk_12m_hi) == (pytest.approx(low), pytest.approx(high))
        assert risk.risk_12m_lo < risk.risk_12m < risk.risk_12m_hi


def test_the_grade_now_is_the_mean_of_every_look():
    forward = ForwardPass(NETWORKS, grade_zooms=(1.0, 0.7))
    views = forward.views(crop().pixels)
    assert views.shape == (2, SIZE, SIZE)
    assert not np.allclose(views[0], views[1])
    each = [now({"latent": forward.encode(view[None])["latent"]})["kl"] for view in views]
    said = forward.forecast(views[None], ForecastSettings(1))
    np.testing.assert_allclose(said.p_now, mean_posterior(each), rtol=1e-5)
    assert not np.allclose(said.p_now, each[0], atol=1e-4)


def test_landmarks_of_upscaled_crops_are_mapped_back():
    """The fake's landmarks lie at (m, m) of what it saw: upscaled 2x that is half as far from the middle."""
    predictor = StackPredictor(ForwardPass(NETWORKS), ForecastSettings(1, upscale=True), crop_size=SIZE)
    one = crop()
    views = predictor.views(one)
    assert not np.allclose(views, StackPredictor(ForwardPass(NETWORKS), ForecastSettings(1)).views(one))
    (found,) = predictor.predict([one], [views])
    seen = points(encoder({"radiograph": views[:, None]})["latent"])[0, 0, 0]
    middle = (SIZE - 1) / 2
    assert found.landmarks_now[0, 0] == pytest.approx(middle + (seen - middle) / 2, abs=1e-4)
    larger = predict(crop(), crop_size=SIZE)
    assert larger.landmarks_now[0, 0] == pytest.approx(points(larger.latent_now[None])[0, 0, 0], abs=1e-4)


def test_upscaling_shows_the_middle_at_twice_the_size():
    from kneerisk.method.views import upscaled

    pixels = np.zeros((SIZE, SIZE), np.float32)
    pixels[6:10, 6:10] = 1
    assert upscaled(pixels).sum() == pytest.approx(4 * pixels.sum(), rel=0.05)


def test_a_network_that_gives_no_number_refuses_the_knee():
    broken = NETWORKS | {"unet": lambda a: {"velocity": np.full_like(a["noisy"], np.nan)}}
    broken["classifier_12m"] = lambda a: {
        "transition": np.full((len(a["latent"]), 5, 5), np.nan, np.float32),
        "landmarks": points(a["latent"]),
    }
    predictor = StackPredictor(ForwardPass(broken), ForecastSettings(1), crop_size=SIZE)
    (found,) = predictor.predict([crop()], [predictor.views(crop())])
    assert isinstance(found, Refusal)


@pytest.mark.parametrize("count", [1, 4, 5])
def test_batches_have_one_size_and_lose_nothing(count):
    sizes = []

    def double(arrays):
        sizes.append(len(arrays["x"]))
        return {"y": 2 * arrays["x"]}

    x = np.arange(count, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(run_in_batches(double, {"x": x}, 2)["y"], 2 * x)
    assert set(sizes) == {2}
    with pytest.raises(ValueError, match="one length"):
        run_in_batches(double, {"x": x, "z": x[:0]}, 2)
    with pytest.raises(ValueError, match="at least 1"):
        run_in_batches(double, {"x": x}, 0)


@pytest.mark.parametrize(("share", "expected"), [(1.01, 0), (0.99, 1), (1 / 1.52, 2), (1 / 1.48, 1)])
def test_novelty_is_flagged_in_two_strengths_and_never_refused(share, expected):
    forward = ForwardPass(NETWORKS, micro_batch=2)
    plain = StackPredictor(forward, ForecastSettings(2), crop_size=SIZE)
    (found,) = plain.predict([crop()], [plain.views(crop())])
    strict = with_threshold(forward, share * found.novelty)
    (flagged,) = strict.predict([crop()], [strict.views(crop())])
    assert isinstance(flagged, KneePrediction)
    assert flagged.crop.qc_flags == ("unusual-appearance", "very-unusual-appearance")[:expected]


def with_threshold(forward, threshold):
    return StackPredictor(forward, ForecastSettings(2), crop_size=SIZE, novelty_threshold=threshold)


def decoder(arrays):
    """Any picture will do that tells latents apart: the latent's first channel, as large as the crop."""
    return {
        "radiograph": np.clip(arrays["latent"][:, :1].repeat(SIZE // 2, 2).repeat(SIZE // 2, 3) / 120, 0, 1)
    }


@pytest.mark.parametrize("size", [SIZE, 2 * SIZE])
def test_a_picture_is_the_radiograph_and_what_the_first_future_changed(size):
    settings = ForecastSettings(2, samples=3)
    forward = ForwardPass(NETWORKS | {"decoder": decoder}, micro_batch=2)
    predictor = StackPredictor(forward, settings, crop_size=SIZE, keep_latents=True)
    crops = [crop(size, seed=seed) for seed in range(3)]
    apart = 9 * np.arange(3, dtype=np.float32)[:, None, None, None]
    predictions = [
        replace(found, latent_12m=found.latent_12m - apart)
        for found in predictor.predict(crops, [predictor.views(one) for one in crops])
    ]
    for one, found, picture in zip(crops, predictions, predictor.pictures(predictions), strict=True):
        now, later = (
            decoder({"latent": latent})["radiograph"][0, 0]
            for latent in (found.latent_now[None], found.latent_12m[:1])
        )
        np.testing.assert_allclose(picture.decoded, later, atol=1e-6)
        scale = SIZE / size
        points = [(points + 0.5) * scale - 0.5 for points in (found.landmarks_now, found.landmarks_12m)]
        expected = textured(predictor.views(one)[0], now, later, *points)
        np.testing.assert_allclose(picture.textured, expected, atol=1e-6)
        assert abs(picture.textured - later).max() > 0.1
    assert predictor.pictures([]) == []


def test_pictures_need_latents():
    forgetful = StackPredictor(ForwardPass(NETWORKS | {"decoder": decoder}), ForecastSettings(2))
    found = forgetful.predict([crop()], [forgetful.views(crop())])
    with pytest.raises(ValueError, match="keeps latents"):
        forgetful.pictures(found)


def test_landmarks_go_back_to_where_an_upscaled_network_saw_them():
    predictor = StackPredictor(
        ForwardPass(NETWORKS), ForecastSettings(2, upscale=True), crop_size=SIZE, keep_latents=True
    )
    points = np.random.default_rng(0).random((16, 2), np.float32) * SIZE
    there = predictor._from_crop(predictor._to_crop(points, crop()), crop())
    np.testing.assert_allclose(there, points, atol=1e-4)
