"""Splits that hold, pairs within them, rates that are counted."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kneerisk_train.data import splits
from kneerisk_train.data.data import counted_rates, open_data
from kneerisk_train.data.splits import SplitConfig

from kneerisk.errors import UsageError
from kneerisk.simulate.rates import KL_TRANSITIONS

from .conftest import write_cohort


def manifest(people, split=None, site=None):
    return pl.DataFrame(
        {
            "participant_id": people,
            "split": split or [None] * len(people),
            "site": site or [None] * len(people),
        },
        schema={"participant_id": pl.String, "split": pl.String, "site": pl.String},
    )


PEOPLE = [f"P{n:03}" for n in range(200)]


@given(st.integers(0, 1000))
def test_a_participants_split_does_not_depend_on_the_others(seed):
    config = SplitConfig(seed=seed)
    whole = splits.assign(manifest(PEOPLE), config)
    half = splits.assign(manifest(PEOPLE[::2]), config)
    assert {person: whole[person] for person in half} == half
    shares = [list(whole.values()).count(split) / len(PEOPLE) for split in splits.SPLITS]
    assert shares[0] == pytest.approx(0.7, abs=0.13)
    assert min(shares) > 0


def test_sites_stay_together_and_named_ones_are_for_the_test():
    sites = ["ABCDEFGH"[n % 8] for n in range(len(PEOPLE))]
    grouped = splits.assign(manifest(PEOPLE, site=sites), SplitConfig(seed=3, val=0.3, group="site"))
    by_site = {
        site: {grouped[p] for p, s in zip(PEOPLE, sites, strict=True) if s == site} for site in "ABCDEFGH"
    }
    assert all(len(found) == 1 for found in by_site.values())
    held = splits.assign(manifest(PEOPLE, site=sites), SplitConfig(test_sites=("C",)))
    assert {held[p] for p, s in zip(PEOPLE, sites, strict=True) if s == "C"} == {"test"}


def test_a_participant_in_two_splits_is_named():
    table = manifest(["a", "a", "b"], split=["train", "val", "val"])
    with pytest.raises(UsageError, match="participant a is in two splits"):
        splits.assign(table, SplitConfig())


def test_splits_that_a_manifest_names_are_taken_or_found_wanting():
    named = splits.assign(manifest(["a", "b"], split=["train", "val"]), SplitConfig())
    assert named == {"a": "train", "b": "val"}
    with pytest.raises(UsageError, match=r"b .*has no split though others have"):
        splits.assign(manifest(["a", "b"], split=["train", None]), SplitConfig())
    with pytest.raises(UsageError, match="split 'dev'"):
        splits.assign(manifest(["a"], split=["dev"]), SplitConfig())
    with pytest.raises(UsageError, match="nobody of 1 participants"):
        splits.assign(manifest(["a"], split=["train"]), SplitConfig())


def test_a_run_keeps_the_splits_it_began_with(tmp_path):
    first = splits.keep({"a": "train", "b": "val"}, tmp_path)
    assert splits.keep({"b": "val", "a": "train"}, tmp_path) == first
    with pytest.raises(UsageError, match="keeps the splits it began with"):
        splits.keep({"a": "val", "b": "train"}, tmp_path)


def test_knees_and_pairs_fall_into_their_participants_split(cohort, tmp_path):
    data = open_data(cohort, SplitConfig(val=0.3), 96, tmp_path)
    seen = [set(knees.participant) for knees in data.knees.values()]
    assert sum(len(people) for people in seen) == len(set.union(*seen)) == 90
    for split, pairs in data.pairs.items():
        knees = data.knees[split]
        assert (knees.participant[pairs.current] == knees.participant[pairs.future]).all()
        assert (knees.side[pairs.current] == knees.side[pairs.future]).all()
        assert (knees.month[pairs.future] - knees.month[pairs.current] == 12).all()
    assert sum(len(pairs.current) for pairs in data.pairs.values()) == 180
    assert data.has_futures


def test_crops_come_at_the_size_asked_for_with_their_landmarks(cohort, tmp_path):
    small = open_data(cohort, SplitConfig(val=0.3), 96, tmp_path / "a").knees["train"]
    large = open_data(cohort, SplitConfig(val=0.3), 192, tmp_path / "b").knees["train"]
    assert large.pixels.shape[1:] == (192, 192)
    np.testing.assert_allclose(large.landmarks + 0.5, 2 * (small.landmarks + 0.5), rtol=1e-5)
    np.testing.assert_allclose(large.spacing, small.spacing / 2)


def test_a_cohort_without_second_visits_takes_the_oais_rates(tmp_path):
    single = write_cohort(tmp_path / "prepared", months=(0,), participants=20)
    data = open_data(single, SplitConfig(val=0.3), 96, tmp_path / "run")
    assert not data.has_futures
    np.testing.assert_array_equal(data.rates.moves, np.array(KL_TRANSITIONS[12]))
    assert "Osteoarthritis Initiative" in data.rates.population


def test_rates_are_counted_and_falls_are_none():
    now = np.repeat(np.arange(5), 100)
    later = now.copy()
    later[:10], later[105:110], later[150:153] = 1, 0, 2
    rates = counted_rates(now, later)
    assert rates is not None
    np.testing.assert_allclose(rates.sum(axis=1), 1)
    assert rates[0, 1] == pytest.approx(0.1, abs=0.003)
    assert rates[1, 0] == 0
    assert rates[1, 1] == pytest.approx(0.97, abs=0.003)
    assert (np.diag(rates, 1) > 0).all()
    assert counted_rates(now[:50], later[:50]) is None
