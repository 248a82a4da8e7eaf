"""The schedule's identities, the sampler against closed forms, and noise that belongs to its knee."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kneerisk.method.diffusion import alpha_sigma, diffuse, draw_noise, sample, sampling_times


@given(st.floats(0, 1), st.integers(0, 2**31))
def test_the_clean_latent_and_the_noise_come_back_from_z_t_and_v(t, seed):
    rng = np.random.default_rng(seed)
    latent, noise = rng.standard_normal((2, 3, 4))
    alpha, sigma = alpha_sigma(t)
    noisy, v = diffuse(latent, noise, alpha, sigma)
    assert alpha**2 + sigma**2 == pytest.approx(1)
    np.testing.assert_allclose(alpha * noisy - sigma * v, latent, atol=1e-12)
    np.testing.assert_allclose(sigma * noisy + alpha * v, noise, atol=1e-12)


def gaussian_velocity(mean: float, spread: float):
    """The exact v of data ~ N(mean, spread²): its posterior mean is linear in z_t."""

    def velocity(state, current, time):
        alpha, sigma = alpha_sigma(float(time[0]))
        gain = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        clean = mean + gain * (state - alpha * mean)
        noise = (state - alpha * clean) / sigma
        return (alpha * noise - sigma * clean).astype(np.float32)

    return velocity


def exact_endpoint(noise, mean, spread):
    """Where the probability flow takes noise when the data are Gaussian: a matching of quantiles."""
    return mean + spread * noise


def test_the_sampler_converges_to_the_exact_flow_of_gaussian_data():
    noise = np.linspace(-2, 2, 41, dtype=np.float32).reshape(1, 1, 1, 41)

    def error(steps):
        result = sample(gaussian_velocity(0.7, 0.5), np.zeros_like(noise), noise, steps)
        return float(np.abs(result - exact_endpoint(noise, 0.7, 0.5)).max())

    assert error(40) < 0.01
    # Of second order: twice the steps, (nearly) four times as close.
    assert error(80) < error(40) / 3
    assert error(160) < error(80) / 3


@given(st.integers(1, 200))
def test_times_fall_from_noise_to_data(steps):
    times = sampling_times(steps)
    assert len(times) == steps + 1
    assert (times[0], times[-1]) == (1.0, 0.0)
    assert (np.diff(times) < 0).all()


def test_no_step_is_long_where_there_are_many():
    assert max(-np.diff(sampling_times(100))) < 0.02


def test_one_step_gives_the_mean_forecast():
    noise = np.ones((2, 1, 2, 2), np.float32)
    result = sample(gaussian_velocity(0.7, 0.5), np.zeros_like(noise), noise, 1)
    np.testing.assert_allclose(result, 0.7, atol=1e-6)


def test_the_current_latent_reaches_the_network_at_every_step():
    seen = []

    def velocity(state, current, time):
        seen.append((current.copy(), float(time[0])))
        return np.zeros_like(state)

    current = np.full((1, 1, 2, 2), 3.0, np.float32)
    sample(velocity, current, np.zeros_like(current), 4)
    np.testing.assert_allclose([time for _, time in seen], sampling_times(4)[:-1], rtol=1e-6)
    assert all((c == 3.0).all() for c, _ in seen)


@pytest.mark.parametrize("steps", [0, -3])
def test_no_steps_are_refused(steps):
    with pytest.raises(ValueError, match=str(steps)):
        sample(gaussian_velocity(0, 1), np.zeros((1, 1, 1, 1)), np.zeros((1, 1, 1, 1)), steps)


def test_shapes_that_differ_are_refused():
    with pytest.raises(ValueError, match="noise"):
        sample(gaussian_velocity(0, 1), np.zeros((1, 1, 1, 1)), np.zeros((2, 1, 1, 1)), 3)


@given(st.integers(0, 2**40), st.integers(1, 4))
def test_noise_belongs_to_the_seed_and_the_sample(seed, samples):
    noise = draw_noise(seed, samples, (2, 3, 3))
    np.testing.assert_array_equal(noise, draw_noise(seed, 5, (2, 3, 3))[:samples])
    assert not np.array_equal(noise, draw_noise(seed + 1, samples, (2, 3, 3)))


def test_noise_is_standard_normal():
    noise = draw_noise(0, 8, (8, 28, 28))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert not np.array_equal(noise[0], noise[1])
