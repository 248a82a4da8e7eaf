"""Verification in clinical terms: what agrees passes, and each way to differ is named."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kneerisk_engines.plain import to_plain
from kneerisk_engines.runner import Runner
from kneerisk_engines.spec import Array

from kneerisk.compile.open import open_network, open_networks
from kneerisk.compile.verification import ChainAgreement, Limits, exceeded, verify
from kneerisk.radiograph.knees import find_knees
from kneerisk.radiograph.settings import InputSettings
from kneerisk.records import KneeCrop
from kneerisk.stack.stack import Stack

COHORT = Path(__file__).parents[2] / "examples" / "cohort"


class Bent(Runner):
    """A runner whose answers are changed on the way out."""

    def __init__(self, straight: Runner, bend: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
        super().__init__(straight.spec, "bent", straight.precision)
        self._straight, self._bend = straight, bend

    def _infer(self, arrays: dict[str, Array]) -> dict[str, Array]:
        return self._bend(self._straight.run(arrays))

    def _release(self) -> None: ...


@pytest.fixture(scope="module")
def crops() -> list[KneeCrop]:
    with open_network(Stack.load("compact"), "localiser") as network:
        return find_knees(InputSettings((COHORT,), id_from="folder"), network, most=3)


@pytest.fixture(scope="module")
def stack() -> Stack:
    return Stack.load("compact")


@pytest.fixture(scope="module")
def runners(stack: Stack) -> Iterator[dict[str, Runner]]:
    names = set(stack.description.components) - {"decoder", "localiser"}
    with open_networks(stack, names, "cpu", "fp32", threads=2) as opened:
        yield dict(opened)


def test_the_cohorts_first_knees_are_taken(crops: list[KneeCrop]) -> None:
    assert len(crops) == 3
    assert all(crop.pixels.shape == (224, 224) for crop in crops)


def test_the_same_networks_agree(stack: Stack, runners: dict[str, Runner], crops: list[KneeCrop]) -> None:
    same = verify(stack, runners, {name: Bent(r, dict) for name, r in runners.items()}, crops, batches=(2,))
    assert same.passed
    assert same.chain.steps == stack.description.steps
    assert same.chain.risk_max == 0
    assert same.chain.rank_correlation == pytest.approx(1)
    assert {parity.component for parity in same.components} == set(runners)
    assert same.candidate.startswith("bent")


@pytest.mark.parametrize(
    ("component", "bend", "said"),
    [
        ("classifier_12m", lambda out: out | {"transition": out["transition"] ** 0.5}, "risk_p99"),
        ("classifier_now", lambda out: out | {"landmarks": out["landmarks"] + 3}, "landmark_p99_px"),
        ("encoder", lambda out: out | {"latent": out["latent"][:, :, ::-1].copy()}, "codes_changed"),
        ("unet", lambda out: {"velocity": np.full_like(out["velocity"], np.nan)}, "not finite"),
    ],
)
def test_a_component_that_answers_otherwise_is_named(
    stack: Stack,
    runners: dict[str, Runner],
    crops: list[KneeCrop],
    component: str,
    bend: Callable[[dict[str, Array]], dict[str, Array]],
    said: str,
) -> None:
    candidate = {**runners, component: Bent(runners[component], bend)}
    report = verify(stack, runners, candidate, crops, batches=(1,))
    assert not report.passed
    assert any(said in failure for failure in report.failures)
    assert to_plain(report)["failures"] == list(report.failures)


def test_verifying_wants_knees(stack: Stack, runners: dict[str, Runner]) -> None:
    with pytest.raises(ValueError, match="at least one knee"):
        verify(stack, runners, runners, [])


def test_limits_are_the_least_that_fails() -> None:
    fine = ChainAgreement(8, 10, 0.0, 0.01, 0.03, 0.1, 0.01, 0.02, 1.0, 0.995, 0)
    assert exceeded(fine, Limits()) == []
    for name, worse in (("risk_p99", 0.011), ("grades_changed", 0.02), ("rank_correlation", 0.9)):
        assert len(exceeded(replace(fine, **{name: worse}), Limits())) == 1
    assert exceeded(replace(fine, risk_p99=float("nan")), Limits()) != []
    assert exceeded(replace(fine, rank_correlation=None), Limits()) == []
