"""Who rises, how far, and which latents stand for now and later: the pairs that the forecast learns from."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kneerisk_train.data.equations import hazards, image_risk, load_equations, moves_of, to_rates
from kneerisk_train.data.knees import Knees
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.stages import surrogate
from kneerisk_train.stages.coding import CodedKnees, see, view_rng
from kneerisk_train.stages.futures import SurrogateFutures, VisitFutures, embed
from kneerisk_train.stages.surrogate import Surrogates

from kneerisk.errors import UsageError
from kneerisk.models.classifier import Classifier, ClassifierConfig
from kneerisk.models.vqvae import ProductQuantiser

RATES = np.array(
    [
        [0.96, 0.03, 0.01, 0, 0],
        [0, 0.9, 0.08, 0.02, 0],
        [0, 0, 0.93, 0.06, 0.01],
        [0, 0, 0, 0.92, 0.08],
        [0, 0, 0, 0, 1],
    ]
)
COUNT = 50


def knees(grade, size=8):
    count = len(grade)
    return Knees(
        participant=np.array([f"P{n // 2}" for n in range(count)]),
        side=np.array(["R", "L"] * (count // 2)),
        month=np.zeros(count, np.int32),
        pixels=np.random.default_rng(0).integers(0, 256, (count, size, size), dtype=np.uint8),
        grade=np.asarray(grade),
        landmarks=np.full((count, 16, 2), np.nan, np.float32),
        spacing=np.ones((count, 2), np.float32),
    )


def coded(grade, views=2):
    """Each knee's code is its row; each view adds a hundred."""
    codes = np.arange(len(grade))[:, None, None, None, None] + 100 * np.arange(views)[:, None, None, None]
    shape = (len(grade), views, 1, 2, 2)
    marks = np.full((len(grade), views, 16, 2), np.nan, np.float32)
    return CodedKnees(np.broadcast_to(codes, shape).astype(np.int16), np.asarray(grade), marks)


CODEBOOK = np.random.default_rng(7).normal(size=(1, 300, 2)).astype(np.float32)
STEPS = np.arange(1, 5, dtype=np.float32)[:, None, None, None] * np.ones((4, 2, 2, 2), np.float32)


def surrogates(grade):
    """A step from grade g adds g + 1 everywhere."""
    moves = moves_of(np.full((len(grade), 5), [0.1, 0.2, 0.2, 0.3, 0.0]), RATES)
    made = Surrogates(np.full((len(grade), 5), 0.2), moves, STEPS)
    return SurrogateFutures(coded(grade), CODEBOOK, made, np.full(len(grade), 1 / len(grade)))


def rows_of(latents):
    """Which codes latents are of."""
    apart = np.square(latents[:, None, :, 0, 0] - CODEBOOK[0][None]).sum(axis=2)
    return apart.argmin(axis=1)


def test_codes_become_latents_codebook_by_codebook():
    codebook = np.arange(12, dtype=np.float32).reshape(2, 3, 2)
    codes = np.array([[[[0, 1]], [[2, 0]]]])
    np.testing.assert_array_equal(embed(codebook, codes), [[[[0, 2]], [[1, 3]], [[10, 6]], [[11, 7]]]])
    quantiser = ProductQuantiser(2, 3, 2)
    quantiser.codebook.copy_(torch.from_numpy(codebook))
    np.testing.assert_array_equal(embed(codebook, codes), quantiser.embed(torch.from_numpy(codes)).numpy())


def test_a_surrogate_lies_ahead_of_its_own_present_along_its_grades_step():
    grade = np.arange(COUNT) % 5
    futures = surrogates(grade)
    drawn = futures.draw(np.random.default_rng(1), 20_000)
    code = rows_of(drawn.current)
    assert set(code // 100) == {0, 1}  # both views
    start = grade[code % 100]
    change = drawn.future - drawn.current
    np.testing.assert_allclose(change, np.broadcast_to(change[:, :1, :1, :1], change.shape), atol=1e-5)
    change = change[:, 0, 0, 0]
    assert (change >= 0).all()  # no knee heals
    assert (change[start == 4] == 0).all()
    for now, mean in enumerate(futures.made.progress(np.arange(5))[:4]):
        far = change[start == now] / (now + 1)
        assert far.mean() == pytest.approx(mean, rel=0.06)
        assert far.std() == pytest.approx(mean, rel=0.1)  # of an exponential


def test_progress_is_the_mean_rise_in_grades():
    moves = moves_of(np.full((5, 5), [0.1, 0.2, 0.2, 0.3, 0.0]), RATES)
    found = Surrogates(np.full((5, 5), 0.2), moves, STEPS).progress(np.arange(5))
    np.testing.assert_allclose(found, [0.1 * 1.25, 0.2 * 1.2, 0.2 * 8 / 7, 0.3, 0])


def test_a_step_is_what_tells_two_knees_of_one_person_apart():
    """Latents = a person's own part, a side's own part and the sum of the steps up to the knee's grade."""
    rng = np.random.default_rng(0)
    people, shape = 4000, (2, 3, 3)
    truth = rng.normal(size=(4, *shape))
    grade = rng.integers(0, 5, 2 * people)
    # The grades' means mislead: a person's own part goes with the grade of both knees.
    person = rng.normal(size=(people, *shape)) + grade.reshape(-1, 2).mean(1)[:, None, None, None]
    height = np.concatenate([np.zeros((1, *shape)), truth.cumsum(0)])
    side = np.where(np.arange(2 * people) % 2, 0.7, 0.0)[:, None, None, None]
    latents = (np.repeat(person, 2, axis=0) + height[grade] + side).astype(np.float32)
    found = surrogate.steps_of(latents, knees(grade))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, truth, atol=0.2)


