"""Who rises, how far, and which latents stand for now and later: the pairs that the forecast learns from."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kneerisk_train.data.equations import hazards, image_risk, load_equations, moves_of, to_rates
from kneerisk_train.data.knees import Knees
from kneerisk_train.prepare.pairs import VisitPairs
from kneerisk_train.stages import surrogate
from kneerisk_train.stages.coding import CodedKnees, see, view_rng
from kneerisk_train.stages.futures import SurrogateFutures, VisitFutures
from kneerisk_train.stages.surrogate import Surrogates

from kneerisk.errors import UsageError

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


def surrogates(grade, rises=400):
    moves = moves_of(np.full((len(grade), 5), [0.1, 0.2, 0.2, 0.3, 0.0]), RATES)
    weight = np.full(len(grade), 1 / len(grade))
    rng = np.random.default_rng(0)
    rising, wanted = surrogate.draw_rises(moves, np.asarray(grade), weight, rises, rng)
    view = rng.integers(0, 2, len(rising))
    risen = np.broadcast_to((1000 + wanted)[:, None, None, None], (len(rising), 1, 2, 2)).astype(np.int16)
    posterior = np.full((len(grade), 5), 0.2)
    made = Surrogates(posterior, moves, risen, rising, view, wanted)
    return SurrogateFutures(coded(grade), made, weight)


def test_the_present_comes_first_and_a_knee_that_stays_is_its_very_latent():
    grade = np.arange(COUNT) % 5
    drawn = surrogates(grade).draw(np.random.default_rng(1), 4000)
    now, later = drawn.current[:, 0, 0, 0], drawn.future[:, 0, 0, 0]
    assert (now < 1000).all()  # a present latent is never a risen one
    rose = later >= 1000
    np.testing.assert_array_equal(now[~rose], later[~rose])
    # A knee that rises has the codes of a higher grade, in the view of the present one.
    assert (later[rose] - 1000 > grade[now[rose] % 100]).all()


def test_knees_rise_as_often_as_their_chances_say_and_none_from_the_highest_grade():
    grade = np.arange(COUNT) % 5
    futures = surrogates(grade, 4000)
    drawn = futures.draw(np.random.default_rng(1), 40_000)
    start = grade[drawn.current[:, 0, 0, 0] % 100]
    rose = drawn.future[:, 0, 0, 0] >= 1000
    assert rose.mean() == pytest.approx(0.5, abs=0.01)
    assert drawn.weight.mean() == pytest.approx(1, abs=0.02)
    for now, chance in enumerate((0.1, 0.2, 0.2, 0.3, 0.0)):
        own = start == now
        assert np.average(rose[own], weights=drawn.weight[own]) == pytest.approx(chance, abs=0.02)


def test_rises_go_as_far_as_the_rates_say():
    grade = np.zeros(COUNT, int)
    grade[:5] = range(5)
    moves = moves_of(np.full((COUNT, 5), [0.1, 0, 0, 0, 0.0]), RATES)
    rising, wanted = surrogate.draw_rises(moves, grade, np.full(COUNT, 0.02), 4000, np.random.default_rng(0))
    assert (grade[rising] == 0).all()
    assert (wanted == 1).mean() == pytest.approx(0.75, abs=0.03)
    assert (wanted == 2).mean() == pytest.approx(0.25, abs=0.03)
    none, _ = surrogate.draw_rises(
        moves, np.full(COUNT, 4), np.full(COUNT, 0.02), 9, np.random.default_rng(0)
    )
    assert len(none) == 0


def test_visits_teach_the_row_of_the_grade_now():
    grade = np.array([1, 2, 3, 2, 0, 0])
    pairs = VisitPairs(np.array([0, 2, 4]), np.array([1, 3, 5]), np.full(3, 12), np.full(3, 12))
    futures = VisitFutures(coded(grade), pairs, np.full(3, 1 / 3))
    lessons = futures.lessons()
    assert lessons.knee.tolist() == [0, 2, 4]
    assert lessons.weight.argmax(axis=1).tolist() == [1, 3, 0]
    assert (lessons.weight.sum(axis=1) == 1).all()
    np.testing.assert_array_equal(lessons.moves[0, 1], np.eye(5)[2])  # rose
    np.testing.assert_array_equal(lessons.moves[1, 3], np.eye(5)[3])  # read lower: counts as a stay
    drawn = futures.draw(np.random.default_rng(0), 100)
    assert set(zip(drawn.current[:, 0, 0, 0] % 100, drawn.future[:, 0, 0, 0] % 100, strict=True)) == {
        (0, 1), (2, 3), (4, 5),
    }  # fmt: skip


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
