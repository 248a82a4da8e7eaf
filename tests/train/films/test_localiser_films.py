"""The localiser's films and answers: where a knee is drawn, and what the network is told of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from kneerisk_train.data.knees import Knees
from kneerisk_train.films.composites import render
from kneerisk_train.films.samples import Mixture, Samples, draw_batch, render_samples, targets
from kneerisk_train.films.simulated import simulated_film
from kneerisk_train.stages.localiser import localiser_loss

SIZE = 128


@pytest.fixture(scope="module")
def knees() -> Knees:
    """Four crops with a bright bar where the joint lies, of two participants."""
    pixels = np.full((4, 224, 224), 90, np.uint8)
    pixels[:, 118:134, 18:204] = 250
    return Knees(
        participant=np.array(["1", "1", "2", "2"]),
        side=np.array(["R", "L", "R", "L"]),
        month=np.zeros(4, np.int32),
        pixels=pixels,
        grade=np.array([0, 1, 2, 4]),
        landmarks=np.full((4, 16, 2), np.nan, np.float32),
        spacing=np.full((4, 2), 0.43, np.float32),
    )


@pytest.mark.parametrize(("kind", "most"), [("both", 2), ("single", 1), ("crop", 1), ("none", 0)])
def test_films_hold_the_knees_that_they_list(knees: Knees, kind: str, most: int) -> None:
    for seed in range(8):
        film = render(knees, np.random.default_rng(seed), kind, SIZE)
        assert film.pixels.shape == (SIZE, SIZE) and film.pixels.dtype == np.float32
        assert film.pixels.min() >= 0 and film.pixels.max() <= 1
        assert len(film.knees) <= most
        for x, y, width, side, _ in film.knees:
            assert 0 <= x < SIZE and 0 <= y < SIZE and 5 < width < 1.3 * SIZE and side in (0, 1)


def test_on_bilateral_films_the_image_left_is_the_right_knee(knees: Knees) -> None:
    pairs = [render(knees, np.random.default_rng(seed), "both", SIZE).knees for seed in range(12)]
    assert any(len(pair) == 2 for pair in pairs)
    for pair in pairs:
        assert [knee[3] for knee in sorted(pair)] in ([0, 1], [0], [1], [])


def test_a_seed_renders_the_same_film(knees: Knees) -> None:
    one, same, other = (render(knees, np.random.default_rng(s), "both", SIZE) for s in (3, 3, 4))
    np.testing.assert_array_equal(one.pixels, same.pixels)
    assert one.knees == same.knees and not np.array_equal(one.pixels, other.pixels)


def test_simulated_films_list_their_knees() -> None:
    film = simulated_film(np.random.default_rng(1), SIZE)
    assert film.pixels.shape == (SIZE, SIZE) and 1 <= len(film.knees) <= 2


def test_rendered_samples_are_kept_for_the_next_sitting(knees: Knees, tmp_path: Path) -> None:
    mixture = Mixture(simulated=0.0)
    cache = tmp_path / "films.npz"
    first = render_samples(knees, mixture, 4, 0, SIZE, cache, "four films")
    assert cache.exists()
    kept = render_samples(knees, mixture, 4, 0, SIZE, cache, "four films")
    np.testing.assert_array_equal(first.pixels, kept.pixels)
    np.testing.assert_array_equal(first.knees, kept.knees)
    assert len(render_samples(knees, mixture, 3, 0, SIZE, cache, "three films").pixels) == 3


def test_mirrored_looks_swap_the_side_and_reversed_ones_say_so() -> None:
    pixels = np.zeros((1, SIZE, SIZE), np.uint8)
    pixels[0, 20:100, :64] = 200
    pixels[0, 20:100, 64:] = 50
    answers = np.full((1, 2, 5), np.nan, np.float32)
    answers[0, 0] = (30, 60, 40, 0, 0)
    radiographs, knees, inverted = draw_batch(Samples(pixels, answers), np.random.default_rng(0), 64)
    mirrored = knees[:, 0, 3] == 1
    assert mirrored.any() and (~mirrored).any() and inverted.any()
    np.testing.assert_allclose(knees[:, 0, 0].numpy(), np.where(mirrored, SIZE - 1 - 30, 30))
    brighter_left = radiographs[:, 0, 60, 10] > radiographs[:, 0, 60, 120]
    np.testing.assert_array_equal(brighter_left.numpy(), ~(mirrored.numpy() ^ (inverted.numpy() > 0)))
    assert (radiographs[:, 0, 0] == 0).all()


def test_targets_peak_at_the_joint_in_the_channel_of_its_side() -> None:
    knees = torch.full((1, 2, 5), torch.nan)
    knees[0, 0] = torch.tensor([41.5, 81.5, 64.0, 1.0, 1.0])
    heat, near, width, implant = targets(knees, 64, 256)
    assert heat.shape == (1, 2, 64, 64) and (heat[0, 0] == 0).all()
    assert divmod(int(heat[0, 1].argmax()), 64) == (20, 10)
    assert near[0, 0, 20, 10] == 1 and near[0, 0, 0, 0] == 0
    assert torch.allclose(width[0, 0, 20, 10].exp(), torch.tensor(0.25)) and implant[0, 0, 20, 10] == 1


def test_the_loss_is_least_where_the_answer_is_right() -> None:
    knees = torch.full((1, 2, 5), torch.nan)
    knees[0, 0] = torch.tensor([41.5, 81.5, 64.0, 0.0, 0.0])
    heat, _, width, implant = targets(knees, 64, 256)
    right = torch.cat([torch.logit(heat.clamp(1e-4, 1 - 1e-4)), width, 20 * (implant - 0.5)], dim=1)
    none = torch.tensor([-9.0])
    best = localiser_loss(right, none, knees, torch.zeros(1), 256)
    for wrong in (right.flip(3), right[:, [1, 0, 2, 3]]):
        assert localiser_loss(wrong, none, knees, torch.zeros(1), 256)["peaks"] > 2 * best["peaks"]
    worse = localiser_loss(
        right + torch.tensor([0.0, 0, 1, 20]).reshape(1, 4, 1, 1), -none, knees, torch.zeros(1), 256
    )
    assert all(worse[name] > best[name] + 0.1 for name in ("width", "implant", "inverted"))