def test_what_tells_left_from_right_is_no_step():
    """Four in five left knees are a grade ahead of their right ones; left latents lie 0.7 higher anyway."""
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 20_000)
    left = right + (rng.random(20_000) < 0.8)
    grade = np.stack([right, left], axis=1).ravel()
    side = np.where(np.arange(len(grade)) % 2, 0.7, 0.0)
    latents = (2.0 * grade + side)[:, None, None, None].astype(np.float32)
    np.testing.assert_allclose(surrogate.steps_of(latents, knees(grade))[:, 0, 0, 0], 2.0, atol=0.05)


def test_steps_without_two_knees_of_anyone_are_the_grades_means():
    grade = np.array([0, 1, 1, 3])
    population = knees(grade)
    population.participant[:] = list("abcd")
    latents = np.array([1.0, 2.0, 4.0, 9.0], np.float32)[:, None, None, None]
    found = surrogate.steps_of(latents, population)[:, 0, 0, 0]
    np.testing.assert_allclose(found, [2, 0, 6, 0], atol=1e-5)  # nobody has KL 2 or 4


class Ruler(Classifier):
    """Reads off a latent's mean how many grades it is worth: one a unit, none above KL 4."""

    def forward(self, latent):
        worth = latent.mean(dim=(1, 2, 3)).clamp(0, 4)
        p = torch.zeros(len(latent), 5)
        for row, value in enumerate(worth):
            low = min(int(value), 3)
            p[row, low], p[row, low + 1] = low + 1 - value, value - low
        return p, torch.zeros(len(latent), 16, 2)


def test_a_step_is_stretched_until_the_classifier_reads_a_grade_in_it():
    grade = np.repeat(np.arange(5), 4)
    latents = torch.from_numpy(grade)[:, None, None, None].float().expand(-1, 8, 4, 4) + 0.2
    length = np.array([0.5, 0.25, 2.0, 0.01], np.float32)
    steps = np.broadcast_to(length[:, None, None, None], (4, 8, 4, 4)).copy()
    found = surrogate.stretch_of(Ruler(ClassifierConfig()), latents, grade, steps, seed=0)
    np.testing.assert_allclose(found, [2, 4, 1, 10], rtol=1e-3)
    # A classifier that reads a fall in it has not learnt to read: as far as is allowed, never backwards.
    assert (
        surrogate.stretch_of(Ruler(ClassifierConfig()), latents, grade, -steps, seed=0).tolist() == [10] * 4
    )


def test_surrogates_go_the_stretched_step(monkeypatch):
    """Latents of half a unit a grade, read as one grade a unit: each step must be twice as long."""
    grade = np.arange(COUNT) % 5
    quantiser = ProductQuantiser(1, 5, 8)
    quantiser.codebook.copy_(0.5 * torch.arange(5.0)[None, :, None].expand(1, 5, 8) + 0.1)
    codes = np.broadcast_to(grade[:, None, None, None, None], (COUNT, 1, 1, 4, 4)).astype(np.int16)
    marks = np.full((COUNT, 1, 16, 2), np.nan, np.float32)
    module = SimpleNamespace(encoder=SimpleNamespace(quantiser=quantiser))
    session = SimpleNamespace(
        data=SimpleNamespace(rates=SimpleNamespace(moves=RATES)),
        recipe=SimpleNamespace(seed=0),
        device="cpu",
        equations=None,
    )
    ruler = Ruler(ClassifierConfig())
    monkeypatch.setattr(surrogate, "fitted_classifier", lambda *_: ruler)
    made = surrogate.make_surrogates(module, knees(grade), CodedKnees(codes, grade, marks), session)
    np.testing.assert_allclose(made.steps, 1.0, rtol=0.02)
    assert made.moves.shape == (COUNT, 5, 5) and made.posterior.shape == (COUNT, 5)


def test_visits_teach_the_row_of_the_grade_now():
    grade = np.array([1, 2, 3, 2, 0, 0])
    pairs = VisitPairs(np.array([0, 2, 4]), np.array([1, 3, 5]), np.full(3, 12), np.full(3, 12))
    futures = VisitFutures(coded(grade), CODEBOOK, pairs, np.full(3, 1 / 3))
    lessons = futures.lessons()
    assert lessons.knee.tolist() == [0, 2, 4]
    assert lessons.weight.argmax(axis=1).tolist() == [1, 3, 0]
    assert (lessons.weight.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(lessons.moves[0, 1], np.eye(5)[2])  # rose
    np.testing.assert_array_equal(lessons.moves[1, 3], np.eye(5)[3])  # read lower: counts as a stay
    drawn = futures.draw(np.random.default_rng(0), 100)
    now, later = rows_of(drawn.current), rows_of(drawn.future)
    assert set(zip(now % 100, later % 100, strict=True)) == {(0, 1), (2, 3), (4, 5)}
    assert (now // 100 == later // 100).all()  # both visits in one view


def test_a_surrogates_lesson_is_its_equations_distribution():
    grade = np.arange(COUNT) % 5
    futures = surrogates(grade)
    lessons = futures.lessons()
    np.testing.assert_allclose(lessons.moves, futures.made.moves)
    assert (lessons.weight.argmax(axis=1) == grade).all()
    assert (lessons.weight > 0).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31))
def test_chances_are_scaled_to_a_populations_rates_in_their_order(seed):
    rng = np.random.default_rng(seed)
    grade = np.arange(200) % 5
    chances = rng.uniform(0, 0.4, (200, 5))
    target = np.triu(RATES, 1).sum(1)
    scaled = to_rates(chances, grade, target)
    for now in range(4):
        own = grade == now
        assert scaled[own, now].mean() == pytest.approx(target[now], rel=1e-3)
        order = np.argsort(chances[own, now])
        assert (np.diff(scaled[own, now][order]) >= 0).all()


def test_moves_are_distributions_that_never_fall():
    chances = np.random.default_rng(0).uniform(0, 0.5, (7, 5))
    chances[:, 4] = 0
    moves = moves_of(chances, RATES)
    np.testing.assert_allclose(moves.sum(axis=2), 1)
    assert (np.tril(moves, -1) == 0).all()
    np.testing.assert_allclose(np.triu(moves, 1).sum(axis=2), chances)
    np.testing.assert_allclose(moves[:, 1, 3] / moves[:, 1, 2], 0.25)


def test_the_shipped_equations_take_grade_image_and_other_knee():
    """Written out from the numbers of outcomes.json, any rise within 12 months."""
    grade = [1, 2, 0, 0]
    population = knees(grade)
    population.participant[:] = ["a", "a", "b", "c"]
    p = np.array([[0.3, 0.4, 0.2, 0.1, 0.0], *np.full((3, 5), 0.2)])
    found = hazards(load_equations(), population, p)
    above = np.log(0.3 / 0.7)
    with_other = -1.9752 + 0.2631 + 0.5658 * above - 0.6529 * (1.1 - 1) + 0.0467 * 2 + 0.4458
    assert found[0, 1] == pytest.approx(1 / (1 + np.exp(-with_other)), rel=1e-3)
    alone = -1.7427 - 0.9875 + 0.542 * np.log(0.8 / 0.2) - 0.4978 * 2
    assert found[2, 0] == pytest.approx(1 / (1 + np.exp(-alone)), rel=1e-3)
    assert (found[:, 4] == 0).all()
    assert image_risk(load_equations(), p).shape == (4,)


def test_equations_of_ones_own_are_read_or_refused(tmp_path):
    shipped = load_equations()
    path = tmp_path / "own.json"
    path.write_text(json.dumps(shipped.to_json()), encoding="utf-8")
    assert load_equations(path) == shipped
    with pytest.raises(UsageError, match="absent"):
        load_equations(tmp_path / "absent.json")


def test_the_first_view_is_the_crop_as_scoring_sees_it():
    population = knees([0, 1], size=64)
    rng = view_rng(0, population, 0, 1)
    plain = see(population.pixels[0], population.landmarks[0], rng, 0)
    assert plain.mean() == pytest.approx(0.5, abs=1e-3)
    order = np.argsort(population.pixels[0].ravel(), kind="stable")
    assert (np.diff(plain.ravel()[order]) >= 0).all()
    other = see(population.pixels[0], population.landmarks[0], view_rng(0, population, 0, 1), 1)
    assert not np.allclose(plain, other)
    # Both members of a pair are seen through one draw: the same crop gives the same view.
    again = see(population.pixels[0], population.landmarks[0], view_rng(0, population, 0, 1), 1)
    np.testing.assert_array_equal(other, again)
